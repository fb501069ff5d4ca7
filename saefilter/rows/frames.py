"""Data frames as Arrow tables, of types that everything reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from saefilter.errors import SaefilterError


def plain_type(kind: Any, *, dictionaries: bool) -> Any:
    """The type with texts in place of views of texts, for which Arrow lacks functions; `dictionaries`: with the
    values in place of a dictionary, too."""

    def plain(inner: Any) -> Any:
        return plain_type(inner, dictionaries=dictionaries)

    types = pa.types
    if kind == pa.string_view():
        return pa.large_string()
    if kind == pa.binary_view():
        return pa.large_binary()
    if types.is_dictionary(kind):
        value = plain(kind.value_type)
        return value if dictionaries else pa.dictionary(kind.index_type, value, kind.ordered)
    if types.is_fixed_size_list(kind):
        return pa.list_(_plain_field(kind.value_field, plain), kind.list_size)
    if types.is_list(kind):
        return pa.list_(_plain_field(kind.value_field, plain))
    if types.is_large_list(kind):
        return pa.large_list(_plain_field(kind.value_field, plain))
    if types.is_struct(kind):
        return pa.struct([_plain_field(one, plain) for one in kind])
    if types.is_map(kind):
        return pa.map_(plain(kind.key_type), plain(kind.item_type), kind.keys_sorted)
    return kind


def _plain_field(one: Any, plain: Callable[[Any], Any]) -> Any:
    return one.with_type(plain(one.type))


def frame_table(frame: Any) -> Any:
    """A data frame of pandas as an Arrow table, without its index. A column whose values differ in type, which
    Arrow does not have, holds them as JSON.

    Raises SaefilterError for two columns of one name.
    """
    names = [str(name) for name in frame.columns]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SaefilterError(
            f"two columns of the frame are named {twice[:40]!r}", remedy="Rename one of them."
        )
    columns = [_frame_column(frame.iloc[:, number]) for number in range(len(names))]
    return pa.table(columns, names=names)


def _frame_column(column: Any) -> Any:
    try:
        return pa.array(column, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        if not hasattr(pa, "json_"):
            raise SaefilterError(
                f"the values of column {str(column.name)[:40]!r} differ in type",
                remedy="Update pyarrow to 19 or later, or give frame.to_dict('records').",
            ) from error
        missing = column.isna()
        texts = [
            None if gone else json.dumps(value, default=_plain_value)
            for value, gone in zip(column, missing, strict=True)
        ]
        return pa.ExtensionArray.from_storage(
            pa.json_(pa.large_string()), pa.array(texts, pa.large_string())
        )


def _plain_value(value: Any) -> Any:
    """What JSON has in place of an array or a number of NumPy; the text of everything else."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
