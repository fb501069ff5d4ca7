"""Which type a column of JSON values has, piece by piece, and what two pieces have in common.

Types are Arrow's, with one mark of our own: `int32` stands for integers that a double holds exactly,
`int64` for integers some of which it does not. Python's values never become an `int32` in Arrow, so
the mark is not mistaken; `plain` takes it off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

SHORT = pa.int32()
LONG = pa.int64()
EXACT = 1 << 53
"""Beyond, a double does not hold every integer."""


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
    once is the same.
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
    found = set()
    if pa.types.is_struct(kind):
        for field in kind:
            here = f"{path}/{field.name}"
            found |= {here, *field_paths(field.type, here)}
    return found
