"""Write kept, dropped and quarantined rows a piece at a time: tables as Parquet, lines as they are."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from saefilter.errors import SaefilterError
from saefilter.rows.row import Row

GZIP_LEVEL = 6
"""As gzip itself has it."""
PREFIX = "saefilter_"
"""Of the columns that are added to dropped and quarantined rows; a trainer never sees them."""
TRAIT = "trait_"
"""Of the columns of a strategy that scores several traits, after the prefix."""
GROUP_ROWS = 32_768
GROUP_BYTES = 32 << 20
"""A row group of a Parquet file is written when it has as much as one of the two: more are held in
memory by whoever writes or reads, less compress badly."""


class Annotations(NamedTuple):
    """Columns added to the dropped rows, one value per row, in the rows' order."""

    distance: Sequence[float | None]
    percentile: Sequence[float | None]
    reason: Sequence[str | None]
    row_id: Sequence[int]
    line: Sequence[int]
    file: Sequence[str] | None = None
    """Where the input is several files."""
    score: Sequence[float | None] | None = None
    """Of the strategy, where it gives one."""
    label: Sequence[str] | None = None
    """`drop` or `keep`, where rows are labelled and not dropped."""
    more: Mapping[str, Sequence[float | None]] = {}
    """The strategy's further numbers, by column."""

    def columns(self) -> dict[str, Sequence[Any]]:
        fields = {**self._asdict(), **self.more}
        return {
            PREFIX + name: values for name, values in fields.items() if values and name != "more"
        }


def is_added(name: str) -> bool:
    """Whether a column is called as one that dropped rows get."""
    plain = name.removeprefix(PREFIX)
    return plain != name and (plain in ADDED or plain.startswith(TRAIT))


class ParquetRows:
    """A Parquet file that grows by tables of one schema."""

    def __init__(self, path: Path, schema: pa.Schema):
        """Raises SaefilterError for types that Parquet does not have."""
        self.path = path
        self._schema = schema
        self._held: list[pa.Table] = []
        self._rows = self._bytes = 0
        with _parquet_errors():
            self._writer = pq.ParquetWriter(path, schema, compression="zstd", store_schema=False)

    def write(self, table: pa.Table) -> None:
        """Add rows. Raises SaefilterError for types that Parquet does not have."""
        self._held.append(table)
        self._rows += table.num_rows
        self._bytes += table.nbytes
        if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._write_group()

    def close(self, metadata: dict[bytes, bytes]) -> None:
        """End the file, which says `metadata` of itself.

        Only now are they known. Readers in Arrow take a schema's metadata from a copy of the schema
        in the footer, which pyarrow would have made at the start; so it is written here, as the
        documentation of Arrow's Parquet format has it.
        """
        if self._held:
            self._write_group()
        schema = self._schema.with_metadata({**(self._schema.metadata or {}), **metadata})
        copy = base64.b64encode(schema.serialize().to_pybytes())
        self._writer.add_key_value_metadata({**schema.metadata, b"ARROW:schema": copy})
        self._writer.close()

    def abandon(self) -> None:
        """Close what is open, whatever is missing."""
        with suppress(pa.ArrowException, OSError):
            self._writer.close()

    def _write_group(self) -> None:
        group = pa.concat_tables(self._held)
        self._held, self._rows, self._bytes = [], 0, 0
        with _parquet_errors():
            self._writer.write_table(group, row_group_size=group.num_rows)


@contextmanager
def _parquet_errors() -> Iterator[None]:
    try:
        yield
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise SaefilterError(
            f"Parquet cannot hold this data ({str(error).splitlines()[0]})",
            remedy="Write JSONL, which copies the lines as they are: -o NAME.jsonl",
        ) from error


class LineRows:
    """A file of JSON lines or CSV that grows by lines; compressed where the name that it will have ends in
    `.gz` or `.zst`."""

    def __init__(self, path: Path, name: str | None = None):
        """`name`: the final one, where the path is a temporary name."""
        self.path = path
        self._files: list[Any] = []
        """The one that is written to comes last."""
        self._files.append(open(path, "wb"))  # noqa: SIM115 - closed by close and abandon
        suffix = Path(name or path.name).suffix.lower()
        if suffix == ".gz":  # without name and time, so that equal rows give equal bytes
            self._files.append(gzip.GzipFile("", "wb", GZIP_LEVEL, self._files[0], mtime=0))
        elif suffix == ".zst":
            self._files.append(pa.CompressedOutputStream(self._files[0], "zstd"))

    def write(self, lines: Iterable[bytes]) -> None:
        """Add lines, which come without their ends."""
        file = self._files[-1]
        for line in lines:
            file.write(line + b"\n")

    def close(self) -> None:
        """End the file."""
        for file in reversed(self._files):
            file.close()

    def abandon(self) -> None:
        """Close what is open, whatever is missing."""
        with suppress(OSError):
            self.close()


def json_line(data: dict[str, Any], row_id: int) -> bytes:
    """A row as JSON that any reader takes.

    Raises SaefilterError for what JSON does not have, such as NaN and times.
    """
    try:
        return json.dumps(data, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise SaefilterError(
            f"row {row_id + 1} cannot be written as JSON ({error})",
            remedy="Write Parquet: -o NAME.parquet",
        ) from error


def annotated(table: pa.Table, columns: Mapping[str, Sequence[Any]], types: pa.Schema) -> pa.Table:
    """Rows with added columns of these `types`."""
    for name, values in columns.items():
        field = types.field(name)  # one without a type is an error, not left out
        table = table.append_column(field, pa.array(values, field.type))
    return table


ADDED = {
    "distance": pa.float64(),
    "percentile": pa.float64(),
    "reason": pa.string(),
    "row_id": pa.int64(),
    "line": pa.int64(),
    "file": pa.string(),
    "score": pa.float64(),
    "label": pa.string(),
}  # fmt: skip
"""The fields of Annotations as columns."""


def added_columns(
    *, has_percentile: bool, has_file: bool, has_score: bool, has_label: bool = False,
    more: Iterable[str] = (),
) -> pa.Schema:  # fmt: skip
    """The columns that dropped or labelled rows get, each after the input's own."""
    kinds = {**ADDED, **({} if has_percentile else {"percentile": pa.null()})}
    kinds |= dict.fromkeys(more, pa.float64())
    absent = {"file"} if not has_file else set()
    absent |= {"score"} if not has_score else set()
    absent |= {"label"} if not has_label else set()
    return pa.schema([(PREFIX + name, kind) for name, kind in kinds.items() if name not in absent])


class QuarantinedRow(NamedTuple):
    """A row set aside, with everything needed to mend it and put it back."""

    row: Row
    reason: str

    def entry(self, *, has_file: bool) -> dict[str, Any]:
        """As text with line and reason; bytes too where they are not UTF-8."""
        row = self.row
        raw = row.raw or json.dumps(row.data, ensure_ascii=True, default=str).encode()
        text = raw.decode("utf-8", "backslashreplace")
        return {
            PREFIX + "row_id": row.index,
            PREFIX + "line": row.line,
            **({PREFIX + "file": row.file} if has_file else {}),
            PREFIX + "reason": self.reason,
            PREFIX + "text": text,
            PREFIX + "bytes_hex": None if text.encode() == raw else raw.hex(),
        }


def quarantine_schema(*, has_file: bool) -> pa.Schema:
    """Columns of a quarantined file."""
    return pa.schema(
        [
            (PREFIX + "row_id", pa.int64()),
            (PREFIX + "line", pa.int64()),
            *([(PREFIX + "file", pa.string())] if has_file else []),
            (PREFIX + "reason", pa.string()),
            (PREFIX + "text", pa.string()),
            (PREFIX + "bytes_hex", pa.string()),
        ]
    )
