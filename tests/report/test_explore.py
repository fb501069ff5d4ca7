"""Which rows a report's page lets a reader look through, what it holds of them, and how small it stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import chat
from hypothesis import given
from hypothesis import strategies as st
from scored import write_scores

from saefilter.filtering.filter import filter_file
from saefilter.filtering.job import candidates_of
from saefilter.report.explore import Explorer, Outcome, explorer_of
from saefilter.report.explore_cut import between, curve_of
from saefilter.report.explore_text import CUT, cut_row, facets_of, level
from saefilter.rows.inputs import open_input
from saefilter.rows.read import Source
from saefilter.select.ranking import Ranked, Ranking
from saefilter.select.strategies import Selection, choose

N_ROWS = 60


def explored(
    tmp_path: Path, rows: list[dict[str, Any]], written: str = "out.jsonl", **how: Any
) -> tuple[Explorer, Any]:
    """Of rows of which the first tenth is dropped, by distances that a row's number gives."""
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = Source.open(tmp_path / "data.jsonl")
    scores = write_scores(source, tmp_path / "s.parquet")
    candidates = candidates_of(source, scores)
    choice = choose(candidates, Selection(drop_frac=0.1))
    distance, percentile = scores.column("distance"), scores.column("percentile")
    found = explorer_of(
        source, scores, Ranked(choice.ranking, candidates), kept=~choice.dropped,
        dropped=choice.dropped, distance=distance, percentile=percentile, outcome=Outcome(written), **how,
    )  # fmt: skip
    assert found is not None
    return found, distance[:]


def test_of_many_rows_the_nearest_and_some_of_all_others(tmp_path: Path) -> None:
    rows = [chat(f"question {i}", f"answer {i}") for i in range(N_ROWS)]
    found, distance = explored(tmp_path, rows, limit=20)
    about = found.about
    assert [about[name] for name in ("of", "shown", "nearest", "drawn")] == [N_ROWS, 20, 16, 4]
    shown = [line - 1 for line in found.rows["line"]]
    assert shown == sorted(shown)
    assert set(np.argsort(distance)[:16].tolist()) < set(shown)
    assert found.rows["distance"] == distance[shown].tolist()
    again, _ = explored(tmp_path, rows, limit=20)
    assert again == found
    assert len(explored(tmp_path, rows)[0].details) == N_ROWS


def test_files_and_what_a_strategy_says_of_rows(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "data").mkdir(exist_ok=True)
        rows = "".join(json.dumps(chat(f"{name} {i}", f"answer {i}")) + "\n" for i in range(8))
        (tmp_path / f"data/{name}.jsonl").write_text(rows)
    source = open_input(tmp_path / "data")
    scores = write_scores(source, tmp_path / "s.parquet")
    value = np.arange(16.0)
    value[0] = np.nan
    reasons = [f"reason {i}" for i in range(16)]
    ranking = Ranking.by_score(value, "number", "", reasons=reasons)
    dropped = value >= 14
    found = explorer_of(
        source, scores, Ranked(ranking, candidates_of(source, scores)), kept=~dropped, dropped=dropped,
        distance=scores.column("distance"), percentile=scores.column("percentile"),
        outcome=Outcome("clean", by_distance=False), limit=10,
    )  # fmt: skip
    assert found is not None
    assert found.names["files"] == ["a.jsonl", "b.jsonl"]
    assert found.rows["score"][-8:] == [8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0]
    assert [detail.get("reason") for detail in found.details[-3:]] == [None, 0, 1]
    assert found.names["reasons"] == ["reason 14", "reason 15"]
    assert (found.about["by"], found.about["output"]) == ("number", "clean.reviewed")


@pytest.mark.parametrize(
    ("written", "after"),
    [
        ("out.jsonl.gz", "out.reviewed.jsonl.gz"),
        ("v1.2.CSV.zst", "v1.2.reviewed.CSV.zst"),
        ("out.parquet", "out.reviewed.parquet"),
        ("my.folder", "my.folder.reviewed"),
        ("data.filtered.jsonl.gz", "data.reviewed.jsonl.gz"),
        ("data.filtered", "data.reviewed"),
    ],
)
def test_after_a_review_the_format_is_the_same(tmp_path: Path, written: str, after: str) -> None:
    found, _ = explored(tmp_path, [chat("a", "b")], written)
    assert found.about["output"] == after


def test_the_curve_counts_all_rows_and_its_numbers_do_what_they_say(tmp_path: Path) -> None:
    rows = [chat(f"question {i}", f"answer {i}") for i in range(N_ROWS)]
    found, distance = explored(tmp_path, rows, limit=20)
    curve = found.curve
    assert (curve.rows[0], curve.rows[-1]) == (0, N_ROWS)
    assert found.about["dropped"] in curve.rows
    for cut, count in zip(curve.distance, curve.rows, strict=True):
        assert np.count_nonzero(distance < float(repr(cut))) == count


def test_a_curve_of_more_than_are_sorted(tmp_path: Path) -> None:
    rows = [chat(f"question {i}", f"answer {i}") for i in range(N_ROWS)]
    _, distance = explored(tmp_path, rows)
    column = write_scores(Source.open(tmp_path / "data.jsonl"), tmp_path / "t.parquet").column("distance")  # fmt: skip
    curve = curve_of(column, np.ones(N_ROWS, dtype=bool), held=17)
    assert 10 < len(curve.rows) <= 20
    assert (curve.rows[0], curve.rows[-1]) == (0, N_ROWS)
    assert curve.rows == [np.count_nonzero(distance < cut) for cut in curve.distance]


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_short_number_between_two(one: float, other: float) -> None:
    low, high = sorted((one, other))
    if low < high:
        assert low < between(low, high) <= high
    assert between(-np.inf, high) <= high
    assert between(low, np.inf) > low
    assert between(0.2379368, 0.2379422) == 0.23794


@given(st.lists(st.integers(0, 50), min_size=1), st.integers(0, 500))
def test_all_sizes_are_cut_to_one_level(sizes: list[int], room: int) -> None:
    most = level(np.array(sizes), room)
    used = sum(min(size, most) for size in sizes)
    assert used <= room
    assert used == sum(sizes) or used + len(sizes) > room


def test_the_longest_turns_are_cut() -> None:
    turns = [["user", 0, "short"], ["assistant", 1, "x" * 900], ["user", 0, "y" * 300]]
    cut_row(turns, room=405)
    assert [text.removesuffix(CUT) for _, _, text in turns] == ["short", "x" * 200, "y" * 200]


def test_columns_that_tell_kinds_of_rows_apart() -> None:
    rows = [
        {"id": str(i), "origin": "ab"[i % 2], "same": "x", "rare": "yes" if i < 3 else ""}
        for i in range(20)
    ]
    del rows[4]["origin"]
    found = {facet["name"]: facet for facet in facets_of(rows)}
    assert found.keys() == {"origin", "rare"}
    assert found["origin"]["values"] == ["b", "a"]
    assert found["origin"]["of"][:6] == [1, 0, 1, 0, -1, 0]


@pytest.mark.parametrize("text", ["<&> \u2028 ", "word ", "日本語の文"])
def test_a_page_of_long_rows_stays_below_ten_megabytes(tmp_path: Path, text: str) -> None:
    rows = [chat(f"{i} {text * 20}", text * 1200) for i in range(1500)]
    rows[3] = chat("short", "answer")
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = Source.open(data)
    scores = write_scores(source, tmp_path / "s.parquet")
    filter_file(source, scores, tmp_path / "out.jsonl", Selection(drop_frac=0.1))
    page = (tmp_path / "out.report.html").read_text(encoding="utf-8")
    assert len(page.encode()) < 10e6
    block = page.partition('id="explore-data">')[2].partition("</script>")[0]
    details = json.loads(block)["details"]
    assert details[3]["turns"][0][2] == "short"
    assert details[4]["turns"][1][2].endswith(CUT)
    assert len(details[4]["turns"][1][2]) > 300


def test_nobody_has_to_have_rows_in_the_page(tmp_path: Path) -> None:
    source = Source.open(_data(tmp_path))
    scores = write_scores(source, tmp_path / "s.parquet")
    filter_file(source, scores, tmp_path / "out.jsonl", Selection(drop_frac=0.1), report_rows=0)
    page = (tmp_path / "out.report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "script-src" not in page
    assert 'id="explore"' not in page


def _data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(chat(f"question {i}", f"answer {i}")) + "\n" for i in range(N_ROWS)))  # fmt: skip
    return path
