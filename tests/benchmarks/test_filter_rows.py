"""What grows with the rows, measured in numbers small enough for a test."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from benchmarks.filter_rows import write_files
from saefilter.artifacts.scores import Scores
from saefilter.filtering.filter import filter_file
from saefilter.rows.read import Source
from saefilter.select.strategies import Selection

MORE = 60_000


def peak_of(folder: Path, rows: int) -> int:
    folder.mkdir()
    write_files(folder, rows)
    source = Source.open(folder / "data.jsonl")
    scores = Scores.open(folder / "data.scores.parquet")
    tracemalloc.start()
    result = filter_file(source, scores, folder / "out.jsonl", Selection(drop_frac=0.1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.report.counts["dropped"] == rows // 10
    return peak


def test_a_row_more_takes_a_few_bytes_more(tmp_path: Path) -> None:
    few, many = 40_000, 40_000 + MORE
    assert (peak_of(tmp_path / "many", many) - peak_of(tmp_path / "few", few)) / MORE < 16
