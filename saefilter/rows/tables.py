"""Rows as an Arrow table, with the types the input has and no value changed.

JSON has one column type per value, Arrow one per column. Where a file's rows disagree, the rows that
differ from the majority are named, so that the caller can quarantine them; none is bent to fit.
Python's json reads the rows: Arrow's own JSON reader turns `[null, false]` into `[false, false]`,
texts that look like dates into times, and long integers into doubles.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from saefilter.errors import SaefilterError
from saefilter.rows import limits
from saefilter.rows.arrow import arrow_table, parquet_table
from saefilter.rows.parse import json_type
from saefilter.rows.read import TABLES, Source, jsonl_lines


@dataclass(frozen=True)
class InputTable:
    """The wanted rows of an input, as they can be written."""

    table: pa.Table
    """One row per entry of `row_ids`."""
    row_ids: list[int]
    conflicts: dict[int, str]
    """Rows left out: row id -> which column's type differs from the other rows'."""
    lines: dict[int, bytes] | None = None
    """JSONL only: the rows as they stand in the file, for writing JSONL back byte by byte."""


def read_table(source: Source, wanted: list[int]) -> InputTable:
    """The rows whose ids are in `wanted` (ascending), with the input's columns, order and types."""
    if source.kind in TABLES:
        return InputTable(_typed_table(source).take(pa.array(wanted, pa.int64())), wanted, {})
    with _no_garbage_collection():
        return _read_rows(source, wanted)


def _typed_table(source: Source) -> pa.Table:
    """The files' own columns and types; several files must agree but for columns that lack."""
    tables = [
        parquet_table(file.path) if file.kind == "parquet" else arrow_table(file.path)
        for file in source.files
    ]
    try:
        return pa.concat_tables(tables, promote_options="default")
    except pa.ArrowException as error:
        raise SaefilterError(
            f"its files have columns of different types ({str(error).splitlines()[0]})",
            where=str(source.path),
            remedy="Filter the files one by one.",
        ) from error


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A hundred thousand parsed rows are walked again and again for cycles that JSON cannot have:
    a third of the time of reading them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read_rows(source: Source, wanted: list[int]) -> InputTable:
    keep = set(wanted)
    if source.kind == "jsonl" and source.files == (source,):
        with source.reading() as file:
            lines = {
                index: raw
                for index, (_line, raw) in enumerate(jsonl_lines(file, source.path))
                if index in keep
            }
        decode = json.JSONDecoder().decode  # the lines were read, checked and scored before
        rows = {index: decode(str(raw, "utf-8")) for index, raw in lines.items()}
        fitted, conflicts = _fit_columns(rows)
        return InputTable(fitted, [i for i in wanted if i not in conflicts], conflicts, lines)
    found = {row.index: row for row in source.rows(keep)}
    readable = {index: row.data for index, row in found.items() if row.data is not None}
    fitted, conflicts = _fit_columns(readable)
    # none, unless the scores are of a version that read less strictly
    conflicts |= {i: row.error or "unreadable" for i, row in found.items() if row.data is None}
    own_lines = {index: row.raw for index, row in found.items()} if source.kind == "jsonl" else None
    return InputTable(fitted, [i for i in wanted if i not in conflicts], conflicts, own_lines)


def _fit_columns(rows: dict[int, dict[str, Any]]) -> tuple[pa.Table, dict[int, str]]:
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
    # a column may hold nothing but nulls once its odd rows are gone; it keeps its name and place
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
                f"{here} where most rows have {usual}"
                if here != usual
                else (f"{here} whose inner types differ from those of most rows")
            )
            yield row_id, f"column {name[:40]!r} is {detail}, which one table cannot hold"


UNFIT = "unfit"
MOST_TYPES = 64
"""Types that are tried with each other, as each trial reads all values: no hostile file shall make
it one trial per row."""


def _inferred(value: Any) -> str:
    try:
        return str(pa.array([value]).type)  # infer_type alone accepts integers that do not fit
    except (pa.ArrowException, OverflowError, UnicodeError):
        return UNFIT


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


def write_parquet(table: pa.Table, path: Any, metadata: dict[bytes, bytes] | None = None) -> None:
    """Write a table. Raises SaefilterError for types that Parquet does not have."""
    if metadata:
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata})
    try:
        pq.write_table(table, path, compression="zstd")
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise SaefilterError(
            f"Parquet cannot hold this data ({str(error).splitlines()[0]})",
            remedy="Write JSONL, which copies the lines as they are: -o NAME.jsonl",
        ) from error
