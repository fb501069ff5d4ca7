"""Rows as Arrow tables, a piece at a time, with the types the input has and no value changed.

Python's json reads the rows: Arrow's own JSON reader turns `[null, false]` into `[false, false]`,
texts that look like dates into times, and long integers into doubles.

JSON has one type per value, Arrow one per column. Where rows disagree, those that differ from the
majority are named, so that the caller can set them aside; none is bent to fit. The rows are read
once where all agree; where they do not, a second time to count types and a third time to type what
is left. What is kept is what `column_types` returns: types, and a number for each row.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saefilter.errors import SaefilterError
from saefilter.rows.arrow import table_schema
from saefilter.rows.pieces import Piece, TablePiece, pieces, rare_garbage_collection
from saefilter.rows.read import TABLES, Source
from saefilter.rows.survey import Survey
from saefilter.rows.types import Kinds, plain

Pieces = Callable[[], Iterator[Piece]]
"""Reads the rows, from the first, each time it is called."""


class ColumnTypes(NamedTuple):
    """What a table of the rows that fit looks like."""

    schema: pa.Schema
    conflict: NDArray[np.int32]
    """`[n_rows]`: 0 for a row that fits (or was not wanted), else 1 + the index of its reason."""
    reasons: list[str]


def column_types(read: Pieces, wanted: NDArray[np.bool_]) -> ColumnTypes:
    """Names, order and types of the columns of the rows that are `wanted`, `[n_rows]`."""
    conflicts = _Conflicts(len(wanted))
    first = Survey()
    for ids, rows in _wanted_rows(read, wanted, conflicts):
        for position, reason in first.add(rows).items():
            conflicts.add(ids[position], reason)
    types = first.types
    if first.misfits:
        _settle(read, wanted & (conflicts.codes == 0), first, conflicts)
        types = _survey_again(read, wanted & (conflicts.codes == 0))
    # a column may hold nothing but nulls once its odd rows are gone; it keeps its name and place
    fields = [(name, plain(types.get(name, pa.null()))) for name in first.names]
    return ColumnTypes(pa.schema(fields), conflicts.codes, list(conflicts.reasons))


class _Conflicts:
    """Rows that do not fit, each with its first reason. Reasons are few, so a row takes four bytes."""

    def __init__(self, n_rows: int):
        self.codes = np.zeros(n_rows, dtype=np.int32)
        self.reasons: dict[str, int] = {}

    def code(self, reason: str) -> int:
        return self.reasons.setdefault(reason, len(self.reasons) + 1)

    def add(self, row_id: int, reason: str) -> None:
        self.codes[row_id] = self.code(reason)


def _wanted_rows(
    read: Pieces, wanted: NDArray[np.bool_], conflicts: _Conflicts | None = None
) -> Iterator[tuple[list[int], list[dict[str, Any]]]]:
    """Row ids and columns of the rows that are wanted; those that cannot be read are conflicts."""
    for piece in read():
        positions = np.flatnonzero(wanted[piece.first : piece.first + len(piece)]).tolist()
        values = piece.values(positions)
        readable = [(i, row) for i, row in zip(positions, values, strict=True) if row is not None]
        if conflicts is not None and len(readable) < len(positions):
            for i, row in zip(positions, values, strict=True):
                if row is None:  # the scores are of a version that read less strictly
                    conflicts.add(piece.first + i, piece.row(i).error or "unreadable")
        if readable:
            yield [piece.first + i for i, _ in readable], [row for _, row in readable]


def _survey_again(read: Pieces, wanted: NDArray[np.bool_]) -> dict[str, pa.DataType]:
    survey = Survey()
    for _, rows in _wanted_rows(read, wanted):
        survey.add(rows)
    if survey.misfits:
        raise SaefilterError(
            f"no one type holds the values of column {min(survey.misfits)[:40]!r}",
            remedy="Nothing was written. Please report this as a bug.",
        )
    return survey.types


def _settle(read: Pieces, wanted: NDArray[np.bool_], survey: Survey, conflicts: _Conflicts) -> None:
    """Add the rows whose types in a column differ from those of most rows."""
    odd = {name: Kinds() for name in survey.names if name in survey.misfits}
    ids = array("q")
    for row_ids, rows in _wanted_rows(read, wanted):
        ids.extend(row_ids)
        for name, kinds in odd.items():
            kinds.add([row.get(name) for row in rows])
    for name, kinds in odd.items():
        reasons = [conflicts.code(why) if why else 0 for why in kinds.refused(name)]
        codes = np.array(reasons, dtype=np.int32)[np.frombuffer(kinds.codes, dtype=np.int32)]
        known = conflicts.codes[np.frombuffer(ids, dtype=np.int64)]
        conflicts.codes[np.frombuffer(ids, dtype=np.int64)] = np.where(known, known, codes)


@dataclass(frozen=True)
class TypedRows:
    """The rows of an input and how they become tables."""

    source: Source
    schema: pa.Schema
    """The input's columns, in order."""
    conflict: NDArray[np.int32]
    """`[n_rows]`: 0 for a row that fits, else 1 + the index of the reason why it does not."""
    reasons: list[str]

    def why(self, row_id: int) -> str | None:
        """Which column's type differs from the other rows', or None for a row that fits."""
        code = int(self.conflict[row_id])
        return self.reasons[code - 1] if code else None

    def table(self, piece: Piece, positions: Sequence[int]) -> pa.Table:
        """Some rows of a piece, none of which is in conflict."""
        if isinstance(piece, TablePiece) and self.source.kind in TABLES:
            return self._of_batch(piece.batch, positions)
        rows = [row or {} for row in piece.values(positions)]
        arrays = [pa.array([row.get(f.name) for row in rows], f.type) for f in self.schema]
        return pa.table(arrays, schema=self.schema)

    def _of_batch(self, batch: pa.RecordBatch, positions: Sequence[int]) -> pa.Table:
        if any(map(_is_view, batch.schema.types)):  # pyarrow cannot take rows of these
            batch = batch.cast(pa.schema([f.with_type(_plain_type(f.type)) for f in batch.schema]))
        if len(positions) < batch.num_rows:
            batch = batch.take(pa.array(positions, pa.int64()))
        table = pa.Table.from_batches([batch])
        if not table.schema.equals(self.schema):  # of several files, one lacks columns
            table = pa.concat_tables(
                [self.schema.empty_table(), table], promote_options="permissive"
            )
        return table.replace_schema_metadata(self.schema.metadata)


def typed_rows(source: Source, wanted: NDArray[np.bool_]) -> TypedRows:
    """The columns of the rows that are `wanted`, `[n_rows]`, with the input's order and types."""
    if source.kind in TABLES:
        return TypedRows(source, _schema_of(source), np.zeros(len(wanted), dtype=np.int32), [])
    with rare_garbage_collection():
        return TypedRows(source, *column_types(lambda: pieces(source), wanted))


UNTYPED = ("jsonl", "json")
"""Kinds of input whose values have types, and whose columns have none: JSONL holds them as they are."""


def why_no_table(source: Source) -> str | None:
    """Why one table would not hold the rows of JSON as they are; None where it would.

    A column of objects holds the fields of all rows, so each row gains those that it lacks, as nulls. Of
    a turn that is harmless, and usual; of what a tool is called with it is another call:

        {"harbour": "Emden"}, {"time": "06:00"}  ->  {"harbour": "Emden", "time": null}, ...
    """
    if source.kind not in UNTYPED:
        return None
    survey = Survey()
    with rare_garbage_collection():
        for piece in pieces(source):
            survey.add([row for row in piece.values(range(len(piece))) if row is not None])
            if survey.misfits:
                return f"no one column type holds the values of {min(survey.misfits)!r}"
        deep = [name for name, kind in survey.types.items() if _has_fields_in_fields(kind)]
        fields: dict[str, frozenset[str]] = {}
        for piece in pieces(source) if deep else ():
            for row in piece.values(range(len(piece))):
                for name in deep:
                    if (path := _differing(row and row.get(name), name, 0, fields)) is not None:
                        return f"the fields of {path!r} differ from row to row"
    return None


def _has_fields_in_fields(kind: pa.DataType, depth: int = 0) -> bool:
    if pa.types.is_struct(kind):
        inner = (kind.field(i).type for i in range(kind.num_fields))
        return depth > 0 or any(_has_fields_in_fields(one, depth + 1) for one in inner)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _has_fields_in_fields(kind.value_type, depth)
    return False


def _differing(value: Any, path: str, depth: int, fields: dict[str, frozenset[str]]) -> str | None:
    """Where an object within an object has not the fields that the one before it had there; what each
    had is kept in `fields`."""
    if isinstance(value, list):
        found = (_differing(item, path, depth, fields) for item in value)
        return next((one for one in found if one is not None), None)
    if not isinstance(value, dict):
        return None
    if depth and fields.setdefault(path, frozenset(value)) != value.keys():
        return path
    inner = (_differing(item, f"{path}.{key}", depth + 1, fields) for key, item in value.items())
    return next((one for one in inner if one is not None), None)


def _schema_of(source: Source) -> pa.Schema:
    """The files' own columns and types; several files must agree but for columns that lack."""
    schemas = [
        pa.schema([f.with_type(_plain_type(f.type)) for f in schema], schema.metadata)
        for schema in (table_schema(file.path, file.kind) for file in source.files)
    ]
    if len(schemas) == 1:
        return schemas[0]
    try:
        unified = pa.unify_schemas(schemas, promote_options="permissive")
        for field in unified:  # no double holds every long integer
            kinds = [one.field(field.name).type for one in schemas if field.name in one.names]
            if pa.types.is_floating(field.type) and any(map(pa.types.is_integer, kinds)):
                raise pa.ArrowTypeError(f"field {field.name} has integers and decimals")
        return unified
    except pa.ArrowException as error:
        raise SaefilterError(
            f"its files have columns of different types ({str(error).splitlines()[0]})",
            where=str(source.path),
            remedy="Filter the files one by one.",
        ) from error


def _is_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string_view(kind) or pa.types.is_binary_view(kind))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that holds the same and that everything reads: polars writes texts as views."""
    if pa.types.is_string_view(kind):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary_view(kind) else kind
