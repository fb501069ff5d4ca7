"""One row of a dataset, as it was read, and how many are set aside for which reason."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from saefilter.rows import limits

N_REASONS = 20
"""Kinds of reasons that are named; the others are counted together."""
OTHER_REASONS = "other reasons"


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


def count_reasons(reasons: Iterable[str]) -> dict[str, int]:
    """How many rows for each reason; the rare ones together, as rows can make up reasons."""
    return commonest(Counter(map(kind_of_reason, reasons)))


def commonest(kinds: Counter[str]) -> dict[str, int]:
    """Counts of the commonest kinds of reasons, and of all others together."""
    ordered = kinds.most_common()
    counts = dict(ordered[:N_REASONS])
    if rest := sum(count for _, count in ordered[N_REASONS:]):
        counts[OTHER_REASONS] = counts.get(OTHER_REASONS, 0) + rest
    return counts


def kind_of_reason(reason: str) -> str:
    """A quarantine reason without what is particular to one row, for counting."""
    return reason.split(":")[0].split(" (")[0]
