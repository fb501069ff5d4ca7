"""One pass over the input that puts every row into the file where it belongs, and proves that none is
lost: each file is written a piece at a time, and read back when it is whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saefilter.artifacts.integrity import ContentHash
from saefilter.artifacts.provenance import METADATA_KEY
from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.filtering.conserve import (
    Hashes,
    Placed,
    SampledRows,
    check_copied,
    check_parquet,
    check_quarantined,
    check_rows_made,
    check_scored,
    entries_of,
    lost,
    row_hashes_sha256,
)
from saefilter.filtering.outputs import refuse_own_columns
from saefilter.filtering.soft import Additions
from saefilter.filtering.switch import Switches
from saefilter.report.build import Quarantine
from saefilter.rows.arrow import json_cells
from saefilter.rows.pieces import LinePiece, Piece, pieces, rare_garbage_collection
from saefilter.rows.read import Source
from saefilter.rows.tables import UNTYPED, TypedRows
from saefilter.rows.write import (
    LineRows,
    ParquetRows,
    QuarantinedRow,
    json_line,
    quarantine_schema,
)
from saefilter.rows.written import CSV, PARQUET, csv_line, csv_mark, csv_names, csv_text, format_of

KEPT, DROPPED, QUARANTINED = 0, 1, 2
"""Places of rows."""
ROLES = {KEPT: "kept", DROPPED: "dropped", QUARANTINED: "quarantined"}


def partition(
    source: Source,
    places: NDArray[np.int8],
    hashes: Hashes,
    parts: Mapping[int, Part],
) -> None:
    """Write every row of the input to the part of its place, and check what was written.

    `places` and `hashes`, those of the scores, are `[n_rows]`. Raises SaefilterError when a row is
    not the one that was scored, cannot be written, or is not read back as it was written.
    """
    with rare_garbage_collection(), ExitStack() as stack:
        for part in parts.values():
            stack.callback(part.abandon)
        n_read = 0
        for piece in pieces(source):
            check_scored(piece, hashes, source)
            here = places[piece.first : piece.first + len(piece)]
            for place, part in parts.items():
                if positions := np.flatnonzero(here == place).tolist():
                    part.write(piece, positions)
            n_read += len(piece)
        if n_read != len(hashes):
            raise lost(f"{n_read:,} rows were read of {len(hashes):,}")
        _check_conservation(places, parts)
        for part in parts.values():
            part.close()


def _check_conservation(places: NDArray[np.int8], parts: Mapping[int, Part]) -> None:
    """Every input row was given to one part."""
    n_written = {place: parts[place].n_written if place in parts else 0
                 for place in (KEPT, DROPPED, QUARANTINED)}  # fmt: skip
    if any(Placed(places, place).count != count for place, count in n_written.items()):
        raise SaefilterError(
            f"rows would be lost: {n_written[KEPT]} kept, {n_written[DROPPED]} dropped and "
            f"{n_written[QUARANTINED]} quarantined are not the {len(places)} rows of the input",
            remedy="Nothing was written. Please report this as a bug.",
        )


class Reasons:
    """Why rows were not scored, asked for in the rows' order, so that few are held."""

    def __init__(self, scores: Scores):
        self._batches = self._read(scores)
        self._first = 0
        self._held: list[str | None] = []

    @staticmethod
    def _read(scores: Scores) -> Iterator[list[str | None]]:
        for batch in scores.batches(["reason"]):
            yield batch.column(0).to_pylist()

    def of(self, row_id: int) -> str:
        """The reason of a row; its id is larger than that of the one before."""
        while row_id >= self._first + len(self._held):
            self._first += len(self._held)
            self._held = next(self._batches)
        return self._held[row_id - self._first] or "not scored"


class Part(Protocol):
    """One file and the rows that belong in it."""

    n_written: int

    def write(self, piece: Piece, positions: Sequence[int]) -> None:
        """Add rows. Raises SaefilterError for what the format cannot hold."""

    def close(self) -> None:
        """End the file and read it back. Raises SaefilterError when it does not hold its rows."""

    def abandon(self) -> None:
        """Close what is open, whatever is missing."""


@dataclass(frozen=True)
class Chosen:
    """The rows of one file."""

    role: str
    """`kept`, `dropped` or `quarantined`."""
    path: Path
    """The temporary name."""
    rows: TypedRows
    mask: Placed
    """Which rows of the input."""
    hashes: Hashes
    """Of all rows of the input, `[n_rows]`."""
    made_by: dict[str, Any]
    name: str
    """The final one."""
    part: tuple[int, str | None] = (0, None)
    """Of an input that is itself one file of several: the number of its first row, and what rows call it."""
    one_table: bool = True
    """Whether rows that JSONL gets have to fit into one table; else they are written as they are."""

    @property
    def n_rows(self) -> int:
        return self.mask.count

    def metadata(self, content: str | None) -> dict[bytes, bytes]:
        """What a Parquet file says of itself."""
        made = {
            **self.made_by,
            "role": self.role,
            "rows": self.n_rows,
            "row_hashes_sha256": row_hashes_sha256(self.mask.hashes(self.hashes)),
            "content_sha256": content,
        }
        return {METADATA_KEY: json.dumps(made).encode()}


class ParquetPart:
    """Kept or dropped rows as Parquet."""

    def __init__(self, chosen: Chosen, notes: Additions | None = None):
        self.n_written = 0
        self._chosen = chosen
        self._notes = notes
        own = chosen.rows.schema
        schema = notes.schema(own) if notes else own
        self._sample = SampledRows(chosen.n_rows, chosen.rows.source)
        self._content = ContentHash(schema)
        self._file = ParquetRows(chosen.path, schema)

    def write(self, piece: Piece, positions: Sequence[int]) -> None:
        self.n_written += len(positions)
        table = self._chosen.rows.table(piece, positions)
        self._sample.check(table, piece, positions)
        if self._notes:
            table = self._notes.table(table, piece, positions)
        self._content.update(table)
        self._file.write(table)

    def close(self) -> None:
        content = self._content.hexdigest()
        self._file.close(self._chosen.metadata(content))
        check_parquet(self._chosen.path, self._chosen.role, self._chosen.n_rows, content)

    def abandon(self) -> None:
        self._file.abandon()


class LinesPart:
    """Kept or dropped rows as JSONL or CSV: lines of a JSONL input as they stand, unless something is added
    to them."""

    def __init__(self, chosen: Chosen, notes: Additions | None = None):
        self.n_written = 0
        self._chosen = chosen
        self._notes = notes
        self._untyped = chosen.rows.source.kind in UNTYPED or not chosen.one_table
        self._copies = chosen.rows.source.kind == "jsonl" and (
            notes is None or isinstance(notes, Switches)
        )
        self._sample = SampledRows(chosen.n_rows, chosen.rows.source)
        self._file = LineRows(chosen.path, chosen.name)
        self._names: list[str] | None = None
        """The columns of CSV."""
        if format_of(chosen.name) == CSV:
            own = csv_names(chosen.rows.source)
            added = notes.schema(pa.schema([(name, pa.string()) for name in own])) if notes else ()
            self._names = [*own, *(f.name for f in added if f.name not in own)]
            head = csv_mark(chosen.rows.source) + csv_line(self._names)
            self._file.write([head] if own else [])

    def write(self, piece: Piece, positions: Sequence[int]) -> None:
        self.n_written += len(positions)
        if self._copies and isinstance(piece, LinePiece):
            lines = (piece.raw[i] for i in positions)
            if isinstance(switches := self._notes, Switches):
                lines = (switches.line(piece.raw[i], piece.first + i) for i in positions)
            self._file.write(lines)
            return
        rows = self._values(piece, positions)
        if self._notes:
            if not self._chosen.one_table:  # nothing else has looked at all names
                refuse_own_columns(chain.from_iterable(rows), self._chosen.rows.source)
            rows = self._notes.rows(rows, piece, positions)
        if (names := self._names) is not None:
            self._file.write(csv_line(row.get(name) for name in names) for row in rows)
            return
        ids = [piece.first + i for i in positions]
        self._file.write(json_line(row, i) for row, i in zip(rows, ids, strict=True))

    def _values(self, piece: Piece, positions: Sequence[int]) -> list[dict[str, Any]]:
        if self._untyped:
            return [row or {} for row in piece.values(positions)]
        table = self._chosen.rows.table(piece, positions)
        self._sample.check(table, piece, positions)
        decoded = json_cells(table.schema)
        rows: list[dict[str, Any]] = [decoded(row) for row in table.to_pylist()]
        return rows

    def close(self) -> None:
        self._file.close()
        chosen, rows = self._chosen, self._chosen.rows
        if self._copies:
            undo = None
            if isinstance(back := self._notes, Switches):
                switches, ids = back, np.flatnonzero(chosen.mask[:]) + chosen.part[0]
                undo = lambda line, number: switches.line(line, int(ids[number]))  # noqa: E731
            hashes = chosen.mask.hashes(chosen.hashes)
            check_copied(chosen.path, chosen.role, chosen.n_rows, hashes, undo, chosen.name)
            return
        check_rows_made(
            entries_of(chosen.path, chosen.name), chosen.role, rows.source, chosen.mask,
            self._notes.rows if self._notes else None, chosen.part,
            (lambda row: row) if self._names is None else _as_texts,
        )  # fmt: skip

    def abandon(self) -> None:
        self._file.abandon()


def _as_texts(row: dict[str, Any]) -> dict[str, Any]:
    return {name: csv_text(value) for name, value in row.items()}


@dataclass
class QuarantinePart:
    """Rows set aside, in any format."""

    chosen: Chosen
    reason: Callable[[int], str]
    """Why a row is set aside; asked in the rows' order."""
    has_file: bool
    """The input is several files."""
    n_written: int = 0
    quarantine: Quarantine = field(default_factory=Quarantine)
    """For the report."""

    def __post_init__(self) -> None:
        self._schema = quarantine_schema(has_file=self.has_file)
        kind = format_of(self.chosen.name)
        self._file = (
            ParquetRows(self.chosen.path, self._schema)
            if kind == PARQUET
            else LineRows(self.chosen.path, self.chosen.name)
        )
        self._is_csv = kind == CSV
        if self._is_csv:
            mark = csv_mark(self.chosen.rows.source)
            self._file.write([mark + csv_line(self._schema.names)])

    def write(self, piece: Piece, positions: Sequence[int]) -> None:
        entries = []
        for i in positions:
            row = piece.row(i)
            aside = QuarantinedRow(row, self.reason(row.index))
            self.quarantine.add(row, aside.reason)
            entries.append(aside.entry(has_file=self.has_file))
        self.n_written += len(entries)
        if isinstance(self._file, ParquetRows):
            self._file.write(pa.Table.from_pylist(entries, schema=self._schema))
        elif self._is_csv:
            self._file.write(csv_line(entry.values()) for entry in entries)
        else:
            self._file.write(json_line(entry, piece.first) for entry in entries)

    def close(self) -> None:
        if isinstance(self._file, ParquetRows):
            self._file.close(self.chosen.metadata(None))
        else:
            self._file.close()
        entries = entries_of(self.chosen.path, self.chosen.name)
        check_quarantined(entries, self.chosen.mask, self.chosen.hashes, self.chosen.part[0])

    def abandon(self) -> None:
        self._file.abandon()
