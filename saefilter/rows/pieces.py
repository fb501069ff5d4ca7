"""An input as pieces: consecutive rows, few enough to be held, and parsed only where they are wanted.

For runs that go over all rows more than once. Lines are parsed here without the checks of `parse.py`:
whoever wants values has scores of these rows, and compares their hashes.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saefilter.rows.arrow import rows_in, table_batches
from saefilter.rows.parse import parse_line
from saefilter.rows.read import TABLES, Source
from saefilter.rows.row import Row, kept_bytes
from saefilter.rows.text import jsonl_lines

PIECE_ROWS = 4096
PIECE_BYTES = 2 << 20
"""Of text, about; a row that has more is a piece of its own."""
GARBAGE = 100 * PIECE_ROWS
"""Lists and dicts, beyond those let go, after which cycles are looked for."""

_decode = json.JSONDecoder().decode


class Piece(Protocol):
    """Some consecutive rows of an input. `i` and `positions` count from its first row."""

    @property
    def first(self) -> int:
        """Row id of its first row."""

    @property
    def file(self) -> str | None:
        """What rows call their file; see `Row.file`."""

    def __len__(self) -> int: ...

    def line(self, i: int) -> int:
        """`Row.line` of a row."""

    def row(self, i: int) -> Row:
        """A row, read as strictly as `Source.rows` does."""

    def digests(self) -> NDArray[np.uint64]:
        """`Row.digest` of every row, as numbers."""

    def values(self, positions: Sequence[int]) -> list[dict[str, Any] | None]:
        """Columns of some rows; None for one that cannot be read."""


@dataclass(frozen=True)
class LinePiece:
    """Lines of a JSONL file."""

    first: int
    file: str | None
    lines: list[int]
    """Their numbers, from 1."""
    raw: list[bytes]

    def __len__(self) -> int:
        return len(self.raw)

    def line(self, i: int) -> int:
        return self.lines[i]

    def row(self, i: int) -> Row:
        raw = self.raw[i]
        data, error = parse_line(raw)
        return Row(self.first + i, self.lines[i], data, error, kept_bytes(raw), self.file)

    def digests(self) -> NDArray[np.uint64]:
        blake2b = hashlib.blake2b
        hashes = [blake2b(kept_bytes(raw), digest_size=8).digest() for raw in self.raw]
        return np.frombuffer(b"".join(hashes), ">u8").astype(np.uint64)

    def values(self, positions: Sequence[int]) -> list[dict[str, Any] | None]:
        wanted = [self.raw[i] for i in positions]
        try:  # all at once takes half the time; each is a whole value, or its hash is another
            rows: list[dict[str, Any] | None] = _decode(
                str(b"[" + b",".join(wanted) + b"]", "utf-8")
            )
            if len(rows) == len(wanted):
                return rows
        except (ValueError, RecursionError):
            pass  # one of them, in a file that changes while it is read
        return [parse_line(raw)[0] for raw in wanted]


@dataclass(frozen=True)
class RowPiece:
    """Rows of a format without lines or types of its own."""

    rows: list[Row]
    """At least one."""

    @property
    def first(self) -> int:
        return self.rows[0].index

    @property
    def file(self) -> str | None:
        return self.rows[0].file

    def __len__(self) -> int:
        return len(self.rows)

    def line(self, i: int) -> int:
        return self.rows[i].line

    def row(self, i: int) -> Row:
        return self.rows[i]

    def digests(self) -> NDArray[np.uint64]:
        return np.array([int(row.digest(), 16) for row in self.rows], dtype=np.uint64)

    def values(self, positions: Sequence[int]) -> list[dict[str, Any] | None]:
        return [self.rows[i].data for i in positions]


@dataclass(frozen=True)
class TablePiece:
    """Rows of a Parquet or Arrow file."""

    first: int
    file: str | None
    source: Source
    """The file itself."""
    first_line: int
    batch: pa.RecordBatch

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    def line(self, i: int) -> int:
        return self.first_line + i

    def row(self, i: int) -> Row:
        return next(self._rows(i, self.batch.slice(i, 1)))

    def digests(self) -> NDArray[np.uint64]:
        hashes = (int(row.digest(), 16) for row in self._rows(0, self.batch))
        return np.fromiter(hashes, np.uint64, len(self))

    def values(self, positions: Sequence[int]) -> list[dict[str, Any] | None]:
        wanted = set(positions)
        return [row.data for i, row in enumerate(self._rows(0, self.batch)) if i in wanted]

    def _rows(self, start: int, batch: pa.RecordBatch) -> Iterator[Row]:
        for i, parsed in enumerate(rows_in(batch, self.source.path, self.source.kind), start):
            yield Row(
                self.first + i, self.line(i), parsed.data, parsed.error, parsed.raw, self.file
            )


def pieces(source: Source, first: int = 0, name: str | None = None) -> Iterator[Piece]:
    """All rows in order; no piece is of two files. Of a source that is itself one file of several, `first`
    is the number of its first row in the whole, and `name` what rows call it.

    Raises SaefilterError when a file as a whole cannot be read.
    """
    for file in source.files:
        for piece in _pieces_of(file, name or source.name_of(file), first):
            yield piece
            first = piece.first + len(piece)


def _pieces_of(source: Source, name: str | None, first: int) -> Iterator[Piece]:
    if source.kind == "jsonl":
        return _line_pieces(source, name, first)
    if source.kind in TABLES:
        return _table_pieces(source, name, first)
    return _row_pieces(source, name, first)


def _line_pieces(source: Source, name: str | None, first: int) -> Iterator[LinePiece]:
    with source.reading() as file:
        lines: list[int] = []
        held: list[bytes] = []
        size = 0
        for line, raw in jsonl_lines(file, source.path):
            if held and (len(held) == PIECE_ROWS or size + len(raw) > PIECE_BYTES):
                yield LinePiece(first, name, lines, held)
                first += len(held)
                lines, held, size = [], [], 0
            lines.append(line)
            held.append(raw)
            size += len(raw)
        if held:
            yield LinePiece(first, name, lines, held)


def _table_pieces(source: Source, name: str | None, first: int) -> Iterator[TablePiece]:
    line = 1
    for batch in table_batches(source.path, source.kind):
        if batch.num_rows:
            yield TablePiece(first + line - 1, name, source, line, batch)
            line += batch.num_rows


def _row_pieces(source: Source, name: str | None, first: int) -> Iterator[RowPiece]:
    held: list[Row] = []
    size = 0
    for row in source.rows():
        more = len(row.raw) or text_size(row.data)
        if held and (len(held) == PIECE_ROWS or size + more > PIECE_BYTES):
            yield RowPiece(held)
            held, size = [], 0
        held.append(replace(row, index=first + row.index, file=name) if first or name else row)
        size += more
    if held:
        yield RowPiece(held)


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """Parsed rows are walked again and again for cycles that JSON cannot have: a third of the time of
    reading them. Within, that is done once for many rows."""
    before = gc.get_threshold()
    gc.set_threshold(GARBAGE, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def text_size(value: Any) -> int:
    """About how many bytes a value takes as text."""
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, dict):
        return sum(map(text_size, value.values())) + 8 * len(value)
    if isinstance(value, (list, tuple)):
        return sum(map(text_size, value)) + 8 * len(value)
    return 8
