"""The types of rows that are all held at once, as Arrow infers them: what the streaming reader in
`saefilter.rows.tables` is compared with. Simple, and as large as the data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from saefilter.rows import limits
from saefilter.rows.parse import json_type

UNFIT = "unfit"
MOST_TYPES = 64


def fit_columns(rows: dict[int, dict[str, Any]]) -> tuple[pa.Table, dict[int, str]]:
    """A table of the rows that agree in their types, and the others with their reasons."""
    rows, conflicts = _without_sprawl(rows)
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    arrays = {name: _array([row.get(name) for row in rows.values()]) for name in names}
    misfits = [name for name, array in arrays.items() if array is None]
    if not misfits:
        return pa.table(arrays), conflicts
    for name in misfits:
        for row_id, reason in _column_conflicts(name, {i: r.get(name) for i, r in rows.items()}):
            conflicts.setdefault(row_id, reason)
    fitting = [row for row_id, row in rows.items() if row_id not in conflicts]
    return pa.table({n: pa.array([row.get(n) for row in fitting]) for n in names}), conflicts


def _without_sprawl(
    rows: dict[int, dict[str, Any]],
) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    """The rows without those that bring more names than one table should have."""
    names: dict[str, None] = {}
    paths: dict[str, set[str]] = {}
    refused: dict[int, str] = {}
    for row_id, row in rows.items():
        if not row.keys() <= names.keys():
            if len(names.keys() | row.keys()) > limits.COLUMNS:
                refused[row_id] = f"with it there would be more than {limits.COLUMNS:,} columns"
                continue
            names |= dict.fromkeys(row)
        for name, value in row.items():
            if not isinstance(value, (dict, list)):
                continue
            known = paths.setdefault(name, set())
            new = _paths(value) - known
            if len(known) + len(new) > limits.COLUMNS:
                refused[row_id] = (
                    f"with it column {name[:40]!r} would have more than {limits.COLUMNS:,} fields"
                )
                break
            known |= new
    if not refused:
        return rows, {}
    return {row_id: row for row_id, row in rows.items() if row_id not in refused}, refused


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


def _column_conflicts(name: str, values: dict[int, Any]) -> Iterable[tuple[int, str]]:
    # Values of one inferred type stand or fall together; the commonest types choose first. All
    # values are tried, not one of each type: a long integer fits beside integers, not beside floats.
    types = {row_id: _inferred(value) for row_id, value in values.items()}
    of_type: dict[str, list[Any]] = {}
    for row_id, value in values.items():
        of_type.setdefault(types[row_id], []).append(value)
    accepted: list[Any] = []
    refused: set[str] = set()
    ranked = sorted(of_type.items(), key=lambda item: -len(item[1]))
    for rank, (kind, found) in enumerate(ranked):
        if kind != UNFIT and rank < MOST_TYPES and _fits([*accepted, *found]):
            accepted += found
        else:
            refused.add(kind)
    usual = json_type(next((value for value in accepted if value is not None), None))
    for row_id, value in values.items():
        if types[row_id] in refused:
            here = json_type(value)
            detail = (
                f"{here} of more than one type within, or too large a number"
                if types[row_id] == UNFIT
                else f"{here} where the rows in the table have {usual}"
                if here != usual
                else (f"{here} whose inner types differ from those of the rows in the table")
            )
            yield row_id, f"column {name[:40]!r} is {detail}, which one table cannot hold"


def _inferred(value: Any) -> str:
    array = _array([value])  # infer_type alone accepts integers that do not fit
    return UNFIT if array is None else str(array.type)


def _fits(values: list[Any]) -> bool:
    return _array(values) is not None


def _array(values: list[Any]) -> pa.Array | None:
    """The values as one column, or None when it could not hold each of them as it is."""
    try:
        array = pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeError):
        return None
    # pyarrow takes a boolean among numbers for 0 or 1; nothing else is changed without an error
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
