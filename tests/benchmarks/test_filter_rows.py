"""What grows with the rows, measured in numbers small enough for a test."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

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


@pytest.mark.slow
def test_a_row_more_takes_a_few_bytes_more(tmp_path: Path) -> None:
    peak_of(tmp_path / "first", 1_000)  # what is imported then, and stays
    few, many = (peak_of(tmp_path / f"{rows}", rows) for rows in (40_000, 40_000 + MORE))
    assert (many - few) / MORE < 16
