"""Rows go where they belong over many pieces, and what does not add up is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scored import write_scores

from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.filtering.filter import filter_file
from saefilter.filtering.parts import DROPPED, KEPT, Reasons, partition
from saefilter.rows import pieces as pieces_module
from saefilter.rows.read import Source
from saefilter.select.strategies import Selection

DATA: list[Any] = [{"text": f"row {i}", "n": i if i % 7 else i / 2} for i in range(60)]
DATA[9] = {"text": "odd", "n": "nine"}
DATA[17] = {"text": ["odd"], "n": 17}
DATA[30] = b'{"broken'
DATA[44] = {"text": ""}
DATA[59] = {"text": "more", "z": {"a": 1}}


class Counting:
    """A part that only counts."""

    def __init__(self) -> None:
        self.n_written = 0

    def write(self, piece: Any, positions: Any) -> None:
        self.n_written += len(positions)

    def close(self) -> None: ...

    def abandon(self) -> None: ...


@pytest.fixture
def scored(jsonl: Callable[..., Path], tmp_path: Path) -> tuple[Source, Scores]:
    source = Source.open(jsonl(DATA))
    return source, write_scores(source, tmp_path / "s.parquet")


@pytest.mark.parametrize("size", [1, 7, 4096])
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_pieces_leave_no_trace(
    scored: tuple[Source, Scores],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    suffix: str,
) -> None:
    source, scores = scored
    whole = filter_file(source, scores, tmp_path / f"whole{suffix}", Selection(drop_frac=0.3))
    monkeypatch.setattr(pieces_module, "PIECE_ROWS", size)
    result = filter_file(source, scores, tmp_path / f"out{suffix}", Selection(drop_frac=0.3))
    assert result.report.counts == whole.report.counts
    assert result.report.features == whole.report.features
    # a number where most rows have a text is no reason where lines are copied
    assert result.report.counts["quarantined"] == (4 if suffix == ".parquet" else 3)
    for role in ("kept", "dropped", "quarantined"):
        ours, theirs = getattr(result.paths, role), getattr(whole.paths, role)
        assert ours.read_bytes() == theirs.read_bytes()


def test_values_and_order_are_the_input_s(scored: tuple[Source, Scores], tmp_path: Path) -> None:
    source, scores = scored
    filter_file(source, scores, tmp_path / "out.parquet", Selection(drop_frac=0.3))
    kept = pq.read_table(tmp_path / "out.parquet").to_pylist()
    dropped = pq.read_table(tmp_path / "out.dropped.parquet").to_pylist()
    ids = [row["saefilter_row_id"] for row in dropped]
    assert [row["text"] for row in dropped] == [DATA[i]["text"] for i in ids]
    aside = {9, 17, 30, 44, *ids}
    assert [row["text"] for row in kept] == [
        row["text"] for i, row in enumerate(DATA) if i not in aside
    ]


def test_a_row_that_changes_after_the_check_is_refused(scored: tuple[Source, Scores]) -> None:
    source, scores = scored
    places = np.zeros(60, dtype=np.int8)
    parts = {KEPT: Counting(), DROPPED: Counting()}
    hashes = scores.row_hashes()
    partition(source, places, hashes, parts)
    assert (parts[KEPT].n_written, parts[DROPPED].n_written) == (60, 0)
    changed = hashes.copy()
    changed[41] += np.uint64(1)
    with pytest.raises(SaefilterError, match=r"row 42 of .* is not the row that was scored"):
        partition(source, places, changed, {KEPT: Counting()})


def test_rows_too_many_or_too_few_are_refused(scored: tuple[Source, Scores]) -> None:
    source, scores = scored
    hashes, places = scores.row_hashes(), np.zeros(61, dtype=np.int8)
    with pytest.raises(SaefilterError, match=r"row 60 of .* is not the row that was scored"):
        partition(source, places[:59], hashes[:59], {KEPT: Counting()})
    with pytest.raises(SaefilterError, match="60 rows were read of 61"):
        partition(source, places, np.append(hashes, hashes[:1]), {KEPT: Counting()})
    places[3] = DROPPED
    with pytest.raises(SaefilterError, match="rows would be lost: 59 kept, 0 dropped"):
        partition(source, places[:60], hashes, {KEPT: Counting()})


def test_reasons_are_those_of_the_scores(scored: tuple[Source, Scores]) -> None:
    _, scores = scored
    reasons = Reasons(scores)
    assert "not readable JSON" in reasons.of(30)
    assert reasons.of(44) == "the text is empty"
    assert reasons.of(45) == "not scored"


@pytest.mark.parametrize("damage", ["not hex digits!", "abc", "0123456789abcdef0"])
def test_damaged_row_hashes_are_refused(
    scored: tuple[Source, Scores], tmp_path: Path, damage: str
) -> None:
    _, scores = scored
    table = pq.read_table(scores.path)
    hashes = [*table["row_hash"].to_pylist()[:-1], damage]
    place = table.column_names.index("row_hash")
    pq.write_table(table.set_column(place, "row_hash", [hashes]), tmp_path / "t.parquet")
    with pytest.raises(SaefilterError, match="its row hashes are damaged"):
        replace(scores, path=tmp_path / "t.parquet", copy=None).row_hashes()


def test_dropped_lines_of_several_files_say_which(tmp_path: Path) -> None:
    from saefilter.rows.inputs import open_input

    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a", "b"):
        lines = [json.dumps({"text": f"{name} {i}"}) for i in range(4)]
        (folder / f"{name}.jsonl").write_text("\n".join([*lines, '{"broken']))
    source = open_input(folder)
    scores = write_scores(source, tmp_path / "s.parquet")
    filter_file(source, scores, tmp_path / "out.parquet", Selection(drop_count=8))
    dropped = pq.read_table(tmp_path / "out.dropped.parquet").to_pylist()
    assert [row["saefilter_file"] for row in dropped] == ["a.jsonl"] * 4 + ["b.jsonl"] * 4
    assert [row["saefilter_line"] for row in dropped] == [1, 2, 3, 4] * 2
    aside = pq.read_table(tmp_path / "out.quarantined.parquet").to_pylist()
    assert [(row["saefilter_file"], row["saefilter_line"]) for row in aside] == [
        ("a.jsonl", 5),
        ("b.jsonl", 5),
    ]
