"""The first pass of a cascade by an early layer of the model itself, where rows may end there: a pilot, and one
pass over all rows by what it taught.

    pilot        rows drawn among all, read to the hook and kept as they were at the layer; what cannot be scored
                 falls out
    pilot-seen   the latter
    sweep        scores of the rows that went on in the pass over all; the run's own shards hold what was seen
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saefilter.scoring.cascade.exits import PLANNED, ExitRule, SweepShard, exit_limit
from saefilter.scoring.cascade.plan import pilot_size
from saefilter.scoring.cascade.predict import Prediction
from saefilter.scoring.cascade.run import Step, digest_of, goal_of, read_rows
from saefilter.scoring.cascade.screen import ScreenedRows
from saefilter.scoring.job import (
    Job,
    Receipt,
    Shard,
    fingerprint_digest,
    plan_shards,
    read_shards,
)
from saefilter.scoring.workfolder import WorkFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from saefilter.scoring.engine import Engine
    from saefilter.scoring.job import ShardRows
    from saefilter.watch import StopRequest, Watch

LEAST = 3
"""Rows of a pilot that teaches something."""


@dataclass(frozen=True)
class Crew:
    """Who does the work, and who watches."""

    engine: Engine
    stop: StopRequest
    watch: Watch


def sweep(
    folder: WorkFolder, receipts: dict[int, Receipt], job: Job, crew: Crew
) -> dict[str, Step] | None:
    """Read the pilot, then all rows; adds receipts of the folder's shards to those that are there. None where it was
    asked to stop before the end. Raises SaefilterError."""
    rule: ExitRule | None = None
    pilot = _pilot(folder, job, crew)
    if pilot is None:
        return None
    step, seen = pilot
    if len(step.ids) >= LEAST:
        distance = step.distances()
        prediction = Prediction.fit(_vectors(seen), distance)
        n = min(folder.shards[-1].end_row, PLANNED)
        limit = exit_limit(prediction, distance, goal_of(job.settings, n), n)
        rule = ExitRule(replace(prediction, errors=np.zeros(0)), limit, step.ids)
    elif len(step.ids):
        rule = ExitRule(_nothing(seen), np.inf, step.ids)
    made_of = {"step": "sweep", "pilot": digest_of(step.ids),
               "limit": None if rule is None else repr(rule.limit)}  # fmt: skip
    scores = _open(folder, "sweep", made_of, folder.shards)

    def rows(missing: list[Shard]) -> Iterator[ShardRows]:
        return read_shards(job, missing)

    if (swept := _run(folder, receipts, scores, job, rule, rows, crew)) is None:
        return None
    return {"pilot": step, "sweep": _step("sweep", scores, swept)}


def _vectors(seen: ScreenedRows) -> NDArray[np.float32]:
    return np.concatenate(list(seen.blocks()))


def _nothing(seen: ScreenedRows) -> Prediction:
    """Of too few rows: no guess."""
    width = _vectors(seen).shape[1]
    return Prediction(np.zeros(width), np.ones(width), np.zeros(width), 0.0, np.zeros(0))


def _pilot(folder: WorkFolder, job: Job, crew: Crew) -> tuple[Step, ScreenedRows] | None:
    """Draw and read the pilot, but for what an earlier run has read of it. Which rows can be scored is not known
    yet; as each is drawn with the same chance, those that can are as if drawn among these alone."""
    n = folder.shards[-1].end_row
    draws = np.random.default_rng([job.settings.cascade_seed or 0, n, 1])
    ids: NDArray[np.int64] = np.sort(draws.permutation(n)[: pilot_size(n, n)])
    shards = plan_shards(len(ids), job.settings.shard_rows)
    made_of = {"step": "pilot", "step's rows": digest_of(ids)}
    scores = _open(folder, "pilot", made_of, shards)
    seen = _open(folder, "pilot-seen", made_of, shards)
    part = replace(job, folder=seen.path, fingerprint=fingerprint_digest(seen.fingerprint))
    receipts = seen.receipts(verify=True)
    crew.watch.say(f"Reading {len(ids):,} rows: pilot")

    def rows(missing: list[Shard]) -> Iterator[ShardRows]:
        return read_rows(part, ids, missing)

    if (read := _run(seen, receipts, scores, part, None, rows, crew)) is None:
        return None
    seen = replace(seen, written={one.shard: one.sha256 for one in receipts.values()})
    return _step("pilot", scores, read), ScreenedRows.of(seen, job.settings.max_tokens)


def _open(
    folder: WorkFolder, name: str, made_of: dict[str, Any], shards: list[Shard]
) -> WorkFolder:
    return WorkFolder.resume(
        folder.path / name, {**folder.fingerprint, **made_of}, shards, overwrite=True
    )


def _run(
    seen: WorkFolder,
    receipts: dict[int, Receipt],
    scores: WorkFolder,
    job: Job,
    rule: ExitRule | None,
    rows: Callable[[list[Shard]], Iterator[ShardRows]],
    crew: Crew,
) -> dict[int, Receipt] | None:
    """Do the work on shards of which one or the other is missing; `receipts` are of what was seen, and those of the
    scores are given. None where it was asked to stop before the end."""
    there = scores.receipts(verify=True)
    for number in [number for number in receipts if number not in there]:
        del receipts[number]
    missing = [shard for shard in seen.shards if shard.number not in receipts]
    crew.watch.plan(
        sum(shard.rows for shard in seen.shards), sum(one.rows for one in receipts.values())
    )
    other = replace(job, folder=scores.path, fingerprint=fingerprint_digest(scores.fingerprint))
    if missing:
        work = SweepShard(other, rule)
        for receipt in crew.engine.run(
            work, job, rows(missing), crew.stop, lambda done: crew.watch.advance(0, done)
        ):
            receipts[receipt.shard] = receipt
            crew.watch.advance(receipt.rows, 0)
    return None if len(receipts) < len(seen.shards) else scores.receipts()


def _step(name: str, folder: WorkFolder, receipts: dict[int, Receipt]) -> Step:
    """A step of the rows that were scored: shards and receipts say places among these, as those of others do."""
    folder = replace(folder, written={one.shard: one.sha256 for one in receipts.values()})
    ids, shards, placed, start = [np.zeros(0, np.int64)], [], {}, 0
    for shard in folder.shards:
        own = folder.read(shard, ["row_id"])["row_id"].to_numpy()
        end = start + len(own)
        ids.append(own)
        shards.append(Shard(shard.number, start, end))
        placed[shard.number] = replace(receipts[shard.number], first_row=start, end_row=end)
        start = end
    return Step(name, np.concatenate(ids), replace(folder, shards=shards), placed)
