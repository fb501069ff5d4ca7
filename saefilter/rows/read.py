"""Read a dataset file as a stream of rows, each with the line it came from.

A row that cannot be read is still a row: it carries its error and goes to quarantine. Nothing here
knows what a conversation is; see formats.py.
"""

from __future__ import annotations

import contextlib
import fnmatch
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Collection, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from saefilter.errors import SaefilterError
from saefilter.plugins import READERS, load_plugin, plugin_errors, plugin_names
from saefilter.rows import limits
from saefilter.rows.arrow import arrow_table, parquet_file, table_rows
from saefilter.rows.parse import is_unicode, parse_line
from saefilter.rows.row import Row
from saefilter.rows.text import csv_rows, json_rows, jsonl_lines, jsonl_rows
from saefilter.storage import Location, RemotePath, same_file

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".arrow")
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
TABLES = ("parquet", "arrow")
"""Kinds that have columns with types of their own, and their own compression."""


@dataclass(frozen=True)
class Source:
    """A dataset file: JSONL, JSON array, CSV, Parquet or Arrow, the text formats also compressed."""

    path: Path
    kind: str
    """`jsonl`, `json`, `csv`, `parquet` or `arrow`, or the suffix that another package reads; `several`
    for files of different kinds."""
    compression: str | None = None
    """`gzip` or `zstd`."""
    origin: str | None = None
    """The URL that it was fetched from."""

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

    def refuse_to_join(self, outputs: Collection[Location]) -> None:
        """Raises SaefilterError when an output would replace the input, or be among the files that it
        stands for, so that the next run would read it as data."""
        for output in outputs:
            if same_file(output, self.path) or self._stands_for(output):
                raise SaefilterError(
                    f"{output} is read by this command and would be overwritten",
                    remedy="Choose another name with -o.",
                )

    def _stands_for(self, output: Location) -> bool:
        """Whether an object in a store is what was fetched, or would be fetched with it."""
        if self.origin is None or not isinstance(output, RemotePath):
            return False
        inside = output.url.startswith(f"{self.origin.rstrip('/')}/")
        matches = inside or fnmatch.fnmatch(output.url, self.origin)
        return output.url == self.origin or (matches and is_readable_name(Path(output.name)))

    def sha256(self) -> str:
        """Hash of the file's bytes, as hex."""
        digest = hashlib.sha256()
        try:
            with open(self.path, "rb") as file:
                while raw := file.read(1 << 20):
                    digest.update(raw)
        except OSError as error:
            raise _cannot_read(self.path, error) from error
        return digest.hexdigest()

    def rows(self, wanted: Container[int] | None = None) -> Iterator[Row]:
        """Rows in order, all or those whose ids are `wanted`.

        Lines that are not wanted are not parsed. Raises SaefilterError when the file as a whole
        cannot be read.
        """
        if self.kind == "jsonl":
            with self.reading() as file:
                yield from jsonl_rows(file, self.path, wanted)
        elif self.kind in TABLES:
            yield from _chosen(_table_rows(self), wanted)
        elif f".{self.kind}" not in SUFFIXES:
            yield from _chosen(_plugin_rows(self), wanted)
        else:
            reader = json_rows if self.kind == "json" else csv_rows
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
    members: tuple[Source, ...] = ()
    """The files, in order."""

    @classmethod
    def of(cls, path: Path, folder: Path, members: Sequence[Source]) -> Sources:
        """`path` is the folder or the pattern that named them, `folder` one that holds them all."""
        kinds = {member.kind for member in members}
        kind = kinds.pop() if len(kinds) == 1 else "several"
        return cls(path, kind, folder=folder, members=tuple(members))

    @property
    def files(self) -> tuple[Source, ...]:
        return self.members

    @property
    def stem(self) -> str:
        """The folder's name."""
        return self.folder.name or "data"

    def refuse_to_join(self, outputs: Collection[Location]) -> None:
        for member in self.files:
            member.refuse_to_join(outputs)
        for output in outputs:
            if isinstance(output, RemotePath):
                joins = self._stands_for(output)
            elif self.path.is_dir():
                joins = output.resolve().is_relative_to(self.path.resolve())
            else:
                joins = fnmatch.fnmatch(str(output.resolve()), str(self.path.absolute()))
            if joins and is_readable_name(Path(output.name)):
                raise SaefilterError(
                    f"{output} would be read as data of {self.origin or self.path} by the next run",
                    remedy="Choose another place with -o.",
                )

    def sha256(self) -> str:
        """Hash of the files' names and contents."""
        digest = hashlib.sha256()
        for member in self.members:
            digest.update(f"{self.name_of(member)} {member.sha256()}\n".encode())
        return digest.hexdigest()

    def rows(self, wanted: Container[int] | None = None) -> Iterator[Row]:
        first = 0
        for member in self.members:
            n_rows = member.count_rows()
            here = None if wanted is None else _of_member(wanted, first, n_rows)
            if here is None or not isinstance(here, set) or here:
                for row in member.rows(here):
                    yield replace(row, index=row.index + first, file=self.name_of(member))
            first += n_rows

    def count_rows(self) -> int:
        return sum(member.count_rows() for member in self.members)

    def name_of(self, file: Source) -> str | None:
        return file.path.relative_to(self.folder).as_posix()


class _Shifted:
    """Of ids that are not known one by one: those of a member, by its own numbers."""

    def __init__(self, wanted: Container[int], first: int):
        self._wanted, self._first = wanted, first

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and index + self._first in self._wanted


def _of_member(wanted: Container[int], first: int, n_rows: int) -> Container[int]:
    if isinstance(wanted, Collection):
        return {i - first for i in wanted if 0 <= i - first < n_rows}
    return _Shifted(wanted, first)


def _cannot_read(path: Path, error: OSError) -> SaefilterError:
    if "requires too much memory" in str(error):
        return SaefilterError(
            "it was compressed with a longer window than can be read here", where=str(path),
            remedy=f"Decompress it first: zstd -d --long=31 {path.name}",
        )  # fmt: skip
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


def open_lines(path: Path, name: str | None = None) -> IO[bytes]:
    """The bytes of a file, decompressed where its name says so: `.gz`, `.zst`. `name`: the one that it will
    have, where the path is a temporary one."""
    return _open_bytes(path, COMPRESSIONS.get(Path(name or path.name).suffix.lower()))


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


def _chosen(rows: Iterator[Row], wanted: Container[int] | None) -> Iterator[Row]:
    return rows if wanted is None else (row for row in rows if row.index in wanted)


def _table_rows(source: Source) -> Iterator[Row]:
    for index, parsed in enumerate(table_rows(source.path, source.kind)):
        yield Row(index, index + 1, parsed.data, parsed.error, parsed.raw)


def _plugin_rows(source: Source) -> Iterator[Row]:
    """Rows of a format that another package reads: dicts, one for each row."""
    read = load_plugin(READERS, source.kind)
    index = 0
    failing = plugin_errors(
        READERS, source.kind, lambda: f"failed after row {index}", where=str(source.path)
    )
    with failing:
        for index, data in enumerate(read(source.path), start=1):
            try:  # the same limits as for rows of a JSON file; what JSON has not becomes text
                checked, problem = parse_line(json.dumps(data, default=str).encode())
            except (TypeError, ValueError, RecursionError) as error:
                checked, problem = None, f"the row cannot be written as JSON ({error})"
            yield Row(index - 1, index, checked, problem)
