"""A scoring job, cut into shards that can be scored anywhere, in any order, once each.

A `Job` and a `Shard` are small values. What scores one (`score_shard` in shard.py) needs them, a loaded
scorer and a folder that it shares with whoever gathers the shards, and knows nothing of where it runs.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import TYPE_CHECKING, Any

from saefilter import __version__
from saefilter.columns import Columns
from saefilter.errors import SaefilterError
from saefilter.rows.formats import Ambiguous, RowProblem, understand
from saefilter.rows.read import Source
from saefilter.rows.row import Row
from saefilter.rows.sides import ANSWERS, KINDS, kind_of
from saefilter.stats.tally import Tally
from saefilter.storage import Location

if TYPE_CHECKING:
    from saefilter.artifacts.provenance import Identity
    from saefilter.settings import ScoreSettings


LOOKED_AT = 1000
"""Rows that tell what the data train on."""


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

    @property
    def rows(self) -> int:
        return self.end_row - self.first_row


@dataclass(frozen=True)
class Job:
    """What all shards of a run share."""

    source: Source
    settings: ScoreSettings
    folder: Location
    """Where shards are written: on a cluster, where all its machines can."""
    fingerprint: str
    """Digest of what the scores depend on."""
    memory_limit: int | None = None
    """Largest budget of a batch, where an earlier part of the run lacked memory for more."""
    kind: str = ANSWERS
    """What the data train on, of rows.sides.KINDS."""


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
    """Rows."""
    truncated: int
    tally: Tally
    reasons: dict[str, int]
    """Quarantine reasons, without what is particular to a row."""
    formats: dict[str, int]
    """As what the scored rows were read."""
    told: dict[str, int]
    """What of scored rows is not scored, or is odd."""
    push_sums: tuple[list[float], list[float]] | None
    """Sums over the scored rows of their pushes and of the squares of these, one entry per feature of
    the calibration's `PushReference`; None without one."""
    likeness: dict[str, list[float]] | None
    """Measure -> sums over the scored rows (geometry/likeness.py); None without a reference."""
    memory_limit: int | None
    """Largest budget of a batch, where memory did not suffice for more."""
    started: float
    """Seconds since 1970, UTC."""
    finished: float

    @property
    def rows(self) -> int:
        return self.end_row - self.first_row

    @classmethod
    def of_fields(cls, entry: dict[str, Any]) -> Receipt:
        """Of what `asdict` made, read back. Raises KeyError and TypeError for anything else."""
        entry = {one.name: entry[one.name] for one in fields(cls)}
        return cls(**{**entry, "tally": Tally(**entry["tally"])})


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


def fingerprint_digest(fingerprint: dict[str, Any]) -> str:
    """A fingerprint as 64 hex digits."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class ShardRows:
    """A shard with its rows, read."""

    shard: Shard
    rows: list[Row]
    started: float
    """When reading began; seconds since 1970, UTC."""
    seconds: float
    """Spent on it."""


class _RowsOf:
    """Ids of the rows of some shards; readers ask it about each row as they come to it."""

    def __init__(self, shards: Sequence[Shard], shard_rows: int):
        self._numbers = {shard.number for shard in shards}
        self._shard_rows = shard_rows

    def __contains__(self, row_id: object) -> bool:
        return isinstance(row_id, int) and row_id // self._shard_rows in self._numbers


def read_shards(job: Job, shards: Sequence[Shard]) -> Iterator[ShardRows]:
    """Shards with their rows, in one pass over the input in which no other row is parsed (JSONL).

    `shards` in ascending order. Raises SaefilterError when rows are not there any more.
    """
    rows = job.source.rows(_RowsOf(shards, job.settings.shard_rows))
    for shard in shards:
        read = timed_rows(shard, rows)
        if [row.index for row in read.rows] != list(range(shard.first_row, shard.end_row)):
            raise changed_input(job.source)
        yield read


def timed_rows(shard: Shard, rows: Iterator[Row]) -> ShardRows:
    """The shard with the next rows, as many as it has where they are there."""
    started, clock = time.time(), time.perf_counter()
    here = list(islice(rows, shard.rows))
    return ShardRows(shard, here, started, time.perf_counter() - clock)


class UnusableInput(SaefilterError):
    """The input itself is the trouble: going on with it later is of no use."""


def changed_input(source: Source) -> UnusableInput:
    """The error for an input that is not what it was when the run began."""
    return UnusableInput(
        "the data changed while it was scored", where=str(source.path), remedy="Score it again."
    )


def kind_of_data(source: Source, columns: str | None) -> str:
    """What the rows train on, by the first of them. Raises SaefilterError where one of these fits two
    readings that train on different text, or they are of several kinds: mostly all are so, and nobody
    would want to learn it from the last shard. Later ones are set aside."""
    own = Columns.parse(columns)
    kinds: Counter[str] = Counter()
    for number, row in enumerate(source.rows()):
        if number >= LOOKED_AT and kinds:
            break
        try:
            kinds[kind_of(understand(row.data or {}, own))] += 1
        except Ambiguous as problem:
            raise UnusableInput(
                str(problem), where=f"{row.file or source.path}:{row.line}"
            ) from problem
        except RowProblem:
            continue
    if len(kinds) > 1:
        counts = ", ".join(f"{count:,} {KINDS[kind]}" for kind, count in kinds.most_common())
        raise UnusableInput(
            f"the first {sum(kinds.values()):,} rows are of several kinds: {counts}. What they push "
            "towards is not on one scale, so they cannot be ranked together",
            where=str(source.path),
            remedy="Put each kind in a file of its own; for KTO rows give every one a label.",
        )
    return next(iter(kinds), ANSWERS)
