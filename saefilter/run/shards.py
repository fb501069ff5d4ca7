"""Shards: a scoring job cut into parts that can be scored anywhere, in any order, once each.

A `Job` and a `Shard` are small values. `score_shard` needs them, a loaded scorer and a folder that it
shares with whoever gathers the parts, and knows nothing of where it runs: in this process, in one
of several, or on another machine.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from saefilter import __version__
from saefilter.errors import SaefilterError
from saefilter.report.build import kind_of_reason
from saefilter.rows.ranges import RangeReader
from saefilter.rows.read import Source
from saefilter.rows.row import Row
from saefilter.run.allocator import give_back_free_memory
from saefilter.run.integrity import file_sha256
from saefilter.run.publish import publishing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from saefilter.artifacts.provenance import Identity
    from saefilter.run.chunks import ChunkScorer
    from saefilter.settings import ScoreSettings


@dataclass(frozen=True)
class Shard:
    """Some consecutive rows of the input."""

    number: int
    first_row: int
    end_row: int
    """One past the last."""

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.number:06d}.parquet"

    @property
    def receipt(self) -> str:
        """Name of the file that says that the shard is done."""
        return f"{self.number:06d}.json"


@dataclass(frozen=True)
class Job:
    """What all shards of a run share."""

    source: Source
    settings: ScoreSettings
    folder: Path
    """Where shards are written."""
    fingerprint: str
    """Digest of what the scores depend on."""
    memory_limit: int | None = None
    """Largest budget of a batch, where an earlier part of the run lacked memory for more."""


@dataclass(frozen=True)
class Receipt:
    """What a finished shard holds; written after it, so that it is the proof that it is whole."""

    shard: int
    first_row: int
    end_row: int
    fingerprint: str
    sha256: str
    """Of the shard's file."""
    scored: int
    truncated: int
    tokens: int
    """That the model read."""
    padded: int
    """Tokens that the model read, padding included."""
    saved: int
    """Of these, tokens of prefixes that had been computed for another row."""
    n_tokens: int
    """Scored tokens."""
    n_active: int
    """Active features, summed over scored tokens."""
    reasons: dict[str, int]
    """Quarantine reasons, without what is particular to a row."""
    push_sums: tuple[list[float], list[float]] | None
    """See `ScoredChunk`."""
    memory_limit: int | None
    """Largest budget of a batch, where memory did not suffice for more."""
    seconds: dict[str, float]
    """Spent on each stage."""
    started: float
    """Seconds since 1970, UTC."""
    finished: float

    @property
    def rows(self) -> int:
        return self.end_row - self.first_row


def plan_shards(n_rows: int, shard_rows: int) -> list[Shard]:
    """Shards that hold each row once, in order."""
    starts = range(0, n_rows, shard_rows)
    return [Shard(i, start, min(start + shard_rows, n_rows)) for i, start in enumerate(starts)]


def memory_limit(receipts: Iterable[Receipt]) -> int | None:
    """Largest budget of a batch that a run found memory for; None where it never lacked any."""
    limits = (receipt.memory_limit for receipt in receipts)
    return min((limit for limit in limits if limit is not None), default=None)


def fingerprint_of(
    input_sha256: str, n_rows: int, settings: ScoreSettings, identity: Identity
) -> dict[str, Any]:
    """Everything that scores depend on, by name. Device and batch size are not among them: they
    change nothing but rounding, and a run that ran out of memory goes on with smaller batches."""
    return {
        "input": input_sha256,
        "rows": n_rows,
        **settings.fingerprint(identity),
        "saefilter": __version__,
    }


def digest_of(fingerprint: dict[str, Any]) -> str:
    """A fingerprint as 64 hex digits."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class ShardRows:
    """The rows of one shard, read."""

    rows: list[Row]
    started: float
    """When reading began; seconds since 1970, UTC."""
    seconds: float
    """Spent on it."""


def read_shard(job: Job, shard: Shard, reader: RangeReader) -> ShardRows:
    """Read a shard's rows; cheapest in the shards' order. `reader` reads the job's source.

    Raises SaefilterError when they are not there any more.
    """
    started, clock = time.time(), time.perf_counter()
    rows = reader.read(shard.first_row, shard.end_row)
    if len(rows) != shard.end_row - shard.first_row:
        raise changed_input(job.source)
    return ShardRows(rows, started, time.perf_counter() - clock)


def score_shard(
    job: Job,
    shard: Shard,
    scorer: ChunkScorer,
    rows: ShardRows,
    advance: Callable[[int], None] | None = None,
) -> Receipt:
    """Score one shard and write it and its receipt into the job's folder, each whole or not at all.

    `rows` are the shard's; `advance` is told the tokens done. Several threads may score shards of a
    job at the same time. Raises SaefilterError.
    """
    tokens = 0

    def count(done: int) -> None:
        nonlocal tokens
        tokens += done
        if advance is not None:
            advance(done)

    chunk = scorer.score(rows.rows, count)
    bad = chunk.table.filter(pc.is_valid(chunk.table["reason"]))
    if job.settings.on_bad_row == "error":
        _refuse_bad_rows(bad, job.source)
    path = job.folder / shard.name
    scored_at = time.perf_counter()
    with publishing([path]) as (temporary,):
        pq.write_table(chunk.table, temporary, compression="zstd")
        sha256 = file_sha256(temporary)
    seconds = {**chunk.seconds, "read": rows.seconds, "write": time.perf_counter() - scored_at}
    receipt = Receipt(
        shard=shard.number,
        first_row=shard.first_row,
        end_row=shard.end_row,
        fingerprint=job.fingerprint,
        sha256=sha256,
        scored=chunk.table.num_rows - bad.num_rows,
        truncated=pc.sum(chunk.table["truncated"]).as_py() or 0,
        tokens=tokens,
        padded=chunk.n_padded,
        saved=chunk.n_saved,
        n_tokens=chunk.n_tokens,
        n_active=chunk.n_active,
        reasons=dict(Counter(map(kind_of_reason, bad["reason"].to_pylist()))),
        push_sums=chunk.push_sums,
        memory_limit=scorer.encoder.memory_limit,
        seconds={stage: round(value, 4) for stage, value in seconds.items()},
        started=round(rows.started, 3),
        finished=round(time.time(), 3),
    )
    with publishing([job.folder / shard.receipt]) as (temporary,):
        temporary.write_text(json.dumps(asdict(receipt)), encoding="utf-8")
    give_back_free_memory()
    return receipt


class UnusableInput(SaefilterError):
    """The input itself is the trouble: going on with it later is of no use."""


def changed_input(source: Source) -> UnusableInput:
    """The error for an input that is not what it was when the run began."""
    return UnusableInput(
        "the data changed while it was scored", where=str(source.path), remedy="Score it again."
    )


def _refuse_bad_rows(bad: pa.Table, source: Source) -> None:
    for entry in bad.slice(0, 1).to_pylist():
        raise UnusableInput(
            entry["reason"],
            where=f"{entry['file'] or source.path}:{entry['line']}",
            remedy="Mend the row, or use --on-bad-row quarantine.",
        )
