"""Data that a Python program holds, as a file that everything else can read.

Rows in memory take the same way as rows in files, so that they are read, quarantined and hashed alike.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union, cast

import pyarrow as pa

from saefilter.errors import SaefilterError
from saefilter.rows.inputs import open_input
from saefilter.rows.read import Source

if TYPE_CHECKING:
    from datasets import Dataset

Rows: TypeAlias = Iterable[Mapping[str, Any]]
Data: TypeAlias = Union[str, "os.PathLike[str]", pa.Table, "Dataset", Rows]
"""A dataset: whatever the command line can read, an Arrow table, a `datasets.Dataset`, or dicts."""
BATCH_ROWS = 1000


@dataclass(frozen=True)
class Held:
    """A dataset as a source, and how to take rows out of it as what it was."""

    source: Source
    take: Callable[[Sequence[int]], Any]
    """Rows by their ids: a `datasets.Dataset` or an Arrow table for one, a list of dicts for else."""


def hold(data: Data, folder: Path) -> Held:
    """A dataset as a source; what is in memory is written into `folder`.

    Raises SaefilterError for what is no dataset.
    """
    if isinstance(data, (str, os.PathLike)):
        source = open_input(os.fspath(data))
        return Held(source, lambda ids: [dict(row.data or {}) for row in source.rows(set(ids))])
    if isinstance(data, pa.Table):
        table = data
        _write_arrow(table.to_batches(BATCH_ROWS), table.schema, folder / "table.arrow")
        return Held(
            Source.open(folder / "table.arrow"), lambda ids: table.take(pa.array(ids, pa.int64()))
        )
    if _is_dataset(data):
        return _dataset(data, folder)
    if isinstance(data, Mapping) or not isinstance(data, Iterable):
        raise SaefilterError(
            f"a {type(data).__name__} is not a dataset",
            remedy="Give a file name, a datasets.Dataset, an Arrow table or an iterable of dicts.",
        )
    return _dicts(cast(Rows, data), folder)


def _is_dataset(data: Any) -> bool:
    """Whether it is a `datasets.Dataset`, without importing datasets."""
    return any(
        kind.__name__ == "Dataset" and kind.__module__.startswith("datasets.")
        for kind in type(data).__mro__
    )


def _dataset(data: Any, folder: Path) -> Held:
    batches = data.with_format("arrow").iter(BATCH_ROWS)
    path = folder / "dataset.arrow"
    schema = data.features.arrow_schema
    _write_arrow((b for table in batches for b in table.cast(schema).to_batches()), schema, path)
    return Held(Source.open(path), data.select)


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
    return Held(Source.open(path), lambda ids: [rows[i] for i in ids])


def _write_arrow(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> None:
    # what is known of the schema besides its types (a fingerprint, say) must not change the hash
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema.remove_metadata()) as to:
        for batch in batches:
            to.write_batch(batch.replace_schema_metadata(None))
