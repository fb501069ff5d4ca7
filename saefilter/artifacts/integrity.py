"""Hashes of contents: of Arrow tables whatever their chunks and compression, and of files.

A Parquet file's bytes change with the library that writes it and with how rows were grouped; what a
scores file or a filtered dataset says does not. `ContentHash` is of the latter. It guards against
accident and confusion: whoever can edit a file can also write a new hash into it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from saefilter.errors import SaefilterError

BATCH_ROWS = 8192
"""Rows hashed together when a file is read; the hash does not depend on it."""
WINDOW_ROWS = 32_768
"""Row groups that are read at once have about so many rows together."""
LIBRARIES = ("torch", "transformers", "pyarrow", "numpy")
"""Whose versions are recorded with scores."""


class ContentHash:
    """A digest over the rows of one schema, fed batch by batch in order.

    Every column is taken apart into streams that grow with the rows alone (which values are null,
    how long each list or text is, the bytes of the values that are not null), and each stream has
    its own SHA-256: where one batch ends and the next begins leaves no trace. Columns count with
    name, order and kind. Kinds that Parquet does not tell apart are one kind: plain, large and
    dictionary-encoded texts, times in seconds and in milliseconds.
    """

    def __init__(self, schema: pa.Schema):
        self._columns = [(field.name, _Column(field.type)) for field in schema]
        self._rows = 0

    def update(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Add the next rows. Raises ValueError when the columns are not those of the schema."""
        if batch.schema.names != [name for name, _ in self._columns]:
            raise ValueError(f"columns {batch.schema.names}")
        for rows in batch.to_batches() if isinstance(batch, pa.Table) else [batch]:
            self._rows += rows.num_rows
            for (_, column), array in zip(self._columns, rows.columns, strict=True):
                column.update(array)

    @property
    def rows(self) -> int:
        """Rows so far."""
        return self._rows

    def hexdigest(self) -> str:
        """SHA-256 as hex of everything so far; more may follow."""
        said = [self._rows, [[name, column.summary()] for name, column in self._columns]]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


class _Column:
    """The streams of one column, and of the columns inside it."""

    def __init__(self, kind: pa.DataType):
        self._kind = kind = _plain(kind)
        self._streams = {"valid": hashlib.sha256()}
        self._inner: dict[str, _Column] = {}
        if _is_list(kind):
            self._name = "list"
            self._streams["lengths"] = hashlib.sha256()
            self._inner["item"] = _Column(kind.value_type)
        elif pa.types.is_struct(kind):
            self._name = "struct"
            self._inner = {field.name: _Column(field.type) for field in kind}
        else:
            self._name = str(kind)
            self._streams["values"] = hashlib.sha256()
            if _is_bytes(kind):
                self._streams["lengths"] = hashlib.sha256()

    def update(self, array: pa.Array) -> None:
        import pyarrow.compute as pc  # 25 ms, which `--help` need not take

        array = _as_plain(array, self._kind)
        self._streams["valid"].update(_numbers(pc.cast(array.is_valid(), pa.uint8())))
        if pa.types.is_null(self._kind):
            return
        if pa.types.is_struct(self._kind):  # flatten() hides what lies under a null struct
            for inner, values in zip(self._inner.values(), array.flatten(), strict=True):
                inner.update(values)
            return
        there = array.drop_null() if array.null_count else array
        if _is_list(self._kind):
            lengths = pc.cast(pc.list_value_length(there), pa.int64())
            self._streams["lengths"].update(_numbers(lengths))
            self._inner["item"].update(there.flatten())
        elif _is_bytes(self._kind):
            self._streams["lengths"].update(_numbers(pc.cast(pc.binary_length(there), pa.int64())))
            self._streams["values"].update(_text_bytes(there))
        else:
            if pa.types.is_boolean(self._kind):
                there = pc.cast(there, pa.uint8())
            self._streams["values"].update(_numbers(there))

    def summary(self) -> list[Any]:
        """Kind, digests of the streams and the inner columns, as JSON."""
        streams = {name: stream.hexdigest() for name, stream in self._streams.items()}
        return [self._name, streams, [[n, inner.summary()] for n, inner in self._inner.items()]]


def _plain(kind: pa.DataType) -> pa.DataType:
    """The one type that stands for all that Parquet reads back alike."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(kind.storage_type)
    if types.is_dictionary(kind):
        return _plain(kind.value_type)
    if types.is_map(kind):
        return pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)]))
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.large_binary()
    if types.is_timestamp(kind) and kind.unit == "s":
        return pa.timestamp("ms", kind.tz)
    if types.is_time32(kind):
        return pa.time32("ms")
    return pa.date32() if types.is_date64(kind) else kind


def _as_plain(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if isinstance(array, pa.ExtensionArray):
        return _as_plain(array.storage, kind)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    inner = kind.num_fields and not pa.types.is_map(array.type)  # what is inside is cast there
    return array if inner or array.type == kind else array.cast(kind)


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_large_binary(kind))


def _numbers(array: pa.Array) -> memoryview | bytes:
    """The bytes of values of fixed width, none of them null."""
    if not len(array):
        return b""
    width = array.type.bit_width // 8
    start = array.offset * width
    return memoryview(array.buffers()[1])[start : start + len(array) * width]


def _text_bytes(array: pa.Array) -> memoryview | bytes:
    """The bytes of large texts on end, none of them null."""
    _, offsets, values = array.buffers()
    if not len(array) or values is None:
        return b""
    ends = memoryview(offsets).cast("q")
    return memoryview(values)[ends[array.offset] : ends[array.offset + len(array)]]


def content_sha256(schema: pa.Schema, batches: Iterable[pa.RecordBatch | pa.Table]) -> str:
    """Hash of the rows of `batches`, one after the other, whatever their sizes."""
    content = ContentHash(schema)
    for batch in batches:
        content.update(batch)
    return content.hexdigest()


def row_group_windows(metadata: Any, window_rows: int = WINDOW_ROWS) -> list[list[int]]:
    """The row groups of a Parquet file, by number, those together that are read at once."""
    windows: list[list[int]] = []
    held = 0
    for number in range(metadata.num_row_groups):
        if not windows or held >= window_rows:
            windows.append([])
            held = 0
        windows[-1].append(number)
        held += metadata.row_group(number).num_rows
    return windows


def batches_of(
    file: pq.ParquetFile, size: int, columns: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file, at most `size` at a time. Arrow's own iterator over all row groups holds what it
    has read of each until the last: fifty bytes a row of scores."""
    for groups in row_group_windows(file.metadata):
        yield from file.iter_batches(batch_size=size, row_groups=groups, columns=columns)


def parquet_content(path: Path) -> ContentHash:
    """Hash of a Parquet file's rows, a batch at a time. Raises SaefilterError when it is damaged."""
    try:
        with pq.ParquetFile(path) as file:
            content = ContentHash(file.schema_arrow)
            for batch in batches_of(file, BATCH_ROWS):
                content.update(batch)
    except (pa.ArrowException, OSError) as error:
        raise SaefilterError(
            f"cannot be read to its end ({str(error).splitlines()[0]})",
            where=str(path),
            remedy="It is damaged or cut off; make it again.",
        ) from error
    return content


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes, as hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while raw := file.read(1 << 20):
            digest.update(raw)
    return digest.hexdigest()


def library_versions() -> dict[str, str]:
    """Versions of what computes and writes, without importing any of it."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
