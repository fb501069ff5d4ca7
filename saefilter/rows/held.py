"""Data that a Python program holds, as a file that everything else can read, and rows of them as they came.

Rows in memory take the same way as rows in files, so that they are read, quarantined and hashed alike.
Data frames come through the Arrow capsule interface (`__arrow_c_stream__`); none of their libraries is
imported here.
"""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Union, cast

import numpy as np
import pyarrow as pa

from saefilter.errors import SaefilterError
from saefilter.rows.arrow import rows_in
from saefilter.rows.frames import frame_table, plain_type
from saefilter.rows.inputs import open_input
from saefilter.rows.read import Source

if TYPE_CHECKING:
    from datasets import Dataset


class ArrowStream(Protocol):
    """What offers its rows by the Arrow capsule interface: a data frame of pandas or polars, a relation of
    DuckDB, a stream of record batches."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


Rows: TypeAlias = Iterable[Mapping[str, Any]]
Data: TypeAlias = Union[str, "os.PathLike[str]", "Dataset", ArrowStream, Rows]
"""A dataset: whatever the command line can read, a `datasets.Dataset`, a data frame, an Arrow table, or dicts."""
BATCH_ROWS = 1000
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Of errors of the system: a full disk, a quota, one that is read only."""


@dataclass(frozen=True)
class Held:
    """A dataset as a source, and how to take rows out of it as what it was."""

    source: Source
    take: Callable[[Sequence[int]], Any]
    """Rows by their ids, as what the dataset was: a `datasets.Dataset`, a data frame with its dtypes and its index, an
    Arrow table or record batch; an Arrow table of what else offers Arrow, a list of dicts for everything else."""
    look: Callable[[Sequence[int]], list[Mapping[str, Any]]] | None = None
    """The same as dicts, for a few rows of data in memory; None for data that have a name."""


def hold(data: Data, folder: Path) -> Held:
    """A dataset as a source; what is in memory is written into `folder`.

    Raises SaefilterError for what is no dataset.
    """
    if isinstance(data, (str, os.PathLike)):
        source = open_input(os.fspath(data))
        return Held(source, lambda ids: [dict(row.data or {}) for row in source.rows(set(ids))])
    if _is_a(data, "Dataset", "datasets"):
        return _dataset(data, folder)
    if _is_a(data, "DataFrame", "pandas"):
        return _pandas(data, folder)
    if _is_a(data, "Series", "pandas") or _is_a(data, "Series", "polars"):
        raise SaefilterError(
            "a Series is one column, not a dataset", remedy="Give series.to_frame('text')."
        )
    if _is_a(data, "LazyFrame", "polars"):
        raise SaefilterError("a LazyFrame has no rows yet", remedy="Give its frame.collect().")
    if _is_a(data, "DataFrame", "polars"):
        return _polars(data, folder)
    if hasattr(data, "__arrow_c_stream__"):
        return _arrow(data, folder)
    if isinstance(data, Mapping) or not isinstance(data, Iterable):
        raise SaefilterError(
            f"a {type(data).__name__} is not a dataset",
            remedy="Give a file name, a datasets.Dataset, a data frame, an Arrow table or an iterable of dicts.",
        )
    return _dicts(cast(Rows, data), folder)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for the time of a call, for data that are in memory. Raises SaefilterError where there is no
    room for it."""
    try:
        with tempfile.TemporaryDirectory(prefix="saefilter-") as folder:
            try:
                yield Path(folder)
            except SaefilterError as error:
                _name_no_scratch(error, Path(folder).parent)
                raise
    except OSError as error:
        full = error.errno in NO_ROOM or "No space left" in str(error)
        if not full and "temporary directory" not in str(error):
            raise
        raise SaefilterError(
            f"there is no room for temporary files ({error.strerror or error})",
            remedy="Make room, or name another folder by the variable TMPDIR.",
        ) from error


def _name_no_scratch(error: SaefilterError, parent: Path) -> None:
    """An error on data in memory, of this call or of the one that made the scores, says what they are."""
    scratch = re.escape(str(parent)) + r"[/\\]saefilter-\w{8}[/\\]"
    again = rf"saefilter score (['\"]?){scratch}\w+\.\w+\1(?: --overwrite)?"
    for pattern, words in (
        (again, "saefilter.score(data)"),
        (scratch + r"scores\.parquet", "the scores"),
        (scratch + r"\w+\.\w+", "the data"),
    ):
        error.say_instead(pattern, words)


def _is_a(data: Any, name: str, library: str) -> bool:
    """Whether it is one of that class, or of a subclass, without importing the library."""
    return any(
        kind.__name__ == name and kind.__module__.partition(".")[0] == library
        for kind in type(data).__mro__
    )


def _dataset(data: Any, folder: Path) -> Held:
    if (data.format or {}).get("type") == "custom":  # its rows are made when they are looked at
        raise SaefilterError(
            "the dataset has a transform, which reading its columns passes over",
            remedy="Make its rows first: Dataset.from_list(list(data)), or data.map in place of it.",
        )
    plain, schema = data.with_format("arrow"), data.features.arrow_schema
    tables = (table.cast(schema) for table in plain.iter(BATCH_ROWS))
    source = _written(tables, schema, folder / "dataset.arrow")

    def look(ids: Sequence[int]) -> list[Mapping[str, Any]]:
        return _dicts_of(plain.select(ids)[:].cast(schema), source)

    return Held(source, data.select, look)


def _pandas(data: Any, folder: Path) -> Held:
    """A frame's index is no column of its rows, and stays theirs."""
    table = frame_table(data)
    source = _written(_slices(table), table.schema, folder / "frame.arrow")

    def take(ids: Sequence[int]) -> Any:
        return data.iloc[np.asarray(ids, dtype=np.int64)]

    return Held(source, take, lambda ids: _dicts_of(frame_table(take(ids)), source))


def _arrow(data: Any, folder: Path) -> Held:
    """An Arrow table, or what gives one. A stream can be read once, so what was read stays in memory."""
    try:
        table = data if isinstance(data, pa.Table) else pa.table(data)
        # all of it at once: of a slice of lists Arrow would cast all that the lists hold, slice for slice
        plain = _without_views(table)
        source = _written(_slices(plain), plain.schema, folder / "table.arrow")
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise SaefilterError(
            f"the rows of a {type(data).__name__} cannot be had ({str(error).splitlines()[0][:200]})",
            remedy="Give a table with types that Arrow can take rows of.",
        ) from error

    def taken(ids: Sequence[int]) -> pa.Table:
        return _taken(table, ids)

    def take(ids: Sequence[int]) -> Any:
        if isinstance(data, pa.RecordBatch):
            rows = taken(ids).combine_chunks().to_batches()
            return rows[0] if rows else data.slice(0, 0)
        return taken(ids)

    return Held(source, take, lambda ids: _dicts_of(taken(ids), source))


def _polars(data: Any, folder: Path) -> Held:
    """A frame of polars, which of its dtype Object would hand over addresses."""
    for name, dtype in data.schema.items():
        if str(dtype) == "Object":
            raise SaefilterError(
                f"column {name!r} holds Python objects, which are not data",
                remedy="Drop it, or give an iterable of dicts.",
            )

    def take(ids: Sequence[int]) -> Any:
        return data[np.asarray(ids, dtype=np.int64)]

    source = _arrow(data, folder).source
    return Held(source, take, lambda ids: _dicts_of(pa.table(take(ids)), source))


def _taken(table: pa.Table, ids: Sequence[int]) -> pa.Table:
    """Rows by their ids. Arrow takes no views of texts (pyarrow 26), so they become texts on the way."""
    return _without_views(table).take(pa.array(ids, pa.int64())).cast(table.schema)


def _without_views(table: pa.Table) -> pa.Table:
    return table.cast(_plain_schema(table.schema, dictionaries=False))


def _slices(table: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, BATCH_ROWS):
        yield table.slice(start, BATCH_ROWS)


def _plain_schema(schema: pa.Schema, *, dictionaries: bool) -> pa.Schema:
    """With types that everything reads; `dictionaries`: with their values in place of them."""
    fields = [
        pa.field(one.name, plain_type(one.type, dictionaries=dictionaries), one.nullable)
        for one in schema
    ]
    return pa.schema(fields)


def _written(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> Source:
    """An Arrow file of some tables, as a source.

    Equal rows give equal bytes, and so the same hash: however they lie in chunks, whatever is in memory where a
    value is missing (taking all of them writes it anew), whatever a dictionary holds besides (polars shares one
    among frames), and whatever is known of the columns besides their types.
    """
    plain = _plain_schema(schema, dictionaries=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, plain) as to:
        for table in tables:
            same = _without_views(table).cast(plain).take(pa.array(range(len(table)), pa.int64()))
            for batch in same.combine_chunks().to_batches():
                to.write_batch(batch)
    return Source.open(path)


def _dicts_of(table: pa.Table, source: Source) -> list[Mapping[str, Any]]:
    """Some rows, as reading the file gives them; empty ones for what cannot be read."""
    batches = _without_views(table).combine_chunks().to_batches()
    return [row.data or {} for batch in batches for row in rows_in(batch, source.path, "arrow")]


def _dicts(data: Rows, folder: Path) -> Held:
    """Dicts become JSON lines, which may differ in their columns and types."""
    rows, path = [], folder / "rows.jsonl"
    with open(path, "w", encoding="utf-8") as file:
        for number, row in enumerate(data, start=1):
            try:
                line = json.dumps(row)
            except (TypeError, ValueError, RecursionError) as error:
                raise SaefilterError(
                    f"row {number} cannot be written as JSON ({error})",
                    remedy="Give rows of texts, numbers, lists and dicts, or an Arrow table.",
                ) from error
            file.write(line + "\n")
            rows.append(row)

    def take(ids: Sequence[int]) -> list[Any]:
        return [rows[i] for i in ids]

    return Held(Source.open(path), take, take)
