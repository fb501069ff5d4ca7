"""The workers of the Ray engine: begun, compared with each other, asked, and replaced when they are lost."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from saefilter.errors import SaefilterError
from saefilter.scoring.engine import AT_HAND, TICK
from saefilter.scoring.prepare import MAX_PROCESSES
from saefilter.scoring.ray_cluster import connect, import_ray, room_for
from saefilter.scoring.ray_worker import Loaded, RayWorker, versions

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
class Seat:
    """Room for one worker; when that is lost, another one takes it, there or elsewhere."""

    worker: Any = None
    host: str = "a host"
    node: str = ""
    loaded: bool = False
    ready: bool = False
    """For shards of the job."""
    at_hand: int = AT_HAND
    tasks: list[Any] = field(default_factory=list)
    """What it has been given."""
    losses: int = 0
    """In a row, with no shard done between them."""


class Asked(NamedTuple):
    """A question that a worker was asked."""

    seat: Seat
    answered: Callable[[Seat, Any], None]


class Crew:
    """Workers on a Ray cluster. Close it after use."""

    identity: ScorerIdentity
    """What all of them have loaded."""

    def __init__(
        self, settings: ScoreSettings, watch: Watch, on_loss: Callable[[list[Any], str], None]
    ):
        """`on_loss` is told what a lost worker was at, and how it was lost."""
        self.ray = import_ray()
        self._settings, self._watch, self._on_loss = settings, watch, on_loss
        self.seats: list[Seat] = []
        self.lost = 0
        self._asked: dict[Any, Asked] = {}
        """By the reference to the answer."""
        self._failed: list[str] = []
        """Why hosts cannot load, a line each."""
        self._refused: list[str] = []
        """Why hosts may not take part, a line each."""
        self._alike: dict[str, Any] | None = None
        """What every worker must have loaded."""
        self._work: Any = None
        """Reference to what is done with shards, once there is a job."""
        self._running = False
        """Whether shards are given out: what keeps a host out is then told, and no error."""
        self._connected = connect(self.ray, settings.address)
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the workers, and leave the cluster where the run has connected to it."""
        self.disband()
        if self._connected:
            self.ray.shutdown()

    def disband(self) -> None:
        """End the workers at once, whatever they are at."""
        for seat in self.seats:
            self._end(seat)

    def take_on(self, told: Any) -> None:
        """Tell all workers what is done with shards. Raises SaefilterError where some cannot."""
        self._work = self.ray.put(told)
        for seat in [seat for seat in self.seats if seat.loaded]:
            seat.ready = False  # for this job; it may have been for another one
            self._put_to_work(seat)
        while any(seat.loaded and not seat.ready for seat in self.seats):
            self.step()
        self._refuse()
        self._running = True

    def refuse_none(self) -> None:
        """Raises SaefilterError where there is no worker any more, and none to come."""
        if not any(seat.worker is not None for seat in self.seats):
            reasons = "; ".join(dict.fromkeys(self._failed + self._refused))
            raise SaefilterError(f"all workers of the Ray cluster were lost ({reasons})")

    def ask(self, seat: Seat, answer: Any, answered: Callable[[Seat, Any], None]) -> None:
        """Expect the answer to a question, by its reference."""
        self._asked[answer] = Asked(seat, answered)

    def step(self) -> None:
        """Wait a moment for answers, and go by them."""
        ready, _ = self.ray.wait(list(self._asked), num_returns=1, timeout=TICK)
        for answer in ready:
            asked = self._asked.pop(answer)
            try:
                value = self.ray.get(answer)
            except self.ray.exceptions.RayError as error:
                self._lose(asked.seat, type(error).__name__)
            else:
                asked.answered(asked.seat, value)

    def _load(self) -> None:
        """Begin all workers. Raises SaefilterError where hosts differ, or none can load."""
        room = self._room = room_for(self.ray.nodes(), self._settings)
        self._actor = self.ray.remote(
            num_cpus=room.cpus, num_gpus=room.gpus, scheduling_strategy="SPREAD",
            max_concurrency=AT_HAND + max(self._settings.prepare_processes or 0, MAX_PROCESSES),
        )(RayWorker)  # fmt: skip
        self.seats = [Seat() for _ in range(room.workers)]
        for seat in self.seats:
            self._hire(seat)
        began, first = time.monotonic(), None
        while self._asked:
            self.step()
            if first is None and self._alike is not None:
                first = time.monotonic()
            loading = any(seat.node and not seat.loaded and seat.worker for seat in self.seats)
            if first is not None and time.monotonic() > first + (PATIENCE if loading else OTHERS):
                break
            if first is None and time.monotonic() > began + OTHERS:
                began = float("inf")
                self._watch.say("Waiting for workers of the Ray cluster to load")
        self._refuse()
        loaded = [seat for seat in self.seats if seat.loaded]
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
                remedy="All hosts need what the first has, credentials too; or leave the others out of the cluster.",
            )

    def _hire(self, seat: Seat) -> None:
        """Let Ray begin a worker, wherever there is room."""
        seat.worker = self._actor.remote()
        self.ask(seat, seat.worker.about.remote(), self._greeted)

    def _greeted(self, seat: Seat, about: dict[str, str]) -> None:
        seat.host, seat.node = about["host"], about["node"]
        differs = [f"{name} {about.get(name)} there, {value} here"
                   for name, value in versions().items() if about.get(name) != value]  # fmt: skip
        if differs:
            self._dismiss(seat, self._refused, ", ".join(differs))
            return
        threads = None if self._room.gpus else self._room.cpus
        self.ask(seat, seat.worker.load.remote(self._settings, os.getcwd(), threads), self._loaded)

    def _loaded(self, seat: Seat, answer: Loaded | SaefilterError) -> None:
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

    def _put_to_work(self, seat: Seat) -> None:
        self.ask(seat, seat.worker.begin.remote(self._work), self._begun)

    def _begun(self, seat: Seat, problem: SaefilterError | None) -> None:
        if problem is not None:
            self._dismiss(seat, self._refused, str(problem))
        else:
            seat.ready = True

    def _dismiss(self, seat: Seat, reasons: list[str], reason: str) -> None:
        """Do without the worker, and without another one there."""
        line = f"{seat.host}: {reason}"
        if self._running:
            self._watch.say(f"Ray: without {line}")
        reasons.append(line)
        self._end(seat)

    def _lose(self, seat: Seat, how: str) -> None:
        """A worker died, or its node did: another one takes its seat, and its shards go to any."""
        tasks, seat.tasks = seat.tasks, []
        self._end(seat)  # it may be out of reach only, and must not go on
        self.lost += 1
        seat.losses += 1
        self._watch.say(f"Ray: a worker on {seat.host} was lost ({how})")
        self._on_loss(tasks, f"{how} on {seat.host}")
        if seat.losses < TRIES:
            self._hire(seat)
        else:
            self._failed.append(f"{seat.host}: {TRIES} workers were lost ({how})")

    def _end(self, seat: Seat) -> None:
        """End a worker at once."""
        self._asked = {ref: asked for ref, asked in self._asked.items() if asked.seat is not seat}
        if seat.worker is not None:
            with suppress(Exception):  # Ray may be gone
                self.ray.kill(seat.worker)
        seat.worker, seat.node, seat.loaded, seat.ready = None, "", False, False
