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
from saefilter.rows import limits
from saefilter.rows.arrow import arrow_table, parquet_file, table_rows
from saefilter.rows.parse import array_items, is_unicode, parse_line

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".arrow")
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
TABLES = ("parquet", "arrow")
"""Kinds that have columns with types of their own, and their own compression."""


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
    """The line as it stands in the file, without its line end (JSONL, and what could not be read);
    of one that is too long, its beginning."""
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
        if not path.is_file():  # reading a pipe or a device may never end
            raise SaefilterError(
                f"{path} is not a regular file",
                remedy="Write what comes from a pipe to a file, or use - for standard input.",
            )
        if not is_unicode(str(path)):
            raise SaefilterError(
                f"the name of {path} is not UTF-8, and no report could name it",
                remedy="Rename the file.",
            )
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
        try:
            with open(self.path, "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise _cannot_read(self.path, error) from error
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
            raise _cannot_read(self.path, error) from error

    def count_rows(self) -> int:
        """How many rows `rows()` will yield, counted without parsing where the format allows."""
        if self.kind == "parquet":
            return int(parquet_file(self.path).metadata.num_rows)
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


def _cannot_read(path: Path, error: OSError) -> SaefilterError:
    return SaefilterError(f"cannot be read ({error.strerror or error})", where=str(path))


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
    if compression is None:
        return open(path, "rb")
    if compression == "gzip":
        file: Any = gzip.open(path, "rb")  # noqa: SIM115 - closed by Expanding
    else:
        import pyarrow as pa

        file = pa.input_stream(str(path), compression="zstd")
    return io.BufferedReader(limits.Expanding(file, path), 1 << 20)


def _starts_with_bracket(path: Path, compression: str | None) -> bool:
    try:
        with _open_bytes(path, compression) as file:
            return file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"["
    except (OSError, EOFError, zlib.error):
        return False  # reported when the rows are read


def jsonl_lines(file: IO[bytes], path: Path) -> Iterator[tuple[int, bytes]]:
    """Line numbers, from 1, and the lines that are not blank, stripped; see bounded_lines."""
    for line, raw in enumerate(limits.bounded_lines(file), start=1):
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
            yield Row(index, line, data, error, kept_bytes(raw))


def kept_bytes(raw: bytes) -> bytes:
    """What a row keeps of its line: of one that is too long, the beginning."""
    return raw if len(raw) <= limits.ROW_BYTES else raw[: limits.KEPT_BYTES]


def _chosen(rows: Iterator[Row], wanted: Collection[int] | None) -> Iterator[Row]:
    return rows if wanted is None else (row for row in rows if row.index in wanted)


def _json_rows(file: IO[bytes], path: Path) -> Iterator[Row]:
    for index, (data, problem, text) in enumerate(array_items(file, path)):
        raw = text.encode("utf-8", "surrogateescape") if problem else b""
        yield Row(index, index + 1, data, problem or None, raw)


class _CsvLines:
    """Lines of a CSV file for csv.reader, which asks for more while a quote is open."""

    def __init__(self, file: IO[bytes], path: Path):
        # surrogateescape keeps undecodable bytes visible, so that only their row is quarantined
        self.text = io.TextIOWrapper(
            file, encoding="utf-8-sig", errors="surrogateescape", newline=""
        )
        self.path = path
        self.line = 0
        self.record: list[str] = []
        """The lines of the row that is being read."""
        self.size = 0

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        if not (line := self.text.readline(limits.ROW_BYTES + 1)):
            raise StopIteration
        self.line += 1
        self.record.append(line)
        self.size += len(line)
        if self.size > limits.ROW_BYTES:
            first = self.line - len(self.record) + 1
            raise SaefilterError(
                limits.too_long("a row"),
                where=f"{self.path}:{first}",
                remedy="Is a quote left open there?",
            )
        return line

    def begin_row(self) -> None:
        self.record.clear()
        self.size = 0

    def raw(self) -> bytes:
        """The row as it stands in the file."""
        return "".join(self.record).rstrip("\r\n").encode("utf-8", "surrogateescape")


def _csv_rows(file: IO[bytes], path: Path) -> Iterator[Row]:
    csv.field_size_limit(limits.ROW_BYTES)
    lines = _CsvLines(file, path)
    # strict: a quote left open at the end of the file would pass as a row with the rest as a text
    reader = csv.reader(lines, strict=True)
    header = _csv_header(reader, path)
    if header is None:
        return
    index = 0
    while True:
        first_line = lines.line + 1
        lines.begin_row()
        problem = None
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"not readable CSV: {error}"
            fields = [""]
        if not fields:
            continue
        if problem is None and len(fields) != len(header):
            problem = f"{len(fields)} fields where the header has {len(header)}"
        elif problem is None and not all(map(is_unicode, fields)):
            problem = "not UTF-8"
        if problem:
            yield Row(index, first_line, None, problem, lines.raw())
        else:
            yield Row(index, first_line, dict(zip(header, fields, strict=True)))
        index += 1


def _csv_header(reader: Iterator[list[str]], path: Path) -> list[str] | None:
    try:
        header = next(reader)
    except StopIteration:
        return None
    except csv.Error as error:
        raise SaefilterError(f"not readable CSV: {error}", where=f"{path}:1") from error
    if len(set(header)) < len(header):
        raise SaefilterError(
            "two columns have the same name", where=f"{path}:1", remedy="Rename one of them."
        )
    if not all(map(is_unicode, header)):
        raise SaefilterError(
            "the names of the columns are not UTF-8",
            where=f"{path}:1",
            remedy="Convert the file to UTF-8.",
        )
    return header


def _table_rows(source: Source) -> Iterator[Row]:
    for index, found in enumerate(table_rows(source.path, source.kind)):
        yield Row(index, index + 1, found.data, found.error, found.raw)


def _plugin_rows(source: Source) -> Iterator[Row]:
    """Rows of a format that another package reads: dicts, one for each row."""
    read = load_plugin(READERS, source.kind)
    index = 0
    try:
        for index, data in enumerate(read(source.path)):
            try:  # the same limits as for rows of a JSON file; what JSON has not becomes text
                checked, problem = parse_line(json.dumps(data, default=str).encode())
            except (TypeError, ValueError, RecursionError) as error:
                checked, problem = None, f"the row cannot be written as JSON ({error})"
            yield Row(index, index + 1, checked, problem)
    except SaefilterError:
        raise
    except Exception as error:  # whatever the other package raises
        raise SaefilterError(
            f"the reader for .{source.kind} files failed after row {index} "
            f"({type(error).__name__}: {error})",
            where=str(source.path),
        ) from error
