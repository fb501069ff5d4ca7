"""The columns of a JSON dataset and their types, and the rows that do not fit, in constant memory.

JSON has one type per value, Arrow one per column. Where rows disagree, those that differ from the
majority are named, so that the caller can set them aside; none is bent to fit. The rows are read
once where all agree; where they do not, a second time to count types and a third time to type what
is left. What is kept is what `column_types` returns: types, and a number for each row.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saefilter.errors import SaefilterError
from saefilter.rows import limits
from saefilter.rows.parse import json_type
from saefilter.rows.pieces import Piece
from saefilter.rows.types import (
    EXACT,
    column,
    common,
    field_paths,
    inferred,
    marked,
    plain,
    type_of,
)

UNFIT = "unfit"
SHAPES = 10_000
"""Whose kind is remembered."""
MOST_TYPES = 64
"""Types of one column that are tried with each other: no hostile file shall have more."""

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
        found = [(i, row) for i, row in zip(positions, values, strict=True) if row is not None]
        if conflicts is not None and len(found) < len(positions):
            for i, row in zip(positions, values, strict=True):
                if row is None:  # the scores are of a version that read less strictly
                    conflicts.add(piece.first + i, piece.row(i).error or "unreadable")
        if found:
            yield [piece.first + i for i, _ in found], [row for _, row in found]


class Survey:
    """The columns of rows that are added some at a time."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        """Of the columns, in the order in which they came."""
        self.types: dict[str, pa.DataType] = {}
        """Marked; see types.py."""
        self.misfits: set[str] = set()
        """Columns whose values do not have one type."""
        self._seen: dict[str, None] = {}
        """Names that count for the limit: also those of rows that brought too many fields."""
        self._paths: dict[str, set[str]] = {}
        self._inferred: dict[str, pa.DataType | None] = {}
        """The last types whose fields are among the paths."""

    def add(self, rows: Sequence[dict[str, Any]]) -> dict[int, str]:
        """Take in rows. Returns those that bring more names than one table should have: position
        -> reason; they change nothing."""
        refused: dict[int, str] = {}
        # a piece of one row may be a very large one, which is not shown to Arrow unseen
        kinds = self._take_names(rows) if len(rows) > 1 else None
        if kinds is None:
            refused = self._sprawling(rows)
            rows = [row for i, row in enumerate(rows) if i not in refused]
            kinds = {name: inferred([row.get(name) for row in rows]) for name in _names(rows)}
        for name, kind in kinds.items():
            self.names[name] = None
            narrow = None if kind is None else type_of([row.get(name) for row in rows], kind)
            merged = None if narrow is None else common(self.types.get(name, pa.null()), narrow)
            if merged is None:
                self.misfits.add(name)
            else:
                self.types[name] = merged
        return refused

    def _take_names(self, rows: Sequence[dict[str, Any]]) -> dict[str, pa.DataType | None] | None:
        """Note all columns and fields, and infer their types; None, with nothing noted, where some
        of the rows may have brought too many."""
        names = _names(rows)
        if len({*self._seen, *names}) > limits.COLUMNS:
            return None
        kinds = {}
        grown = {}
        for name in names:
            kinds[name] = kind = inferred([row.get(name) for row in rows])
            if kind is None:
                found = set().union(*(_paths(row[name]) for row in rows if name in row))
            elif kind == self._inferred.get(name) or not pa.types.is_nested(kind):
                continue
            else:
                found = field_paths(kind)
            grown[name] = self._paths.get(name, set()) | found
            if len(grown[name]) > limits.COLUMNS:
                return None
        self._seen |= names
        self._paths |= grown
        self._inferred |= kinds
        return kinds

    def _sprawling(self, rows: Sequence[dict[str, Any]]) -> dict[int, str]:
        refused = {}
        for i, row in enumerate(rows):
            if not row.keys() <= self._seen.keys():
                if len(self._seen.keys() | row.keys()) > limits.COLUMNS:
                    refused[i] = f"with it there would be more than {limits.COLUMNS:,} columns"
                    continue
                self._seen |= dict.fromkeys(row)
            for name, value in row.items():
                if not isinstance(value, (dict, list)):
                    continue
                known = self._paths.setdefault(name, set())
                new = _paths(value) - known
                if len(known) + len(new) > limits.COLUMNS:
                    refused[i] = (
                        f"with it column {name[:40]!r} would have more than {limits.COLUMNS:,} fields"
                    )
                    break
                known |= new
        return refused


def _names(rows: Sequence[dict[str, Any]]) -> dict[str, None]:
    """Of the columns, in the order in which they come."""
    return dict.fromkeys(name for row in rows for name in row)


def _paths(value: Any, path: str = "") -> set[str]:
    """Where the fields of the objects in a value lie."""
    if isinstance(value, list):
        return {found for item in value if item for found in _paths(item, path)}
    if not isinstance(value, dict):
        return set()
    found = set()
    for name, item in value.items():
        here = f"{path}/{name}"
        found.add(here)
        if isinstance(item, (dict, list)):
            found |= _paths(item, here)
    return found


def _survey_again(read: Pieces, wanted: NDArray[np.bool_]) -> dict[str, pa.DataType]:
    survey = Survey()
    for _, rows in _wanted_rows(read, wanted):
        survey.add(rows)
    if survey.misfits:
        raise SaefilterError(
            f"the rows of column {min(survey.misfits)[:40]!r} have no common type",
            remedy="Nothing was written. Please report this as a bug.",
        )
    return survey.types


def _settle(read: Pieces, wanted: NDArray[np.bool_], survey: Survey, conflicts: _Conflicts) -> None:
    """Add the rows whose types in a column differ from those of most rows."""
    odd = {name: _Kinds() for name in survey.names if name in survey.misfits}
    ids = array("q")
    for row_ids, rows in _wanted_rows(read, wanted):
        ids.extend(row_ids)
        for name, kinds in odd.items():
            kinds.add([row.get(name) for row in rows])
    for name, kinds in odd.items():
        reasons = [conflicts.code(why) if why else 0 for why in kinds.refused(name)]
        found = np.array(reasons, dtype=np.int32)[np.frombuffer(kinds.codes, dtype=np.int32)]
        known = conflicts.codes[np.frombuffer(ids, dtype=np.int64)]
        conflicts.codes[np.frombuffer(ids, dtype=np.int64)] = np.where(known, known, found)


class _Kind(NamedTuple):
    """What values of one inferred type have in common."""

    name: str
    """Arrow's type of one such value alone, or UNFIT."""
    said: str
    """In the words of JSON."""


class _Kinds:
    """The inferred types of one column's values: how many of each, and which row has which.

    Values of one inferred type stand or fall together, and the commonest types choose first.
    """

    def __init__(self) -> None:
        self.codes = array("i")
        """Of each value, in order."""
        self._code_of: dict[_Kind, int] = {}
        self._types: list[pa.DataType] = []
        """By code: marked; a long integer fits beside integers, not beside floats."""
        self._counts: dict[str, int] = {}
        """By name of the kind, in the order in which they came."""
        self._known: dict[Hashable, tuple[_Kind, pa.DataType]] = {}
        """By shape, for the latest shapes."""

    def _kind_of(self, value: Any) -> tuple[_Kind, pa.DataType]:
        shape = _shape(value)
        known = self._known.get(shape)
        if known is None:
            if len(self._known) >= SHAPES:
                self._known.clear()
            known = self._known[shape] = _kind_of(value)
        return known

    def add(self, values: Sequence[Any]) -> None:
        for value in values:
            kind, narrow = self._kind_of(value)
            code = self._code_of.setdefault(kind, len(self._types))
            if code == len(self._types):
                self._types.append(narrow)
            elif self._types[code] is not narrow:
                self._types[code] = common(self._types[code], narrow)
            self._counts[kind.name] = self._counts.get(kind.name, 0) + 1
            self.codes.append(code)

    def refused(self, column: str) -> list[str | None]:
        """By code: why values of that kind do not fit, or None."""
        code_of = {kind.name: code for kind, code in self._code_of.items()}
        said_of = {kind.name: kind.said for kind in self._code_of}
        accepted: pa.DataType = pa.null()
        usual = json_type(None)
        refused = set()
        for rank, name in enumerate(sorted(self._counts, key=lambda name: -self._counts[name])):
            merged = None
            if name != UNFIT and rank < MOST_TYPES:
                merged = common(accepted, self._types[code_of[name]])
            if merged is None:
                refused.add(name)
                continue
            if pa.types.is_null(accepted):
                usual = said_of[name]
            accepted = merged
        return [
            _reason(column, kind.said, usual) if kind.name in refused else None
            for kind in self._code_of
        ]


def _reason(column: str, here: str, usual: str) -> str:
    if here != usual:
        detail = f"{here} where most rows have {usual}"
    else:
        detail = f"{here} whose inner types differ from those of most rows"
    return f"column {column[:40]!r} is {detail}, which one table cannot hold"


def _kind_of(value: Any) -> tuple[_Kind, pa.DataType]:
    """The kind of a value and its marked type."""
    kind = inferred([value])
    alone = None if kind is None else column([value], kind)
    if alone is None:
        return _Kind(UNFIT, json_type(value)), pa.null()
    return _Kind(str(alone.type), json_type(value)), marked(alone)


def _shape(value: Any) -> Hashable:
    """What decides a value's kind: values of one shape have one kind. Cheaper than to ask Arrow."""
    kind = type(value)
    if kind is int:
        if -EXACT <= value <= EXACT:
            return "short"
        return "long" if -(1 << 63) <= value < 1 << 63 else UNFIT
    if kind is dict:
        return (dict, *((name, _shape(item)) for name, item in value.items()))
    if kind is list:
        return (list, *dict.fromkeys(map(_shape, value)))
    return (kind,) if kind in (str, float, bool, type(None)) else (kind, repr(value))
