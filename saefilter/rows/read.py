"""Read a dataset file as a stream of rows, each with the line it came from.

A row that cannot be read is still a row: it carries its error and goes to quarantine. Nothing here
knows what a conversation is; see formats.py.
"""

from __future__ import annotations

import contextlib
import csv
import fnmatch
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from saefilter.errors import SaefilterError
from saefilter.plugins import READERS, load_plugin, plugin_names

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".arrow")
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
TABLES = ("parquet", "arrow")
"""Kinds that have columns with types of their own, and their own compression."""
READ_BATCH_ROWS = 1024


@dataclass(frozen=True)
class Row:
    """One row of the input, readable or not."""

    index: int
    """Position among the rows of the input, from 0; the `row_id` of every artifact."""
    line: int
    """Where a person finds it: line in a JSONL or CSV file, item or row number elsewhere; from 1."""
    data: dict[str, Any] | None
    """The row's columns; None when it could not be read."""
    error: str | None = None
    """Why it could not be read; None when it could."""
    raw: bytes = b""
    """The line as it stands in the file, without its line end (JSONL only)."""
    file: str | None = None
    """Which file it is from, where the input is several."""

    def digest(self) -> str:
        """A 64-bit hash of the row's content, as 16 hex digits; equal rows have equal digests."""
        content = self.raw or json.dumps(
            self.data, sort_keys=True, default=str, ensure_ascii=True
        ).encode("ascii")
        return hashlib.blake2b(content, digest_size=8).hexdigest()


@dataclass(frozen=True)
class Source:
    """A dataset file: JSONL, JSON array, CSV, Parquet or Arrow, the text formats also compressed."""

    path: Path
    kind: str
    """`jsonl`, `json`, `csv`, `parquet` or `arrow`, or the suffix that another package reads; `several`
    for files of different kinds."""
    compression: str | None = None
    """`gzip` or `zstd`."""

    @classmethod
    def open(cls, path: str | Path) -> Source:
        """Recognise a file by its suffix. Raises SaefilterError when it is missing or unknown."""
        path = Path(path)
        if not path.exists():
            raise SaefilterError(f"there is no file {path}", remedy="Check the name and folder.")
        if path.is_dir():
            raise SaefilterError(f"{path} is a folder where a file was expected")
        if not is_readable_name(path):
            raise SaefilterError(
                f"{path.name} is not a kind of file that can be read",
                remedy="Use .jsonl, .ndjson, .json or .csv (each also with .gz or .zst), .parquet or "
                ".arrow, or install a package that reads it.",
            )
        suffix, compression = _suffixes(path)
        kind = "jsonl" if suffix == ".ndjson" else suffix[1:]
        if kind == "json" and not _starts_with_bracket(path, compression):
            kind = "jsonl"
        return cls(path, kind, compression)

    @property
    def files(self) -> tuple[Source, ...]:
        """The files it is made of."""
        return (self,)

    @property
    def stem(self) -> str:
        """The file's name without its suffixes: `data.jsonl.gz` -> `data`."""
        name = self.path.stem if self.compression else self.path.name
        return name.rpartition(".")[0] or name

    def name_of(self, file: Source) -> str | None:
        """What rows call one of its files; None where it is the only one."""
        return None

    def refuse_to_join(self, outputs: Iterable[Path]) -> None:
        """Raises SaefilterError when an output would be among the files that the input stands for:
        the next run would read it as data."""

    def sha256(self) -> str:
        """Hash of the file's bytes, as hex."""
        digest = hashlib.sha256()
        with open(self.path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    def rows(self, wanted: Collection[int] | None = None) -> Iterator[Row]:
        """Rows in order, all or those whose ids are `wanted`.

        Lines that are not wanted are not parsed. Raises SaefilterError when the file as a whole
        cannot be read.
        """
        if self.kind == "jsonl":
            with self.reading() as file:
                yield from _jsonl_rows(file, self.path, wanted)
        elif self.kind in TABLES:
            yield from _chosen(_table_rows(self), wanted)
        elif f".{self.kind}" not in SUFFIXES:
            yield from _chosen(_plugin_rows(self), wanted)
        else:
            reader = _json_rows if self.kind == "json" else _csv_rows
            with self.reading() as file:
                yield from _chosen(reader(file, self.path), wanted)

    @contextlib.contextmanager
    def reading(self) -> Iterator[IO[bytes]]:
        """The file's bytes, decompressed; what goes wrong becomes a SaefilterError."""
        try:
            with _open_bytes(self.path, self.compression) as file:
                yield file
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise SaefilterError(
                f"the compressed data is damaged ({error})",
                where=str(self.path),
                remedy="Download or compress the file again.",
            ) from error
        except OSError as error:
            raise SaefilterError(
                f"cannot be read ({error.strerror or error})", where=str(self.path)
            ) from error

    def count_rows(self) -> int:
        """How many rows `rows()` will yield, counted without parsing where the format allows."""
        if self.kind == "parquet":
            return int(_parquet_file(self.path).metadata.num_rows)
        if self.kind == "arrow":
            return int(arrow_table(self.path).num_rows)
        if self.kind != "jsonl":
            return sum(1 for _ in self.rows())
        with self.reading() as file:
            return sum(1 for _ in jsonl_lines(file, self.path))


@dataclass(frozen=True)
class Sources(Source):
    """Several files as one dataset: their rows one file after the other."""

    folder: Path = Path()
    """That all of them are in."""
    parts: tuple[Source, ...] = ()

    @classmethod
    def of(cls, path: Path, folder: Path, parts: Sequence[Source]) -> Sources:
        """`path` is the folder or the pattern that named them, `folder` one that holds them all."""
        kinds = {part.kind for part in parts}
        return cls(path, kinds.pop() if len(kinds) == 1 else "several", None, folder, tuple(parts))

    @property
    def files(self) -> tuple[Source, ...]:
        return self.parts

    @property
    def stem(self) -> str:
        """The folder's name."""
        return self.folder.name or "data"

    def refuse_to_join(self, outputs: Iterable[Path]) -> None:
        for output in outputs:
            if self.path.is_dir():
                joins = output.resolve().is_relative_to(self.path.resolve())
            else:
                joins = fnmatch.fnmatch(str(output.resolve()), str(self.path.absolute()))
            if joins and is_readable_name(output):
                raise SaefilterError(
                    f"{output} would be read as data of {self.path} by the next run",
                    remedy="Choose another place with -o.",
                )

    def sha256(self) -> str:
        """Hash of the files' names and contents."""
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(f"{self.name_of(part)} {part.sha256()}\n".encode())
        return digest.hexdigest()

    def rows(self, wanted: Collection[int] | None = None) -> Iterator[Row]:
        first = 0
        for part in self.parts:
            n_rows = part.count_rows()
            here = (
                None if wanted is None else {i - first for i in wanted if 0 <= i - first < n_rows}
            )
            if here is None or here:
                for row in part.rows(here):
                    yield replace(row, index=row.index + first, file=self.name_of(part))
            first += n_rows

    def count_rows(self) -> int:
        return sum(part.count_rows() for part in self.parts)

    def name_of(self, file: Source) -> str | None:
        return file.path.relative_to(self.folder).as_posix()


def _suffixes(path: Path) -> tuple[str, str | None]:
    """The suffix that tells the format, and the compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes] or [""]
    compression = COMPRESSIONS.get(suffixes[-1])
    return (suffixes[-2] if compression and len(suffixes) > 1 else suffixes[-1]), compression


def is_readable_name(path: Path) -> bool:
    """Whether a file of that name is of a kind that can be read."""
    suffix, compression = _suffixes(path)
    if suffix in SUFFIXES:
        return not (compression and suffix[1:] in TABLES)
    return suffix[1:] in plugin_names(READERS) and not compression


def _open_bytes(path: Path, compression: str | None) -> IO[bytes]:
    if compression == "gzip":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if compression == "zstd":
        import pyarrow as pa

        return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))
    return open(path, "rb")


def _starts_with_bracket(path: Path, compression: str | None) -> bool:
    try:
        with _open_bytes(path, compression) as file:
            return file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"["
    except (OSError, EOFError, zlib.error):
        return False  # reported when the rows are read


def parse_line(raw: bytes) -> tuple[dict[str, Any] | None, str | None]:
    """One JSONL line as (row, None), or (None, why it is not a row)."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return None, f"not UTF-8 (byte {error.start + 1} of the line is 0x{raw[error.start]:02x})"
    try:
        value = json.loads(text)
    except RecursionError:
        return None, "not readable JSON: nested too deeply"
    except ValueError as error:
        return None, f"not readable JSON: {error}"
    return _check_row(value, may_have_surrogates=b"\\u" in raw)


def _check_row(value: Any, may_have_surrogates: bool) -> tuple[dict[str, Any] | None, str | None]:
    if not isinstance(value, dict):
        return None, f"a JSON object was expected, this is {json_type(value)}"
    if not value:
        return None, "the row is empty"
    if may_have_surrogates:
        try:
            json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
        except UnicodeEncodeError:
            return None, "a text holds half of a surrogate pair, which is not valid Unicode"
    return value, None


def json_type(value: Any) -> str:
    """What a value is, in the words of JSON, with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    return f"a {type(value).__name__}"


def jsonl_lines(file: IO[bytes], path: Path) -> Iterator[tuple[int, bytes]]:
    """Line numbers, from 1, and the lines that are not blank, stripped."""
    for line, raw in enumerate(file, start=1):
        if line == 1:
            if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise SaefilterError(
                    "the file is UTF-16", where=str(path), remedy="Convert it to UTF-8."
                )
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if raw := raw.strip(b" \t\r\n"):
            yield line, raw


def _jsonl_rows(
    file: IO[bytes], path: Path, wanted: Collection[int] | None = None
) -> Iterator[Row]:
    for index, (line, raw) in enumerate(jsonl_lines(file, path)):
        if wanted is None or index in wanted:
            data, error = parse_line(raw)
            yield Row(index, line, data, error, raw)


def _chosen(rows: Iterator[Row], wanted: Collection[int] | None) -> Iterator[Row]:
    return rows if wanted is None else (row for row in rows if row.index in wanted)


def _json_rows(file: IO[bytes], path: Path) -> Iterator[Row]:
    try:
        items = json.load(file)
    except (ValueError, RecursionError) as error:
        raise SaefilterError(
            f"not readable JSON: {error}", where=str(path), remedy="One JSON array is expected."
        ) from error
    for index, value in enumerate(items):
        data, problem = _check_row(value, may_have_surrogates=True)
        yield Row(index, index + 1, data, problem)


def _csv_rows(file: IO[bytes], path: Path) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)
    # surrogateescape keeps undecodable bytes visible, so that only their row is quarantined
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text)
    try:
        header = next(reader)
    except StopIteration:
        return
    if len(set(header)) < len(header):
        raise SaefilterError(
            "two columns have the same name", where=f"{path}:1", remedy="Rename one of them."
        )
    index = 0
    while True:
        first_line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(index, first_line, None, f"not readable CSV: {error}")
            index += 1
            continue
        if not fields:
            continue
        data = dict(zip(header, fields, strict=False))
        problem = None
        if len(fields) != len(header):
            problem = f"{len(fields)} fields where the header has {len(header)}"
        elif any("\udc80" <= char <= "\udcff" for field in fields for char in field):
            problem = "not UTF-8"
        raw = ",".join(fields).encode("utf-8", "surrogateescape") if problem else b""
        yield Row(index, first_line, None if problem else data, problem, raw)
        index += 1


def _parquet_file(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise SaefilterError(
            f"not a readable Parquet file ({str(error).splitlines()[0]})",
            where=str(path),
            remedy="Write or download the file again.",
        ) from error


def arrow_table(path: Path) -> Any:
    """An Arrow IPC file or stream, mapped into memory. Raises SaefilterError when it is neither."""
    import pyarrow as pa

    try:
        mapped = pa.memory_map(str(path))
        try:
            return pa.ipc.open_file(mapped).read_all()
        except pa.ArrowInvalid:
            mapped.seek(0)
            return pa.ipc.open_stream(mapped).read_all()
    except (pa.ArrowException, OSError) as error:
        raise SaefilterError(
            f"not a readable Arrow file ({str(error).splitlines()[0]})",
            where=str(path),
            remedy="Write or download the file again.",
        ) from error


def _table_rows(source: Source) -> Iterator[Row]:
    import pyarrow as pa

    index = 0
    try:
        if source.kind == "parquet":
            batches = _parquet_file(source.path).iter_batches(batch_size=READ_BATCH_ROWS)
        else:
            batches = iter(arrow_table(source.path).to_batches(max_chunksize=READ_BATCH_ROWS))
        for batch in batches:
            for data in batch.to_pylist():
                yield Row(index, index + 1, data)
                index += 1
    except pa.ArrowException as error:
        raise SaefilterError(
            f"row {index + 1} or one soon after cannot be read ({str(error).splitlines()[0]})",
            where=str(source.path),
            remedy="Write or download the file again.",
        ) from error


def _plugin_rows(source: Source) -> Iterator[Row]:
    """Rows of a format that another package reads: dicts, one for each row."""
    read = load_plugin(READERS, source.kind)
    index = 0
    try:
        for index, data in enumerate(read(source.path)):
            checked, problem = _check_row(data, may_have_surrogates=True)
            yield Row(index, index + 1, checked, problem)
    except SaefilterError:
        raise
    except Exception as error:  # whatever the other package raises
        raise SaefilterError(
            f"the reader for .{source.kind} files failed after row {index} "
            f"({type(error).__name__}: {error})",
            where=str(source.path),
        ) from error
