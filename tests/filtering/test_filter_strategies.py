"""What `filter` writes says which strategy dropped the rows, and by which score."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import chat
from scored import write_scores

from saefilter.artifacts.provenance import METADATA_KEY
from saefilter.filtering.filter import filter_file
from saefilter.filtering.job import FilterResult
from saefilter.rows.read import Source
from saefilter.select.registry import StrategyOptions
from saefilter.select.strategies import Selection
from saefilter.verify.findings import Given
from saefilter.verify.verify import verify

ROWS = [{**chat(f"question {i}", f"answer {i}"), "bad": int(i % 4 == 0)} for i in range(40)]
DISTANCE = [(i * 37 % 101) / 101 for i in range(40)]


def run(
    jsonl: Callable[..., Path],
    tmp_path: Path,
    strategy: str,
    name: str = "out.parquet",
    **asked: Any,
) -> FilterResult:
    source = Source.open(jsonl(ROWS))
    scores = write_scores(source, tmp_path / "data.scores.parquet")
    options = asked.pop("options", StrategyOptions())
    selection = Selection(strategy, seed=3, options=options, **asked)
    return filter_file(source, scores, tmp_path / name, selection, card=True, overwrite=True)


def texts(tmp_path: Path) -> dict[str, str]:
    """Every face of the report."""
    return {
        name: (tmp_path / name).read_text()
        for name in ("out.report.html", "out.report.md", "README.md")
    }


def test_a_strategy_with_scores_is_told_of_everywhere(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    run(jsonl, tmp_path, "labels", drop_count=12, options=StrategyOptions(label="bad"))
    dropped = pq.read_table(tmp_path / "out.dropped.parquet")
    assert dropped["saefilter_score"].to_pylist() == [float(b) for b in dropped["bad"].to_pylist()]
    assert dropped["bad"].to_pylist().count(1) == 10
    assert set(zip(dropped["bad"].to_pylist(), dropped["saefilter_reason"].to_pylist(), strict=True)) == {
        (1, "labelled bad"), (0, "labelled good")
    }  # fmt: skip
    report = json.loads((tmp_path / "out.report.json").read_text())
    asked = report["selection"]
    assert (asked["strategy"], asked["seed"], asked["score_name"]) == ("labels", 3, "label")
    assert asked["score_threshold"] == 0.0
    assert asked["options"] == {"label": "bad"}
    assert asked["details"]["labels"] == {"column": "bad", "bad": 10, "labelled": 40}
    scores = [view["score"] for view in report["dropped"]]
    assert scores == [1.0] * 10 + [0.0] * 2
    assert {view["reason"] for view in report["dropped"]} == {"labelled bad", "labelled good"}
    assert all(view["score"] == 0 and not view["reason"] for view in report["borderline"])
    for name, text in texts(tmp_path).items():
        assert "strategy labels puts first" in text, name
        assert "closest to toxic features" not in text, name
        assert "played no part" in text, name
    page = texts(tmp_path)["out.report.html"]
    assert "First rows to be dropped" in page
    assert 'class="threshold"' not in page
    assert "--strategy labels --seed 3 --label bad" in texts(tmp_path)["README.md"]
    made = json.loads(pq.read_schema(tmp_path / "out.parquet").metadata[METADATA_KEY])
    assert made["selection"]["strategy"] == "labels"
    assert made["selection"]["options"] == {"label": "bad"}
    assert made["selection"]["details"]["labels"]["bad"] == 10


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize("strategy", ["random", "labels", "matched-random"])
def test_verify_finds_that_all_of_it_belongs_together(
    jsonl: Callable[..., Path], tmp_path: Path, strategy: str, suffix: str
) -> None:
    options = StrategyOptions(label=None if strategy == "random" else "bad")
    run(jsonl, tmp_path, strategy, f"out{suffix}", drop_frac=0.25, options=options)
    verdict = verify(tmp_path / "out.report.json", Given())
    wrong = [check for check in verdict.checks if check.status == "mismatch"]
    assert not wrong
    if suffix == ".jsonl" and strategy == "labels":
        lines = (tmp_path / "out.dropped.jsonl").read_text().splitlines()
        assert {json.loads(line)["saefilter_score"] for line in lines} == {1.0}


def test_a_strategy_without_scores_shows_the_closest_and_adds_no_column(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    options = StrategyOptions(label="bad")
    result = run(jsonl, tmp_path, "matched-random", drop_frac=0.25, options=options)
    dropped = pq.read_table(tmp_path / "out.dropped.parquet")
    assert "saefilter_score" not in dropped.column_names
    closest = np.argsort(DISTANCE, kind="stable")[:10]
    assert sum(dropped["bad"].to_pylist()) == sum(ROWS[i]["bad"] for i in closest)
    assert [view.distance for view in result.report.dropped] == sorted(
        dropped["saefilter_distance"].to_pylist()
    )
    for name, text in texts(tmp_path).items():
        assert "strategy matched-random puts first" in text, name
    assert "Close, and kept by this strategy." in texts(tmp_path)["out.report.html"]


def test_the_default_says_what_it_always_said(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    run(jsonl, tmp_path, "closest", drop_frac=0.25)
    dropped = pq.read_table(tmp_path / "out.dropped.parquet")
    assert set(dropped["saefilter_reason"].to_pylist()) == {"close to toxic features"}
    for name, text in texts(tmp_path).items():
        assert "25% of scored rows closest to toxic features" in text, name
    assert "Closest dropped rows" in texts(tmp_path)["out.report.html"]
    assert "--strategy" not in texts(tmp_path)["README.md"]


def test_equal_requests_give_equal_bytes_wherever_the_labels_lie(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    written = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        labels = tmp_path / folder / "labels.csv"
        labels.write_text("row_id,bad\n" + "".join(f"{i},{i % 2}\n" for i in range(40)))
        options = StrategyOptions(labels=str(labels))
        run(jsonl, tmp_path, "labels", drop_frac=0.25, options=options)
        written.append((tmp_path / "out.parquet").read_bytes())
    assert written[0] == written[1]
