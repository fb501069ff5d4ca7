"""The Ray engine: shards are scored by workers on the hosts of a cluster, each with a model of its own.

The driver reads the rows once and hands shards out as workers become free. A worker writes its shard and
the receipt into the job's folder, which all hosts share; only the receipt comes back. What a worker had
when it was lost is given to another one. What a worker does is in ray_worker.py.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from saefilter.errors import SaefilterError
from saefilter.scoring.engine import AT_HAND, TICK, Tokens, Work
from saefilter.scoring.job import Job, Receipt, Shard, ShardRows
from saefilter.scoring.prepare import MAX_PROCESSES
from saefilter.scoring.ray_cluster import connect, import_ray, room_for
from saefilter.scoring.ray_worker import Loaded, Mark, RayWorker, Unexpected, versions
from saefilter.scoring.workfolder import WorkFolder
from saefilter.storage import RemotePath

if TYPE_CHECKING:
    from saefilter.scoring.scorer import ScorerIdentity
    from saefilter.settings import ScoreSettings
    from saefilter.watch import Watch

TRIES = 3
"""Workers that are lost over one shard, or one after the other on one seat, before that is given up."""
OTHERS = 10.0
"""Seconds that a run waits for workers to begin once one has loaded; those that come later join in."""
PATIENCE = 600.0
"""Seconds that it waits for those that have begun to load, or while there is no worker at all."""


@dataclass(eq=False)
class _Task:
    """A shard that is under way, or will be again."""

    shard: Shard
    rows: Any
    """Reference to its `ShardRows`, which the driver's node keeps until it is done."""
    where: str
    """Its rows, for people."""
    tries: int = 0


@dataclass(eq=False)
class _Seat:
    """Room for one worker; when that is lost, another one takes it, there or elsewhere."""

    worker: Any = None
    host: str = "a host"
    node: str = ""
    loaded: bool = False
    ready: bool = False
    """For shards of the job."""
    at_hand: int = AT_HAND
    tasks: list[_Task] = field(default_factory=list)
    losses: int = 0
    """In a row, with no shard done between them."""


class _Asked(NamedTuple):
    """A question that a worker was asked."""

    seat: _Seat
    answered: Callable[[_Seat, Any], None]


class RayEngine:
    """Workers on a Ray cluster. Close it after use."""

    identity: ScorerIdentity

    def __init__(self, settings: ScoreSettings, watch: Watch):
        self._ray = import_ray()
        self._settings, self._watch = settings, watch
        self._connected = connect(self._ray, settings.address)
        self._seats: list[_Seat] = []
        self._asked: dict[Any, _Asked] = {}
        """By the reference to the answer."""
        self._again: deque[_Task] = deque()
        self._receipts: list[Receipt] = []
        self._failed: list[str] = []
        """Why hosts cannot load, a line each."""
        self._refused: list[str] = []
        """Why hosts may not take part, a line each."""
        self._alike: dict[str, Any] | None = None
        """What every worker must have loaded."""
        self._job: Job | None = None
        self._work: Any = None
        """Reference to what is done with shards, once there is a job."""
        self._running = False
        """Whether shards are given out: what keeps a host out is then told, and no error."""
        self._lost = self._retries = 0
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the workers, and leave the cluster where the run has connected to it."""
        for seat in self._seats:
            self._end(seat)
        if self._connected:
            self._ray.shutdown()

    def run(
        self,
        work: Work,
        job: Job,
        shards: Iterator[ShardRows],
        stop: threading.Event,
        advance: Tokens,
    ) -> Iterator[Receipt]:
        self._job, self._mark = named_from_anywhere(job), Mark.new()
        self._mark.leave(self._job)
        try:
            self._work = self._ray.put((work, self._job, self._mark))
            for seat in [seat for seat in self._seats if seat.loaded]:
                self._put_to_work(seat)
            while any(seat.loaded and not seat.ready for seat in self._seats):
                self._step()
            self._refuse()
            self._running = True
            for receipt in self._score(shards, stop):
                advance(receipt.tally.tokens)
                yield receipt
        finally:
            self._mark.remove(self._job)
        if self._lost or self._retries:
            self._watch.say(
                f"Ray: {self._lost} workers were lost, {self._retries} shards given to others"
            )

    def _load(self) -> None:
        """Begin all workers. Raises SaefilterError where hosts differ, or none can load."""
        room = self._room = room_for(self._ray.nodes(), self._settings)
        self._actor = self._ray.remote(
            num_cpus=room.cpus, num_gpus=room.gpus, scheduling_strategy="SPREAD",
            max_concurrency=AT_HAND + max(self._settings.prepare_processes or 0, MAX_PROCESSES),
        )(RayWorker)  # fmt: skip
        self._seats = [_Seat() for _ in range(room.workers)]
        for seat in self._seats:
            self._hire(seat)
        began, first = time.monotonic(), None
        while self._asked:
            self._step()
            if first is None and self._alike is not None:
                first = time.monotonic()
            loading = any(seat.node and not seat.loaded and seat.worker for seat in self._seats)
            if first is not None and time.monotonic() > first + (PATIENCE if loading else OTHERS):
                break
            if first is None and time.monotonic() > began + OTHERS:
                began = float("inf")
                self._watch.say("Waiting for workers of the Ray cluster to load")
        self._refuse()
        loaded = [seat for seat in self._seats if seat.loaded]
        if not loaded:
            raise SaefilterError(f"no worker of the Ray cluster can load. {self._failed[0]}")
        for line in dict.fromkeys(self._failed):
            self._watch.say(f"Without a worker: {line}")
        each = "a GPU each" if room.gpus else f"{room.cpus} CPUs each"
        hosts = len({seat.node for seat in loaded})
        self._watch.say(f"Ray: {len(loaded)} workers on {hosts} nodes, {each}")

    def _refuse(self) -> None:
        if self._refused:
            raise SaefilterError(
                "; ".join(dict.fromkeys(self._refused)),
                remedy="All hosts need what the first has; or leave the others out of the cluster.",
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
            out = any(seat.tasks for seat in self._seats)
            if not out and (stop.is_set() or not (more or self._again)):
                return
            if not any(seat.worker is not None for seat in self._seats):
                reasons = "; ".join(dict.fromkeys(self._failed + self._refused))
                raise SaefilterError(f"all workers of the Ray cluster were lost ({reasons})")
            self._step()
            while self._receipts:
                yield self._receipts.pop()
            working = sum(seat.ready for seat in self._seats)
            self._watch.describe(f"Scoring, {working} workers, {self._retries} retries")
            idle_since = None if working else idle_since or time.monotonic()
            if idle_since is not None and time.monotonic() > idle_since + PATIENCE:
                raise SaefilterError(f"there was no worker for {PATIENCE / 60:.0f} minutes")

    def _free(self) -> _Seat | None:
        """The worker with the fewest shards at hand, if it takes another one."""
        free = [seat for seat in self._seats if seat.ready and len(seat.tasks) < seat.at_hand]
        return min(free, key=lambda seat: len(seat.tasks), default=None)

    def _next(self, shards: Iterator[ShardRows]) -> _Task | None:
        read = next(shards, None)
        if read is None:
            return None
        assert self._job is not None
        first, last = read.rows[0], read.rows[-1]
        path = first.file or self._job.source.path
        until = f"{last.file}:{last.line}" if last.file != first.file else f"{last.line}"
        return _Task(read.shard, self._ray.put(read), f"{path}:{first.line}-{until}")

    def _give(self, seat: _Seat, task: _Task) -> None:
        task.tries += 1
        seat.tasks.append(task)
        self._ask(
            seat, seat.worker.score.remote(task.rows),
            lambda seat, answer: self._scored(seat, task, answer),
        )  # fmt: skip

    def _scored(
        self, seat: _Seat, task: _Task, answer: Receipt | SaefilterError | Unexpected
    ) -> None:
        seat.tasks.remove(task)
        if isinstance(answer, SaefilterError):
            raise answer
        if isinstance(answer, Unexpected):
            self._try_again(task, f"{answer.kind} in {answer.place} on {seat.host}")
            return
        seat.losses = 0
        self._receipts.append(answer)

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

    def _hire(self, seat: _Seat) -> None:
        """Let Ray begin a worker, wherever there is room."""
        seat.worker = self._actor.remote()
        self._ask(seat, seat.worker.about.remote(), self._greeted)

    def _greeted(self, seat: _Seat, about: dict[str, str]) -> None:
        seat.host, seat.node = about["host"], about["node"]
        differs = [f"{name} {about.get(name)} there, {value} here"
                   for name, value in versions().items() if about.get(name) != value]  # fmt: skip
        if differs:
            self._dismiss(seat, self._refused, ", ".join(differs))
            return
        threads = None if self._room.gpus else self._room.cpus
        self._ask(seat, seat.worker.load.remote(self._settings, os.getcwd(), threads), self._loaded)

    def _loaded(self, seat: _Seat, answer: Loaded | SaefilterError) -> None:
        if isinstance(answer, SaefilterError):
            self._dismiss(seat, self._failed, str(answer))
            return
        loaded = self._settings.fingerprint(answer.identity)
        if self._alike is None:
            self._alike, self.identity = loaded, answer.identity
        if differs := [name for name, value in loaded.items() if value != self._alike[name]]:
            self._dismiss(seat, self._refused, f"loads another {', '.join(differs)}")
            return
        seat.loaded, seat.at_hand = True, answer.at_hand
        if self._work is not None:
            self._put_to_work(seat)

    def _put_to_work(self, seat: _Seat) -> None:
        self._ask(seat, seat.worker.begin.remote(self._work), self._begun)

    def _begun(self, seat: _Seat, problem: SaefilterError | None) -> None:
        if problem is not None:
            self._dismiss(seat, self._refused, str(problem))
        else:
            seat.ready = True

    def _dismiss(self, seat: _Seat, reasons: list[str], reason: str) -> None:
        """Do without the worker, and without another one there."""
        line = f"{seat.host}: {reason}"
        if self._running:
            self._watch.say(f"Ray: without {line}")
        reasons.append(line)
        self._end(seat)

    def _ask(self, seat: _Seat, answer: Any, answered: Callable[[_Seat, Any], None]) -> None:
        self._asked[answer] = _Asked(seat, answered)

    def _step(self) -> None:
        """Wait a moment for answers, and go by them."""
        ready, _ = self._ray.wait(list(self._asked), num_returns=1, timeout=TICK)
        for answer in ready:
            asked = self._asked.pop(answer)
            try:
                value = self._ray.get(answer)
            except self._ray.exceptions.RayError as error:
                self._lose(asked.seat, type(error).__name__)
            else:
                asked.answered(asked.seat, value)

    def _lose(self, seat: _Seat, how: str) -> None:
        """A worker died, or its node did: another one takes its seat, and its shards go to any."""
        tasks, seat.tasks = seat.tasks, []
        self._end(seat)  # it may be out of reach only, and must not go on
        self._lost += 1
        seat.losses += 1
        self._watch.say(f"Ray: a worker on {seat.host} was lost ({how})")
        for task in tasks:
            self._try_again(task, f"{how} on {seat.host}")
        if seat.losses < TRIES:
            self._hire(seat)
        else:
            self._failed.append(f"{seat.host}: {TRIES} workers were lost ({how})")

    def _end(self, seat: _Seat) -> None:
        """End a worker at once."""
        self._asked = {ref: asked for ref, asked in self._asked.items() if asked.seat is not seat}
        if seat.worker is not None:
            with suppress(Exception):  # Ray may be gone
                self._ray.kill(seat.worker)
        seat.worker, seat.node, seat.loaded, seat.ready = None, "", False, False


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
