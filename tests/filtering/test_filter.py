"""Filtering, over scores that are written here and not computed: no model is needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scored import ROWS, write_scores

from saefilter.artifacts.provenance import METADATA_KEY
from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.filtering.filter import filter_file
from saefilter.rows.read import Source
from saefilter.select.strategies import Selection


def run(source: Source, tmp_path: Path, name: str = "out.parquet", **asked: Any) -> Any:
    scores = write_scores(source, tmp_path / "s.parquet")
    return filter_file(source, scores, tmp_path / name, Selection(**asked))


def test_kept_and_dropped_are_the_input_in_order(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    source = Source.open(jsonl(ROWS))
    result = run(source, tmp_path, drop_frac=0.25)
    kept = pq.read_table(tmp_path / "out.parquet")
    dropped = pq.read_table(tmp_path / "out.dropped.parquet")
    assert kept.column_names == ["messages", "id", "tag"]
    assert (kept.num_rows, dropped.num_rows) == (30, 10)
    assert kept["id"].to_pylist() == sorted(kept["id"].to_pylist())
    ids = set(dropped["id"].to_pylist())
    assert kept.to_pylist() == [row for row in ROWS if row["id"] not in ids]
    assert dropped.drop_columns(
        [n for n in dropped.column_names if "saefilter" in n]
    ).to_pylist() == [row for row in ROWS if row["id"] in ids]
    distances = np.array([(i * 37 % 101) / 101 for i in range(40)])
    assert ids == set(np.argsort(distances)[:10].tolist())
    assert dropped["saefilter_reason"].to_pylist() == ["close to toxic features"] * 10
    assert dropped["saefilter_line"].to_pylist() == [i + 1 for i in sorted(ids)]
    aside = pq.read_table(tmp_path / "out.quarantined.parquet")  # there for who declares it
    assert (aside.num_rows, result.report.outputs["quarantined"]) == (0, "out.quarantined.parquet")
    assert result.report.counts["kept"] == 30
    report = json.loads((tmp_path / "out.report.json").read_text())
    assert [view["row_id"] for view in report["dropped"]] == np.argsort(distances)[:10].tolist()
    assert "<!DOCTYPE html>" in (tmp_path / "out.report.html").read_text()
    assert "saefilter" in (tmp_path / "out.report.md").read_text()


def test_a_cut_through_rows_that_are_equally_close_is_pointed_out(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    source = Source.open(jsonl(ROWS))

    def notes(name: str, distances: list[float], **asked: Any) -> str:
        scores = write_scores(source, tmp_path / "s.parquet", distances)
        result = filter_file(source, scores, tmp_path / name, Selection(**asked))
        return "\n".join(result.report.notes)

    tied = [0.5, 0.2] + [0.0] * 38
    told = "38 rows are exactly as close as the last one dropped; 10 of them were dropped"
    assert told in notes("tied.parquet", tied, drop_count=10)
    for number, asked in enumerate(
        ({"drop_count": 38}, {"min_distance": 0.1}, {"drop_count": 0},
         {"drop_count": 10, "strategy": "random"})
    ):  # fmt: skip
        assert "exactly as close" not in notes(f"{number}.parquet", tied, **asked)


@pytest.mark.parametrize("others", [np.nextafter(0.3, 1), np.nextafter(0.3, 0), 0.3])
def test_distances_that_differ_by_their_last_bit_have_a_histogram(
    jsonl: Callable[..., Path], tmp_path: Path, others: float
) -> None:
    source = Source.open(jsonl(ROWS))
    scores = write_scores(source, tmp_path / "s.parquet", [0.3, *[others] * 39])
    report = filter_file(source, scores, tmp_path / "out.jsonl", Selection(drop_count=1)).report
    assert (sum(report.histogram.kept), sum(report.histogram.dropped)) == (39, 1)
    assert report.selection["threshold"] == min(0.3, others)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_a_distance_that_is_no_number_is_refused(
    jsonl: Callable[..., Path], tmp_path: Path, odd: float
) -> None:
    source = Source.open(jsonl(ROWS))
    scores = write_scores(source, tmp_path / "s.parquet", [*[0.3] * 39, odd])
    with pytest.raises(SaefilterError, match="not a finite number") as raised:
        filter_file(source, scores, tmp_path / "out.parquet", Selection(drop_count=1))
    assert raised.value.where == str(tmp_path / "s.parquet")
    assert {p.name for p in tmp_path.glob("out*")} == set()


def test_quarantined_rows_can_be_put_back(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    bad = [b'{"broken', b'{"text": "caf\xe9"}']
    source = Source.open(
        jsonl([*ROWS[:3], *bad, {**ROWS[5], "id": "five"}, {"text": ""}, *ROWS[6:9]])
    )
    result = run(source, tmp_path, drop_count=2)
    table = pq.read_table(tmp_path / "out.quarantined.parquet").to_pylist()
    assert [row["saefilter_line"] for row in table] == [4, 5, 6, 7]
    assert table[0]["saefilter_text"] == '{"broken'
    assert bytes.fromhex(table[1]["saefilter_bytes_hex"]) == bad[1]
    assert table[0]["saefilter_bytes_hex"] is None
    assert (
        "column 'id' is a string where the rows in the table have a number"
        in table[2]["saefilter_reason"]
    )
    assert table[3]["saefilter_reason"] == "the text is empty"
    counts = result.report.counts
    assert (counts["kept"], counts["dropped"], counts["quarantined"], counts["rows"]) == (
        4,
        2,
        4,
        10,
    )


def test_jsonl_lines_are_copied_byte_by_byte(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    lines = [b'{"text":"a",  "n": 1e2 }', b'{"text": "b\\u00e9", "n": 2}', b'{"n":3, "text":"c"}']
    run(Source.open(jsonl(lines)), tmp_path, "out.jsonl", drop_count=1)
    written = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert written == lines[1:]
    dropped = json.loads((tmp_path / "out.dropped.jsonl").read_bytes())
    assert dropped["text"] == "a"
    assert dropped["saefilter_distance"] == 0


def test_same_input_and_settings_give_the_same_bytes(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    source = Source.open(jsonl(ROWS))
    scores = write_scores(source, tmp_path / "s.parquet")
    written = []
    for name in ("one", "two"):
        filter_file(source, scores, tmp_path / f"{name}.parquet", Selection(drop_frac=0.5))
        written.append((tmp_path / f"{name}.parquet").read_bytes())
    assert written[0] == written[1]
    metadata = pq.read_schema(tmp_path / "one.parquet").metadata
    assert json.loads(metadata[METADATA_KEY])["selection"]["drop_frac"] == 0.5


def test_a_changed_input_is_refused_and_nothing_is_written(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    source = Source.open(jsonl(ROWS))
    scores = write_scores(source, tmp_path / "s.parquet")
    source.path.write_bytes(source.path.read_bytes().replace(b"answer 3", b"answer 4", 1))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SaefilterError, match="its content differs"):
        filter_file(source, scores, tmp_path / "out.parquet", Selection(drop_frac=0.1))
    assert sorted(tmp_path.iterdir()) == before


def test_outputs_in_the_way_are_refused_and_inputs_never_overwritten(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    source = Source.open(jsonl(ROWS))
    scores = write_scores(source, tmp_path / "s.parquet")
    (tmp_path / "out.report.md").write_text("mine")
    some = Selection(drop_frac=0.1)
    with pytest.raises(SaefilterError, match=r"out.report.md exists already. Use --overwrite"):
        filter_file(source, scores, tmp_path / "out.parquet", some)
    filter_file(source, scores, tmp_path / "out.parquet", some, overwrite=True)
    with pytest.raises(SaefilterError, match="is read by this command"):
        filter_file(source, scores, tmp_path / "data.jsonl", some, overwrite=True)
    with pytest.raises(SaefilterError, match=r"End it in .jsonl or .csv"):
        filter_file(source, scores, tmp_path / "out.tsv", some)
    assert source.sha256() == scores.provenance.input_sha256


@pytest.mark.parametrize("content", [b"not parquet", b""])
def test_damaged_scores_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.parquet"
    path.write_bytes(content)
    with pytest.raises(SaefilterError, match="not a readable Parquet file"):
        Scores.open(path)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(SaefilterError, match="not a scores file"):
        Scores.open(path)
    path = (
        tmp_path / "data.csv"
    )  # `saefilter compare data.csv`: nothing to score again with --overwrite
    path.write_bytes(content)
    with pytest.raises(
        SaefilterError, match=r"not a readable Parquet file.*Scores end in \.parquet"
    ):
        Scores.open(path)


@pytest.mark.parametrize(
    "metadata", [b'{"scores_version": 1}', b"[1]", b"not json", b"[" * 100_000]
)
def test_scores_with_damaged_metadata_are_refused(tmp_path: Path, metadata: bytes) -> None:
    table = pa.table({"a": [1]}).replace_schema_metadata({METADATA_KEY: metadata})
    pq.write_table(table, tmp_path / "s.parquet")
    with pytest.raises(SaefilterError, match="its metadata are damaged"):
        Scores.open(tmp_path / "s.parquet")


def test_leftovers_of_a_killed_filter_go(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    source = Source.open(jsonl(ROWS))
    for name in (".out.parquet.123.tmp", ".out.report.json.123.tmp"):
        (tmp_path / name).write_text("half")
    run(source, tmp_path, drop_count=1)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
