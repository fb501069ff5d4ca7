"""The formats that rows are written in: by which name, which one is usual, and CSV."""

from __future__ import annotations

import csv
import io
from codecs import BOM_UTF8
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from saefilter.errors import SaefilterError
from saefilter.rows.read import COMPRESSIONS, TABLES, Source
from saefilter.rows.text import csv_header
from saefilter.storage import Location

PARQUET, JSONL, CSV = FORMATS = ("parquet", "jsonl", "csv")


def split_name(name: str) -> tuple[str, str]:
    """A file's name without what tells its format, and that: `a.b.jsonl.gz` -> `a.b`, `.jsonl.gz`."""
    outer = PurePosixPath(name).suffix
    if outer.lower() not in COMPRESSIONS:
        outer = ""
    inner = PurePosixPath(name.removesuffix(outer))
    return inner.stem, inner.suffix + outer


def format_of(name: str) -> str | None:
    """The format of a file that is called so; None where rows are not written under such a name."""
    suffix, _, packed = split_name(name)[1].lower().removeprefix(".").partition(".")
    return suffix if suffix in FORMATS and not (packed and suffix == PARQUET) else None


def check_output_name(path: Location) -> None:
    """Raises SaefilterError when the suffix is not one that can be written."""
    if format_of(path.name) is None:
        raise SaefilterError(
            f"cannot tell the format from the name {path.name!r}",
            remedy="End it in .jsonl or .csv (each also with .gz or .zst) or .parquet.",
        )


def usual_ending(source: Source) -> str:
    """What a file of an input's rows ends in: its own format, compressed as it is. Columns of tables stay
    columns; what else there is becomes JSON lines, which hold any row."""
    kinds = {file.kind for file in source.files}
    if kinds <= set(TABLES):
        return f".{PARQUET}"
    packed = next((e for e, name in COMPRESSIONS.items() if name == source.compression), "")
    return f".{CSV if kinds == {CSV} and len(source.files) == 1 else JSONL}{packed}"


def check_csv(source: Source) -> None:
    """Raises SaefilterError for data that CSV would not hold as they are."""
    if source.kind != CSV or len(source.files) > 1:
        raise SaefilterError(
            f"only the rows of one CSV file can be written as CSV, and {source.path} is none",
            remedy="Write JSON lines: -o NAME.jsonl",
        )


def csv_names(source: Source) -> list[str]:
    """The columns of a CSV file. Raises SaefilterError when they cannot be read."""
    with source.reading() as file:
        return csv_header(file, source.path)


def csv_mark(source: Source) -> bytes:
    """The mark of UTF-8 that a CSV file begins with, by which Excel knows it; nothing where there is none."""
    with source.reading() as file:
        return BOM_UTF8 if file.read(len(BOM_UTF8)) == BOM_UTF8 else b""


def csv_text(value: Any) -> str:
    """A value as CSV has it: nothing for none."""
    return "" if value is None else str(value)


def csv_line(values: Iterable[Any]) -> bytes:
    """A row without its end, with quotes where there must be some."""
    text = io.StringIO()
    # a reader takes both characters for the end of a row; only those of the line's end are quoted
    csv.writer(text, lineterminator="\r\n").writerow([csv_text(value) for value in values])
    return text.getvalue().removesuffix("\r\n").encode()
