"""Rows of the text formats: JSONL, a JSON array, CSV. Each takes the file's bytes, decompressed."""

from __future__ import annotations

import csv
import io
from collections.abc import Container, Iterator
from pathlib import Path
from typing import IO

from saefilter.errors import SaefilterError
from saefilter.rows import limits
from saefilter.rows.parse import array_items, is_unicode, parse_line
from saefilter.rows.row import Row, kept_bytes


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


def jsonl_rows(file: IO[bytes], path: Path, wanted: Container[int] | None = None) -> Iterator[Row]:
    for index, (line, raw) in enumerate(jsonl_lines(file, path)):
        if wanted is None or index in wanted:
            data, error = parse_line(raw)
            yield Row(index, line, data, error, kept_bytes(raw))


def json_rows(file: IO[bytes], path: Path) -> Iterator[Row]:
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


def csv_rows(file: IO[bytes], path: Path) -> Iterator[Row]:
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


def csv_header(file: IO[bytes], path: Path) -> list[str]:
    """The columns of a CSV file; none of one that is empty. Raises SaefilterError."""
    csv.field_size_limit(limits.ROW_BYTES)
    return _csv_header(csv.reader(_CsvLines(file, path), strict=True), path) or []


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
