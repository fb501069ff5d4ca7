"""Pieces hold the rows that a source reads, whatever its format."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saefilter.rows import pieces as module
from saefilter.rows.inputs import open_input
from saefilter.rows.pieces import LinePiece, Piece, pieces
from saefilter.rows.read import Source
from saefilter.rows.row import Row

ROWS = [{"text": f"row {i}", "n": i} for i in range(10)]


def write(folder: Path, kind: str) -> Path:
    path = folder / f"data.{kind}"
    if kind == "jsonl":
        lines = [json.dumps(row).encode() for row in ROWS]
        path.write_bytes(
            b"\xef\xbb\xbf" + b"\n\n".join([*lines, b'{"broken', b'{"text": "caf\xe9"}'])
        )
    elif kind == "csv":
        path.write_text("text,n\n" + "".join(f"{r['text']},{r['n']}\n" for r in ROWS) + "a,b,c\n")
    elif kind == "json":
        path.write_text(json.dumps([*ROWS, {"n": float("nan")}, 5]))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif kind == "arrow":
        table = pa.Table.from_pylist(ROWS)
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, 4)
    else:
        path.mkdir()
        for name in ("jsonl", "csv", "json", "parquet", "arrow"):
            write(path, name)
    return path


def rows_in(found: list[Piece]) -> list[Row]:
    return [piece.row(i) for piece in found for i in range(len(piece))]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "json", "parquet", "arrow", "folder"])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_the_rows_are_those_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, size: int
) -> None:
    monkeypatch.setattr(module, "PIECE_ROWS", size)
    source = open_input(write(tmp_path, kind))
    expected = list(source.rows())
    found = list(pieces(source))
    assert rows_in(found) == expected
    if kind in ("jsonl", "csv", "json"):
        assert {len(piece) for piece in found[:-1]} <= {size}
    for piece in found:
        own = expected[piece.first : piece.first + len(piece)]
        assert piece.file == own[0].file
        assert [piece.line(i) for i in range(len(piece))] == [row.line for row in own]
        assert [f"{digest:016x}" for digest in piece.digests().tolist()] == [
            row.digest() for row in own
        ]
        readable = [i for i, row in enumerate(own) if row.data is not None]
        assert piece.values(readable) == [own[i].data for i in readable]


def test_a_row_with_much_text_is_a_piece_of_its_own(
    jsonl: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", 100)
    rows: list[dict[str, Any]] = [{"a": "x" * n} for n in (1, 1, 500, 1, 1)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    for path in (jsonl(rows), tmp_path / "a.json"):
        assert [len(piece) for piece in pieces(Source.open(path))] == [2, 1, 2]


def test_a_line_that_is_none_says_so_and_costs_no_other() -> None:
    lines = [b'{"a": 1}', b'{"a": [1', b"2]}", b'{"a": 2}']
    piece = LinePiece(0, None, [1, 2, 3, 4], lines)
    assert piece.values([0, 1, 2, 3]) == [{"a": 1}, None, None, {"a": 2}]
    assert piece.values([3, 0]) == [{"a": 2}, {"a": 1}]
    assert piece.values([]) == []


def test_what_was_read_of_a_parquet_file_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    rng = random.Random(0)
    with pq.ParquetWriter(path, pa.schema([("text", pa.string())])) as writer:
        for _ in range(16):
            writer.write_table(pa.table({"text": [rng.randbytes(400).hex() for _ in range(2000)]}))
    before, most = pa.total_allocated_bytes(), 0
    for _ in pieces(Source.open(path)):
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < path.stat().st_size / 3
