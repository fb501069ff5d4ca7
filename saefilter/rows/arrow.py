"""Rows of Parquet and Arrow files. Their bytes are as untrusted as any text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from saefilter.errors import SaefilterError
from saefilter.rows import limits
from saefilter.rows.parse import parse_text

READ_BATCH_ROWS = 1024
PARQUET_BATCH_ROWS = 64
"""Fewer: a text of a dictionary is written out for each row before its size can be seen."""
BATCH_BYTES = 256 << 20


class TableRow(NamedTuple):
    """A row of a table, or why it cannot be read and what can be shown of it."""

    data: dict[str, Any] | None
    error: str | None = None
    raw: bytes = b""


def parquet_file(path: Path) -> Any:
    """A Parquet file, opened. Raises SaefilterError when it is none."""
    import pyarrow.parquet as pq

    with _errors(path, "parquet"):
        # or, since pyarrow 26, it holds all that was read until it is closed
        file = pq.ParquetFile(path, pre_buffer=False)
        _check_schema(file.schema_arrow, file.metadata.num_rows, path)
        # memory is set aside by what the groups state
        groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
        _check_count(sum(group.num_rows for group in groups), file.metadata.num_rows, path)
        return file


def arrow_table(path: Path) -> Any:
    """An Arrow IPC file or stream, mapped into memory and checked. Raises SaefilterError."""
    import pyarrow as pa

    with _errors(path, "arrow"):
        mapped = pa.memory_map(str(path))
        try:
            reader = pa.ipc.open_file(mapped)
        except pa.ArrowInvalid:
            mapped.seek(0)
            reader = pa.ipc.open_stream(mapped)
        table = reader.read_all()
        _check_schema(table.schema, table.num_rows, path)
        # offsets in the file are believed by whoever reads the values: wrong ones show the memory
        # of this process, or end it
        table.validate(full=True)
        return table


def table_schema(path: Path, kind: str) -> Any:
    """Columns and types of a file. Raises SaefilterError when it cannot be read."""
    return parquet_file(path).schema_arrow if kind == "parquet" else arrow_table(path).schema


def table_rows(path: Path, kind: str) -> Iterator[TableRow]:
    """Rows in order. Raises SaefilterError where the file cannot be read on."""
    for batch in table_batches(path, kind):
        yield from rows_in(batch, path, kind)


def table_batches(path: Path, kind: str) -> Iterator[Any]:
    """Consecutive rows as record batches. Raises SaefilterError where the file cannot be read on."""
    with _errors(path, kind):
        if kind == "parquet":
            from saefilter.artifacts.integrity import batches_of  # imports pyarrow

            file = parquet_file(path)
            batches = batches_of(file, _batch_rows(file.metadata, path.stat().st_size))
            stated = file.metadata.num_rows
        else:
            table = arrow_table(path)
            batches = _arrow_batches(table)
            stated = table.num_rows
        n_rows = 0
        for batch in batches:
            n_rows += batch.num_rows
            yield batch
        _check_count(n_rows, stated, path)


def _arrow_batches(table: Any) -> Iterator[Any]:
    for start in range(0, table.num_rows, READ_BATCH_ROWS):
        yield from table.slice(start, READ_BATCH_ROWS).to_batches()


def _batch_rows(metadata: Any, file_size: int) -> int:
    """Rows to decode at once: fewer where a group is so compressible that one value may be most of
    it, and be meant by every row.

    Asked of whole groups: for a damaged footer, pyarrow's accessors of single columns end the
    process.
    """
    fewest = PARQUET_BATCH_ROWS
    for number in range(metadata.num_row_groups):
        size = metadata.row_group(number).total_byte_size
        if size > limits.EXPANSION * file_size:
            fewest = min(fewest, max(1, BATCH_BYTES // size))
    return fewest


def rows_in(batch: Any, path: Path, kind: str) -> Iterator[TableRow]:
    """The rows of a batch of that file. Raises SaefilterError where they cannot be read on."""
    with _errors(path, kind):
        yield from _rows(batch)


def _rows(batch: Any) -> Iterator[TableRow]:
    import pyarrow as pa

    if _decoded_bytes(batch) <= limits.ROW_BYTES:
        try:
            rows = batch.to_pylist()
        except pa.ArrowException:
            raise
        except (ValueError, OverflowError, TypeError, RecursionError):
            rows = None  # one of them; the others are fine
        if rows is not None:
            decode = json_cells(batch.schema)
            yield from (TableRow(decode(row)) for row in rows)
            return
    for number in range(batch.num_rows):
        yield _row(batch.slice(number, 1))


def _decoded_bytes(batch: Any) -> int:
    """At most what its values take; a dictionary's text may be there once and meant a million
    times."""
    shared: int = sum(c.dictionary.nbytes for c in batch.columns if _has_dictionary(c))
    return int(batch.nbytes) + shared * int(batch.num_rows)


def _has_dictionary(column: Any) -> bool:
    import pyarrow as pa

    has_one: bool = pa.types.is_dictionary(column.type)
    return has_one


def _row(batch: Any) -> TableRow:
    import pyarrow as pa

    columns = [c.dictionary_decode() if _has_dictionary(c) else c for c in batch.columns]
    batch = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    if batch.nbytes > limits.ROW_BYTES:
        return TableRow(None, limits.too_long("the row"), _shown(batch))
    try:
        return TableRow(json_cells(batch.schema)(batch.to_pylist()[0]))
    except pa.ArrowException:
        raise
    except UnicodeDecodeError:
        return TableRow(None, "not UTF-8", _shown(batch))
    except (ValueError, OverflowError, TypeError, RecursionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return TableRow(None, f"a value cannot be read: {reason[:200]}", _shown(batch))


def json_cells(schema: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What makes values of the cells that hold JSON, as `datasets` writes columns whose values differ in
    type (`arrow.json`); everything else stays as it is."""
    of_json = {field.name: field.type for field in schema if _holds_json(field.type)}
    if not of_json:
        return lambda row: row
    return lambda row: {
        name: _value_of(cell, of_json[name]) if name in of_json else cell
        for name, cell in row.items()
    }


def _holds_json(kind: Any) -> bool:
    import pyarrow as pa

    if getattr(kind, "extension_name", "") == "arrow.json":
        return True
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _holds_json(kind.value_type)
    return pa.types.is_struct(kind) and any(_holds_json(field.type) for field in kind)


def _value_of(cell: Any, kind: Any) -> Any:
    if cell is None or not _holds_json(kind):
        return cell
    if isinstance(cell, str):
        value, problem = parse_text(cell)
        return cell if problem else value
    if isinstance(cell, list):
        return [_value_of(item, kind.value_type) for item in cell]
    return {field.name: _value_of(cell[field.name], field.type) for field in kind}


def _shown(batch: Any) -> bytes:
    """What can be told of a row that cannot be read: its columns, texts as their bytes."""
    import pyarrow as pa

    shown = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            value = column.view(
                pa.binary() if pa.types.is_string(column.type) else pa.large_binary()
            )
            told = value.slice(0, 1).to_pylist()[0] or b""
        else:
            told = f"({column.type})".encode()
        shown.append(name.encode() + b": " + told[: limits.KEPT_BYTES])
    return b"\n".join(shown)


def _check_schema(schema: Any, n_rows: int, path: Path) -> None:
    names = schema.names
    if n_rows > max(limits.ROWS_FROM, limits.EXPANSION * path.stat().st_size):
        raise SaefilterError(
            f"it states {n_rows:,} rows in {path.stat().st_size:,} bytes",
            where=str(path),
            remedy="That is damage, or a bomb; write the file again.",
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SaefilterError(
            f"two columns are named {twice[:40]!r}", where=str(path), remedy="Rename one of them."
        )


def _check_count(found: int, stated: int, path: Path) -> None:
    """A damaged file's rows and its own count of them may differ; row ids rest on both."""
    if found != stated:
        raise SaefilterError(
            f"it has {found:,} rows where it states {stated:,}",
            where=str(path),
            remedy="Write or download the file again.",
        )


@contextmanager
def _errors(path: Path, kind: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SaefilterError(
            f"not a readable {kind.capitalize()} file ({reason[:300]})",
            where=str(path),
            remedy="Write or download the file again.",
        ) from error
