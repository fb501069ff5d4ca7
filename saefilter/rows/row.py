"""One row of a dataset, as it was read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from saefilter.rows import limits


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


def kept_bytes(raw: bytes) -> bytes:
    """What a row keeps of its line: of one that is too long, the beginning."""
    return raw if len(raw) <= limits.ROW_BYTES else raw[: limits.KEPT_BYTES]
