"""What a cut does to the values of a column, and cuts that take the same share of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import chat
from scored import write_scores

from saefilter.errors import SaefilterError
from saefilter.filtering.filter import filter_file
from saefilter.filtering.job import candidates_of
from saefilter.rows.read import Source
from saefilter.select.balance import balanced, losses, read_values
from saefilter.select.strategies import Selection

ROWS = [
    {**chat(f"question {i}", f"answer {i}"), "topic": "rare" if i < 6 else "common", "n": i / 7}
    for i in range(60)
]
DISTANCES = [i / 60 for i in range(60)]
"""The rare topic is the closest."""


def test_a_topic_that_goes_is_pointed_out(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    source = Source.open(jsonl(ROWS))
    scores = write_scores(source, tmp_path / "s.parquet", DISTANCES)
    selection = Selection(drop_frac=0.15, by=("topic", "length", "n"))
    report = filter_file(source, scores, tmp_path / "out.parquet", selection).report
    topic, length, numbers = report.per
    lost = {loss["value"]: loss for loss in topic["values"]}
    assert (lost["rare"]["rows"], lost["rare"]["dropped"], lost["rare"]["warned"]) == (6, 6, True)
    assert lost["rare"]["times"] == pytest.approx(1 / 0.15)
    assert (lost["common"]["dropped"], lost["common"]["warned"]) == (3, False)
    (note,) = [note for note in report.notes if "even over 'topic'" in note]
    assert "'rare' loses 6 of 6 rows (6.7 times its share)" in note
    assert "--keep-balance topic" in note
    assert [loss["value"] for loss in length["values"]] == ["up to 3 tokens"]
    assert len(numbers["values"]) == 4
    assert [loss["dropped"] for loss in numbers["values"]] == [9, 0, 0, 0]
    for face in ("html", "md"):
        assert "Times its share" in (tmp_path / f"out.report.{face}").read_text()
    assert json.loads((tmp_path / "out.report.json").read_text())["per"][0]["column"] == "topic"


def test_balance_takes_the_same_share_of_each(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    source = Source.open(jsonl(ROWS))
    scores = write_scores(source, tmp_path / "s.parquet", DISTANCES)
    selection = Selection(drop_frac=1 / 3, keep_balance="topic")
    report = filter_file(source, scores, tmp_path / "out.parquet", selection).report
    dropped = pq.read_table(tmp_path / "out.dropped.parquet")["topic"].to_pylist()
    assert (dropped.count("rare"), dropped.count("common")) == (2, 18)
    assert not [note for note in report.notes if "even over 'topic'" in note]
    assert [loss["times"] for loss in report.per[0]["values"]] == [pytest.approx(1)] * 2
    assert "the same share of each value of 'topic'" in (tmp_path / "out.report.md").read_text()


def test_what_does_not_come_out_even_goes_by_the_largest_remainder(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    source = Source.open(jsonl(ROWS))
    values = read_values(
        candidates_of(source, write_scores(source, tmp_path / "s.parquet")), "topic"
    )
    order = np.arange(60)
    for count in range(61):
        dropped = balanced(order, count, values)
        assert dropped.sum() == count
        assert abs(dropped[:6].sum() - count / 10) < 1
    assert losses(values, balanced(order, 60, values))[0].warned is False  # everything goes


@pytest.mark.parametrize(
    ("column", "says"),
    [("topics", "no column 'topics'. Did you mean 'topic'"), ("messages", "lists")],
)
def test_a_column_that_cannot_be_told_apart_is_refused(
    jsonl: Callable[..., Path], tmp_path: Path, column: str, says: str
) -> None:
    source = Source.open(jsonl(ROWS))
    scores = write_scores(source, tmp_path / "s.parquet")
    with pytest.raises(SaefilterError, match=says):
        filter_file(
            source, scores, tmp_path / "out.parquet", Selection(drop_count=3, keep_balance=column)
        )
    assert not (tmp_path / "out.parquet").exists()
    with pytest.raises(SaefilterError, match=says):
        filter_file(source, scores, tmp_path / "out.parquet", Selection(drop_count=3, by=(column,)))
    assert not (tmp_path / "out.parquet").exists()


def test_one_file_has_no_files_to_tell_apart(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    source = Source.open(jsonl(ROWS))
    candidates = candidates_of(source, write_scores(source, tmp_path / "s.parquet"))
    with pytest.raises(SaefilterError, match="one file") as raised:
        read_values(candidates, "file")
    assert "Did you mean" not in str(raised.value)
