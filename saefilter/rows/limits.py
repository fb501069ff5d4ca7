"""How much of a hostile file is taken in before it is refused. docs/security.md lists the limits."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from saefilter.errors import SaefilterError

ROW_BYTES = 64 << 20
"""Of one row. A longer JSONL line or Parquet row is quarantined; where the end of a row cannot be
found without reading on (an open quote in CSV, an open bracket in JSON), the file is refused."""
KEPT_BYTES = 64 << 10
"""Of a line that is too long, for its quarantine entry."""
NESTING = 100
"""Lists and objects inside each other; beyond, some reader downstream gives up."""
COLUMNS = 2000
"""Columns of a JSON dataset, and fields of the objects in one column. Arrow stores a value, or that
there is none, for every row and field, so that rows with keys of their own cost rows x rows."""
EXPANSION = 200
"""Decompressed bytes per byte of a compressed file: text reaches 3 to 20, a bomb 1,000 and more."""
EXPANSION_FROM = 1 << 30
"""Decompressed bytes up to which nobody asks."""

ROWS_FROM = 1_000_000
"""Rows of a table up to which nobody asks; beyond, more than EXPANSION per byte of file is a bomb."""


def mebibytes(size: int) -> str:
    """`64 MiB`."""
    return f"{size / (1 << 20):g} MiB"


def too_long(what: str) -> str:
    """The reason of a row beyond ROW_BYTES."""
    return f"{what} is longer than {mebibytes(ROW_BYTES)}"


def bounded_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Lines with their line ends; of one beyond ROW_BYTES the first ROW_BYTES + 1 bytes."""
    longest = ROW_BYTES + 1
    for raw in iter(partial(file.readline, longest), b""):
        yield raw
        if len(raw) == longest and not raw.endswith(b"\n"):
            while (more := file.readline(1 << 20)) and not more.endswith(b"\n"):
                pass


class Expanding(io.RawIOBase):
    """Decompressed bytes of `file`; reading raises SaefilterError when they are far too many."""

    def __init__(self, file: Any, path: Path):
        self.file = file
        self.path = path
        self.allowed = max(EXPANSION_FROM, EXPANSION * path.stat().st_size)
        self.total = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = int(self.file.readinto(buffer))
        self.total += count
        if self.total > self.allowed:
            raise SaefilterError(
                f"it expands to more than {EXPANSION} times its size",
                where=str(self.path),
                remedy="That is how a decompression bomb looks; if you trust it, decompress it first.",
            )
        return count

    def close(self) -> None:
        self.file.close()
        super().close()
