"""The second part of a cascade: the model reads what a search asks for, step by step.

A step is a job of its own, over the rows that were asked for: shards and receipts in a folder within the run's,
so that it can be stopped anywhere, shared among workers, and gone on with.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from saefilter.errors import SaefilterError
from saefilter.scoring.cascade.screen import ScreenedRows
from saefilter.scoring.cascade.search import Ask, Outcome, search
from saefilter.scoring.job import (
    Job,
    Receipt,
    Shard,
    ShardRows,
    changed_input,
    fingerprint_digest,
    plan_shards,
    timed_rows,
)
from saefilter.scoring.shard import score_shard
from saefilter.scoring.workfolder import WorkFolder
from saefilter.stats.audit import Goal

if TYPE_CHECKING:
    from saefilter.scoring.engine import Engine
    from saefilter.settings import ScoreSettings
    from saefilter.watch import StopRequest, Watch

RECALL, NEAREST = 0.95, 0.1
"""Where nobody says otherwise."""


@dataclass(frozen=True)
class Step:
    """Rows that the model has read together."""

    name: str
    ids: NDArray[np.int64]
    """Of the rows in the input, ascending."""
    folder: WorkFolder
    """Its shards are of places among these ids."""
    receipts: dict[int, Receipt]

    def distances(self) -> NDArray[np.float64]:
        """Of the rows in order, `[n]`. Raises SaefilterError where the shards hold others."""
        parts = []
        for shard in self.folder.shards:
            table = self.folder.read(shard, ["row_id", "distance"])
            ids = self.ids[shard.first_row : shard.end_row]
            if not np.array_equal(table["row_id"].to_numpy(), ids) or table["distance"].null_count:
                raise SaefilterError(
                    "the shard holds other rows than were asked for",
                    where=self.folder.where(shard),
                    remedy="Remove the folder and score again.",
                )
            parts.append(table["distance"].to_numpy())
        return np.concatenate(parts)


@dataclass(frozen=True)
class Reading:
    """What a cascade came to."""

    screened: ScreenedRows
    steps: list[Step]
    outcome: Outcome


def goal_of(settings: ScoreSettings, n_rows: int) -> Goal:
    """What a cascade of `n_rows` rows that can be scored must find; rounded as `filter` rounds."""
    share = NEAREST if settings.nearest is None else settings.nearest
    recall = RECALL if settings.recall is None else settings.recall
    return Goal(min(n_rows, max(1, math.floor(share * n_rows + 0.5))), recall)


def read_in_steps(
    folder: WorkFolder,
    job: Job,
    engine: Engine,
    stop: StopRequest,
    watch: Watch,
    begun: dict[str, Step] | None = None,
) -> Reading | None:
    """Let the model read what decides. `folder`: with all rows screened, and some steps done perhaps. `begun`: the
    pilot and the sweep, where these are read while the rows are screened. None where it was asked to stop before
    the end. Raises SaefilterError."""
    settings = job.settings
    screened = ScreenedRows.of(folder, settings.max_tokens)
    goal = goal_of(settings, len(screened.ids))
    seed = settings.cascade_seed or 0
    begun = begun or {}
    hunt = search(
        screened, goal, budget=settings.budget, seed=seed,
        begun=(_places(screened, begun["pilot"]), _places(screened, begun["sweep"])) if begun else None,
    )  # fmt: skip
    steps: list[Step] = []
    watch.say(
        f"{settings.cheap_reader} has seen {len(screened.ids):,} rows; the nearest {goal.count:,} are sought"
    )
    answer: NDArray[np.float64] | None = None
    while True:
        try:
            ask = next(hunt) if answer is None else hunt.send(answer)
        except StopIteration as end:
            return Reading(screened, steps, end.value)
        step = begun.get(ask.name) or _read(ask, screened, folder, job, engine, stop, watch)
        if step is None:
            return None
        steps.append(step)
        answer = step.distances()


def _places(screened: ScreenedRows, step: Step) -> NDArray[np.int64]:
    """Of a step's rows, among those that can be scored."""
    return np.searchsorted(screened.ids, step.ids)


def _read(
    ask: Ask,
    screened: ScreenedRows,
    folder: WorkFolder,
    job: Job,
    engine: Engine,
    stop: StopRequest,
    watch: Watch,
) -> Step | None:
    """Let the model read the rows of a step, but for what an earlier run has read of it."""
    ids = screened.ids[ask.rows]
    shards = plan_shards(len(ids), job.settings.shard_rows)
    made_of = {**folder.fingerprint, "step": ask.name, "step's rows": digest_of(ids)}
    own = WorkFolder.resume(folder.path / ask.name, made_of, shards, overwrite=True)
    receipts = own.receipts(verify=True)
    watch.say(f"Reading {len(ids):,} rows: {ask.name}")
    watch.plan(len(ids), sum(receipt.rows for receipt in receipts.values()))
    part = replace(job, folder=own.path, fingerprint=fingerprint_digest(made_of))
    missing = [shard for shard in shards if shard.number not in receipts]
    if missing:
        read = read_rows(part, ids, missing)
        for receipt in engine.run(
            score_shard, part, read, stop, lambda done: watch.advance(0, done)
        ):
            receipts[receipt.shard] = receipt
            watch.advance(receipt.rows, 0)
    if len(receipts) < len(shards):
        return None
    own = replace(own, written={one.shard: one.sha256 for one in receipts.values()})
    return Step(ask.name, ids, own, receipts)


def digest_of(ids: NDArray[np.int64]) -> str:
    """Of row ids, 64 hex digits."""
    return hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest()


class _Wanted:
    """Ids that readers ask about, row after row."""

    def __init__(self, ids: NDArray[np.int64]):
        self._flags = np.zeros(int(ids[-1]) + 1, dtype=np.bool_)
        self._flags[ids] = True

    def __contains__(self, row_id: object) -> bool:
        return isinstance(row_id, int) and row_id < len(self._flags) and bool(self._flags[row_id])


def read_rows(job: Job, ids: NDArray[np.int64], shards: Sequence[Shard]) -> Iterator[ShardRows]:
    """Shards of some rows of the input, `ids` ascending, in one pass in which no other row is parsed (JSONL).
    Raises SaefilterError when rows are not there any more."""
    wanted = np.concatenate([ids[shard.first_row : shard.end_row] for shard in shards])
    rows = job.source.rows(_Wanted(wanted))
    for shard in shards:
        read = timed_rows(shard, rows)
        if [row.index for row in read.rows] != ids[shard.first_row : shard.end_row].tolist():
            raise changed_input(job.source)
        yield read
