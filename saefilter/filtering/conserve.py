"""No row lost, changed, swapped or doubled: what was read is what was scored, what was written is it.

Three links, each checked for every row unless said otherwise:

1. every row of the input, read now, has the hash that the scores file gives it;
2. the tables that the rows became hold their values (a thousand rows spread over the data, since
   decoding all of them again would double the time; `saefilter verify` compares every row);
3. what was written, read back from its temporary file, is exactly those rows in the input's order.

A Parquet file does not keep a JSON line as it stood, and a row that lacks a column which others
have gets a null there. Two rows are therefore the same when they are equal once keys with a null
value are left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saefilter.artifacts.column import Column
from saefilter.artifacts.integrity import BATCH_ROWS, batches_of, parquet_content
from saefilter.errors import SaefilterError
from saefilter.rows.arrow import json_cells
from saefilter.rows.pieces import Piece, pieces
from saefilter.rows.read import Source, open_lines
from saefilter.rows.text import csv_rows
from saefilter.rows.write import PREFIX, is_added
from saefilter.rows.written import CSV, PARQUET, format_of
from saefilter.text import command_line

N_COMPARED = 1000
AddedTo = Callable[[Sequence[dict[str, Any]], Piece, Sequence[int]], list[dict[str, Any]]]
"""Rows at positions of a piece, with what is added to them."""
Hashes = NDArray[np.uint64] | Column[np.uint64]
"""Of rows, in order."""
BUG = "Nothing was written under its final name. Please report this as a bug."


def lost(what: str) -> SaefilterError:
    """The error of a broken link."""
    return SaefilterError(f"rows would be lost or changed: {what}", remedy=BUG)


def same_row(one: Any, other: Any) -> bool:
    """Whether two rows, or values in them, say the same.

    NaN is itself and `true` is not 1; 2 and 2.0 are the same number, since a column of both is one
    of doubles.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return all(same_row(one.get(key), other.get(key)) for key in {**one, **other})
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same_row, one, other))
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    return bool(one == other or (one != one and other != other))


def line_hash(raw: bytes) -> int:
    """`Row.digest` of a line as it stands, as a number."""
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "big")


def row_hashes_sha256(hashes: Iterable[NDArray[np.uint64]]) -> str:
    """One hash for the rows of a file: of their row hashes, which come some at a time, as hex digits, a line
    each, in order."""
    digest = hashlib.sha256()
    between = ""
    for some in hashes:
        if len(some):
            digits = some.astype(">u8").tobytes().hex("\n", 8)
            digest.update(f"{between}{digits}".encode())
            between = "\n"
    return digest.hexdigest()


@dataclass(frozen=True)
class Placed:
    """Which rows have one place, as a mask that is not held."""

    places: NDArray[np.int8]
    """Of all rows, `[n_rows]`."""
    place: int

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: slice) -> NDArray[np.bool_]:
        mask: NDArray[np.bool_] = self.places[rows] == self.place
        return mask

    @cached_property
    def count(self) -> int:
        return int(np.count_nonzero(self[:]))

    def hashes(self, hashes: Hashes) -> Iterator[NDArray[np.uint64]]:
        """Those of `hashes`, `[n_rows]`, that are of these rows, some at a time."""
        for start in range(0, len(self), BATCH_ROWS):
            here = slice(start, start + BATCH_ROWS)
            yield hashes[here][self[here]]


def check_scored(piece: Piece, hashes: Hashes, source: Source) -> None:
    """Link 1 for a piece of the input. `hashes` are those of the scores. Raises SaefilterError."""
    digests = piece.digests()
    expected = hashes[piece.first : piece.first + len(piece)]
    same = digests[: len(expected)] == expected
    if len(expected) < len(digests) or not same.all():
        wrong = piece.first + (len(same) if same.all() else int(np.argmin(same)))
        raise SaefilterError(
            f"row {wrong + 1} of {source.path} is not the row that was scored",
            remedy=f"Score it again: saefilter score {command_line(str(source.path))} --overwrite",
        )


class SampledRows:
    """Link 2: every so many rows that became a table are compared with the input."""

    def __init__(self, n_rows: int, source: Source):
        self._step = max(1, n_rows // N_COMPARED)
        self._until_next = 0
        self._source = source

    def check(self, table: pa.Table, piece: Piece, positions: Sequence[int]) -> None:
        """`table` holds the rows at `positions`. Raises SaefilterError where it does not."""
        while self._until_next < len(positions):
            row = piece.row(positions[self._until_next])
            held = table.slice(self._until_next, 1).to_pylist()
            decoded = json_cells(table.schema)
            if not (held and same_row(decoded(held[0]), row.data or {})):
                raise lost(f"row {row.index + 1} was not read as it stands in {self._source.path}")
            self._until_next += self._step
        self._until_next -= len(positions)


def check_parquet(path: Path, what: str, n_rows: int, content: str) -> None:
    """Link 3 for a Parquet file. Raises SaefilterError."""
    written = parquet_content(path)
    if written.rows != n_rows:
        raise lost(f"{written.rows:,} {what} rows were written of {n_rows:,}")
    if written.hexdigest() != content:
        raise lost(f"the {what} rows that were written are not those that were chosen")


def check_copied(
    path: Path,
    what: str,
    n_rows: int,
    hashes: Iterable[NDArray[np.uint64]],
    undo: Callable[[bytes, int], bytes] | None = None,
    name: str | None = None,
) -> None:
    """Link 3 for JSONL that was copied line by line: `hashes` are the rows', some at a time. `undo` takes back
    what was done to a line, by its number from 0; `name` is the final one. Raises SaefilterError."""
    number = 0
    with open_lines(path, name) as file:
        for expected in hashes:
            bare = [line.rstrip(b"\n") for line in islice(file, len(expected))]
            if undo is not None:
                bare = [undo(line, number + i) for i, line in enumerate(bare)]
            written = np.array([line_hash(line) for line in bare], dtype=np.uint64)
            same = written == expected[: len(written)]
            if not same.all():
                wrong = number + int(np.argmin(same)) + 1
                raise lost(f"line {wrong} of the {what} rows is not the row that was chosen")
            number += len(written)
            if len(written) < len(expected):
                raise lost(f"{number:,} {what} rows were written of {n_rows:,}")
        if file.readline():
            raise lost(f"more than {n_rows:,} {what} rows were written")


def check_rows_made(
    written: Iterator[dict[str, Any]],
    what: str,
    source: Source,
    chosen: Placed,
    added_to: AddedTo | None = None,
    part: tuple[int, str | None] = (0, None),
    as_written: Callable[[dict[str, Any]], dict[str, Any]] = lambda row: row,
) -> None:
    """Link 3 for lines that were made of values: the input is read again, and its `chosen` rows, with what was
    `added_to` them, are compared with those `written`. `part`: of one file of several, the number of its first
    row and what rows call it; `as_written`: what the format makes of a row. Raises SaefilterError."""
    number = 0
    for piece in pieces(source, *part):
        at = piece.first - part[0]
        here = np.flatnonzero(chosen[at : at + len(piece)]).tolist()
        expected = [row or {} for row in piece.values(here)]
        for row in added_to(expected, piece, here) if added_to else expected:
            if (entry := next(written, None)) is None:
                raise lost(f"{number:,} {what} rows were written of {chosen.count:,}")
            number += 1
            if not same_row(entry, as_written(row)):
                raise lost(f"line {number} of the {what} rows is not the row that was chosen")
    if next(written, None) is not None:
        raise lost(f"more than {chosen.count:,} {what} rows were written")


def unannotated(data: dict[str, Any], own: Sequence[str] = ()) -> dict[str, Any]:
    """A written row without the columns that were added to it; `own` are the input's."""
    return {name: value for name, value in data.items() if name in own or not is_added(name)}


def check_quarantined(
    entries: Iterator[dict[str, Any]],
    chosen: Placed,
    hashes: Hashes,
    first: int = 0,
) -> None:
    """Link 3 for quarantined rows: each entry is one of those `chosen`, and still has its row's hash; `first` is the number of the first of them. Raises SaefilterError."""
    missing = chosen[:]
    n_rows = 0
    for entry in entries:
        n_rows += 1
        row_id = int(entry[PREFIX + "row_id"]) - first
        expected = 0 <= row_id < len(missing) and missing[row_id]
        if not expected or not is_quarantined_row(entry, int(hashes[row_id])):
            raise lost(f"the quarantined row {first + row_id + 1} is not the one that was read")
        missing[row_id] = False
    if missing.any():
        raise lost(f"{n_rows:,} quarantined rows were written of {chosen.count:,}")


def is_quarantined_row(entry: dict[str, Any], row_hash: int) -> bool:
    """Whether an entry of a quarantined file holds the row of that hash.

    Rows that came as lines are kept as they stood; those of other formats as JSON, whose keys have
    to be sorted for the hash.
    """
    coded, text = entry[PREFIX + "bytes_hex"], entry[PREFIX + "text"]
    raw = bytes.fromhex(coded) if coded else text.encode()
    if text != raw.decode("utf-8", "backslashreplace"):
        return False
    if line_hash(raw) == row_hash:
        return True
    try:
        ordered = json.dumps(json.loads(text), sort_keys=True, ensure_ascii=True)
    except (ValueError, RecursionError):
        return False
    return line_hash(ordered.encode()) == row_hash


def entries_of(path: Path, name: str | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a written file as dicts, in pieces; those of CSV have nothing but texts. `name`: the final
    one, where the path is a temporary one."""
    kind = format_of(name or path.name)
    if kind == PARQUET:
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            for batch in batches_of(file, 1024):
                yield from map(json_cells(batch.schema), batch.to_pylist())
        return
    with open_lines(path, name) as lines:
        if kind == CSV:
            yield from (row.data or {} for row in csv_rows(lines, path))
            return
        for line in lines:
            yield json.loads(line)
