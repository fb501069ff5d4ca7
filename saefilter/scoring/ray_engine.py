"""The Ray engine: shards are scored by workers on the hosts of a cluster, each with a model of its own.

The driver reads the rows once and hands shards out as workers become free. A worker writes its shard and
the receipt into the job's folder, which all hosts share; only the receipt comes back. What a worker had
when it was lost is given to another one. Who the workers are is in ray_crew.py, what one does in
ray_worker.py.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saefilter.errors import SaefilterError
from saefilter.scoring.engine import Tokens, Work
from saefilter.scoring.job import Job, Receipt, Shard, ShardRows
from saefilter.scoring.ray_crew import PATIENCE, TRIES, Crew, Seat
from saefilter.scoring.ray_worker import Mark, Unexpected
from saefilter.scoring.workfolder import WorkFolder
from saefilter.storage import RemotePath

if TYPE_CHECKING:
    from saefilter.scoring.scorer import ScorerIdentity
    from saefilter.settings import ScoreSettings
    from saefilter.watch import Watch


@dataclass(eq=False)
class _Task:
    """A shard that is under way, or will be again."""

    shard: Shard
    rows: Any
    """Reference to its `ShardRows`, which the driver's node keeps until it is done."""
    where: str
    """Its rows, for people."""
    tries: int = 0


class RayEngine:
    """Workers on a Ray cluster. Close it after use."""

    def __init__(self, settings: ScoreSettings, watch: Watch):
        self._watch = watch
        self._job: Job | None = None
        self._again: deque[_Task] = deque()
        self._receipts: list[Receipt] = []
        self._retries = 0
        self._crew = Crew(settings, watch, self._lost)
        self.identity: ScorerIdentity = self._crew.identity

    def close(self) -> None:
        """End the workers, and leave the cluster where the run has connected to it."""
        self._crew.close()

    def run(
        self,
        work: Work,
        job: Job,
        shards: Iterator[ShardRows],
        stop: threading.Event,
        advance: Tokens,
    ) -> Iterator[Receipt]:
        self._job, mark = named_from_anywhere(job), Mark.new()
        mark.leave(self._job)
        try:
            self._crew.take_on((work, self._job, mark))
            for receipt in self._score(shards, stop):
                advance(receipt.tally.tokens)
                yield receipt
        except BaseException:
            self._crew.disband()  # nobody must write into a folder that is given up
            raise
        finally:
            mark.remove(self._job)
        lost = self._crew.lost
        if lost or self._retries:
            self._watch.say(
                f"Ray: {lost} workers were lost, {self._retries} shards given to others"
            )

    def _score(self, shards: Iterator[ShardRows], stop: threading.Event) -> Iterator[Receipt]:
        """Give out shards until all are done, or until those that are out are, once `stop` is set."""
        more, idle_since = True, None
        while True:
            while not stop.is_set() and (seat := self._free()) is not None:
                task = (
                    self._again.popleft() if self._again else self._next(shards) if more else None
                )
                if task is None:
                    more = False
                    break
                self._give(seat, task)
            out = any(seat.tasks for seat in self._crew.seats)
            if not out and (stop.is_set() or not (more or self._again)):
                return
            self._crew.refuse_none()
            self._crew.step()
            while self._receipts:
                yield self._receipts.pop()
            working = sum(seat.ready for seat in self._crew.seats)
            self._watch.describe(f"Scoring, {working} workers, {self._retries} retries")
            idle_since = None if working else idle_since or time.monotonic()
            if idle_since is not None and time.monotonic() > idle_since + PATIENCE:
                raise SaefilterError(f"there was no worker for {PATIENCE / 60:.0f} minutes")

    def _free(self) -> Seat | None:
        """The worker with the fewest shards at hand, if it takes another one."""
        free = [seat for seat in self._crew.seats if seat.ready and len(seat.tasks) < seat.at_hand]
        return min(free, key=lambda seat: len(seat.tasks), default=None)

    def _next(self, shards: Iterator[ShardRows]) -> _Task | None:
        read = next(shards, None)
        if read is None:
            return None
        assert self._job is not None
        first, last = read.rows[0], read.rows[-1]
        path = first.file or self._job.source.path
        until = f"{last.file}:{last.line}" if last.file != first.file else f"{last.line}"
        return _Task(read.shard, self._crew.ray.put(read), f"{path}:{first.line}-{until}")

    def _give(self, seat: Seat, task: _Task) -> None:
        task.tries += 1
        seat.tasks.append(task)
        self._crew.ask(
            seat, seat.worker.score.remote(task.rows),
            lambda seat, answer: self._scored(seat, task, answer),
        )  # fmt: skip

    def _scored(
        self, seat: Seat, task: _Task, answer: Receipt | SaefilterError | Unexpected
    ) -> None:
        seat.tasks.remove(task)
        if isinstance(answer, SaefilterError):
            raise answer
        if isinstance(answer, Unexpected):
            self._try_again(task, f"{answer.kind} in {answer.place} on {seat.host}")
            return
        seat.losses = 0
        self._receipts.append(answer)

    def _lost(self, tasks: list[_Task], reason: str) -> None:
        for task in tasks:
            self._try_again(task, reason)

    def _try_again(self, task: _Task, reason: str) -> None:
        """Let another worker have a shard, unless it is done. Raises SaefilterError the third time."""
        assert self._job is not None
        if (receipt := finished(self._job, task.shard)) is not None:
            self._receipts.append(receipt)
            return
        if task.tries >= TRIES:
            raise SaefilterError(
                f"these rows were given to {TRIES} workers in vain, the last time: {reason}",
                where=task.where,
                remedy="Look for a row that needs too much memory, or give more --cpus-per-worker.",
            )
        self._retries += 1
        self._again.append(task)


def named_from_anywhere(job: Job) -> Job:
    """The job with its folder's whole path; URLs are whole as they are."""
    if isinstance(job.folder, RemotePath):
        return job
    return replace(job, folder=Path(os.path.abspath(job.folder)))


def finished(job: Job, shard: Shard) -> Receipt | None:
    """The receipt of a shard that a lost worker finished before it was lost."""
    try:
        return WorkFolder.at(job.folder, [shard]).receipts(verify=True).get(shard.number)
    except SaefilterError:  # two have written it, the one out of reach of the other
        return None
