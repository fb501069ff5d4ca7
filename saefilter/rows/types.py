"""Which type a column of JSON values has, piece by piece, what two pieces have in common, and which kinds
of values are kept together where rows disagree.

Types are Arrow's, with one mark of our own: `int32` stands for integers that a double holds exactly,
`int64` for integers some of which it does not. Python's values never become an `int32` in Arrow, so
the mark is not mistaken; `plain` takes it off.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from saefilter.rows.parse import json_type

SHORT = pa.int32()
LONG = pa.int64()
EXACT = 1 << 53
"""Beyond, a double does not hold every integer."""
UNFIT = "unfit"
SHAPES = 10_000
"""Whose kind is remembered."""
MOST_TYPES = 64
"""Types of one column that are tried with each other: no hostile file shall have more."""


def inferred(values: Sequence[Any]) -> pa.DataType | None:
    """The type that Arrow would give to values as one column, or None when they have none in common.

    Whether they fit is seen when they are converted: an integer of any length is an int64 here.
    """
    try:
        return pa.infer_type(values)
    except (pa.ArrowException, OverflowError, UnicodeError):
        return None


def type_of(values: Sequence[Any], kind: pa.DataType) -> pa.DataType | None:
    """The marked type of values whose inferred type is `kind`, or None when a column of it could not
    hold each as it is."""
    array = column(values, kind)
    return None if array is None else marked(array)


def column(values: Sequence[Any], kind: pa.DataType) -> pa.Array | None:
    """Values as one column, or None when it could not hold each of them as it is."""
    try:
        array = pa.array(values, kind)
    except (pa.ArrowException, OverflowError, UnicodeError):
        return None
    # older versions of pyarrow take a boolean among numbers for 0 or 1; nothing else is changed
    # without an error
    if array.type == LONG or pa.types.is_floating(array.type):
        return None if bool in set(map(type, values)) else array
    if any(word in str(array.type) for word in ("int", "double")):
        pairs = zip(values, array.to_pylist(), strict=True)
        if not all(_same(value, back) for value, back in pairs):
            return None
    return array


def _same(value: Any, back: Any) -> bool:
    """Whether a value came back as it was; structs may gain null fields."""
    if isinstance(value, dict):
        return all(_same(value.get(key), item) for key, item in back.items())
    if isinstance(value, list):
        return all(_same(item, other) for item, other in zip(value, back, strict=True))
    return isinstance(value, bool) == isinstance(back, bool)


def marked(array: pa.Array) -> pa.DataType:
    """The type of a column that was made of Python's values, marked."""
    kind = array.type
    if kind == LONG:
        ends = pc.min_max(array)
        least, most = ends["min"].as_py(), ends["max"].as_py()
        return SHORT if least is None or -EXACT <= least <= most <= EXACT else LONG
    if pa.types.is_list(kind):
        return pa.list_(marked(array.flatten()))
    if pa.types.is_struct(kind):
        inner = zip(kind, array.flatten(), strict=True)
        return pa.struct([(field.name, marked(values)) for field, values in inner])
    return kind


def plain(kind: pa.DataType) -> pa.DataType:
    """A marked type without the mark: as Arrow types the values."""
    if kind == SHORT:
        return LONG
    if pa.types.is_list(kind):
        return pa.list_(plain(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, plain(field.type)) for field in kind])
    return kind


def common(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The marked type of the values of both, or None when no column holds them as they are.

    Fields keep the order in which they came. What Arrow's own inference makes of all the values at
    once is the same. With types written as what they hold:

        int32           double              double: it holds each of these integers
        int64           double              None: it does not hold 2**53 + 1
        int32           int64               int64
        [null]          [string]            [string]: of rows, one has an empty list
        {a: int32}      {b: string,         {a: double, b: string}
                         a: double}
        {a: int32}      {a: string}         None
    """
    types = pa.types
    if one == other or types.is_null(other):
        return one
    if types.is_null(one):
        return other
    if {one, other} == {SHORT, LONG}:
        return LONG
    if {one, other} == {SHORT, pa.float64()}:
        return pa.float64()
    if types.is_list(one) and types.is_list(other):
        inner = common(one.value_type, other.value_type)
        return None if inner is None else pa.list_(inner)
    if types.is_struct(one) and types.is_struct(other):
        return _common_struct(one, other)
    if types.is_decimal(one) and types.is_decimal(other):
        return _common_decimal(one, other)
    return None


def _common_struct(one: pa.StructType, other: pa.StructType) -> pa.DataType | None:
    fields = {field.name: field.type for field in one}
    for field in other:
        inner = common(fields.get(field.name, pa.null()), field.type)
        if inner is None:
            return None
        fields[field.name] = inner
    return pa.struct(list(fields.items()))


def _common_decimal(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    scale = max(one.scale, other.scale)
    precision = scale + max(one.precision - one.scale, other.precision - other.scale)
    if precision > 76:
        return None
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


def field_paths(kind: pa.DataType, path: str = "") -> set[str]:
    """Where the fields of the objects in a type lie."""
    if pa.types.is_list(kind):
        return field_paths(kind.value_type, path)
    paths = set()
    if pa.types.is_struct(kind):
        for field in kind:
            here = f"{path}/{field.name}"
            paths |= {here, *field_paths(field.type, here)}
    return paths


class _Kind(NamedTuple):
    """What values of one inferred type have in common."""

    name: str
    """Arrow's type of one such value alone, or UNFIT."""
    said: str
    """In the words of JSON."""


class Kinds:
    """The inferred types of one column's values: how many of each, and which row has which.

    Values of one inferred type stand or fall together, and the commonest types choose first; of
    equally common ones, the one that came first. After add(["x", 1, 2.5, None, 2, "y", 3]) the codes are
    0 1 2 3 1 0 1, and refused("n") takes the types in this order:

        int64   three   int32 by its mark; the column is int32
        string  two     refused: a string where most rows have a number
        double  one     common(int32, double): the column is double
        null    one     fits any

    With 2**60 for the 3, the integers are marked int64, and 2.5 is refused as well: a number whose inner
    types differ from those of most rows.
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
            _reason(column, kind, usual) if kind.name in refused else None for kind in self._code_of
        ]


def _reason(column: str, kind: _Kind, usual: str) -> str:
    here = kind.said
    if kind.name == UNFIT:
        detail = f"{here} of more than one type within, or too large a number"
    elif here != usual:
        detail = f"{here} where the rows in the table have {usual}"
    else:
        detail = f"{here} whose inner types differ from those of the rows in the table"
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
