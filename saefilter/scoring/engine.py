"""Engines: where the work of shards is done. In this process, or in several on this machine."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from contextlib import suppress
from dataclasses import replace
from multiprocessing.util import Finalize
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple, Protocol

from saefilter.errors import SaefilterError
from saefilter.scoring.job import Job, Receipt, ShardRows
from saefilter.scoring.processes import be_a_worker, died_is_an_error, end_pool

if TYPE_CHECKING:
    from saefilter.scoring.scorer import RowScorer, ScorerIdentity
    from saefilter.settings import ScoreSettings

Tokens = Callable[[int], None]
Work = Callable[["Job", "RowScorer", ShardRows, Tokens], Receipt]
"""What is done with one shard, wherever: a function that can be pickled by its name."""
TICK = 0.1
"""Seconds between looks at what is done."""


class Engine(Protocol):
    """Somewhere to score shards."""

    @property
    def identity(self) -> ScorerIdentity:
        """What is loaded there."""

    def run(
        self,
        work: Work,
        job: Job,
        shards: Iterator[ShardRows],
        stop: threading.Event,
        advance: Tokens,
    ) -> Iterator[Receipt]:
        """Do the `work` of each shard; each receipt is given as it comes. Once `stop` is set no other
        shard is begun, and those under way are finished. `advance` is told the tokens done. What ended without
        an error can be run again, with other work."""


AT_HAND = 2
"""Shards under way at a time: one is read, rendered, explained and written while the model is busy
with another. One more for each process that prepares rows."""
REMEDY = "Use fewer --workers or --batch-tokens."


class LocalEngine:
    """This process."""

    def __init__(self, scorer: RowScorer):
        self.scorer = scorer
        self.identity = scorer.identity()
        self.at_hand = AT_HAND + scorer.preparer.processes
        """Shards under way at a time."""

    def run(
        self,
        work: Work,
        job: Job,
        shards: Iterator[ShardRows],
        stop: threading.Event,
        advance: Tokens,
    ) -> Iterator[Receipt]:
        self.scorer.encoder.limit_memory(job.memory_limit)
        tokens: SimpleQueue[int] = SimpleQueue()
        given_up = threading.Event()

        def count(done: int) -> None:
            if given_up.is_set():
                raise _GivenUp
            tokens.put(done)

        pool = ThreadPoolExecutor(self.at_hand, "saefilter-shard")
        running: set[Future[Receipt]] = set()
        try:
            while True:
                while len(running) < self.at_hand and not stop.is_set():
                    shard = next(shards, None)
                    if shard is None:
                        break
                    running.add(pool.submit(work, job, self.scorer, shard, count))
                if not running:
                    return
                done, running = wait(running, TICK, return_when=FIRST_COMPLETED)
                while not tokens.empty():
                    advance(tokens.get())
                for future in sorted(done, key=lambda future: future.exception() is not None):
                    yield future.result()
        finally:
            given_up.set()  # after an error or a second Ctrl-C, others end with their next batch
            pool.shutdown(wait=True, cancel_futures=True)


class ProcessEngine:
    """Several processes of this machine, each with a model of its own; one per GPU, or several that
    share the CPU's cores. Close it after use."""

    def __init__(self, settings: ScoreSettings, workers: int):
        self.workers = workers
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        numbers = context.Queue()
        for number in range(workers):
            numbers.put(number)
        self._shards: multiprocessing.Queue[ShardRows | None] = context.Queue()
        self._receipts: multiprocessing.Queue[Receipt] = context.Queue()
        queues = _Queues(numbers, self._shards, self._receipts)
        self._pool = ProcessPoolExecutor(
            workers, context, _start_worker, (settings, queues, workers)
        )
        try:
            with died_is_an_error(REMEDY):
                loaded = self._pool.submit(_about).result()
        except BaseException:
            self.close()
            raise
        self.identity: ScorerIdentity
        self.identity, self._at_hand = loaded

    def run(
        self,
        work: Work,
        job: Job,
        shards: Iterator[ShardRows],
        stop: threading.Event,
        advance: Tokens,
    ) -> Iterator[Receipt]:
        under_way, ended = 0, False
        working = {self._pool.submit(_work_on, work, job) for _ in range(self.workers)}
        try:
            while under_way or not ended:
                # as many as the workers take, so that stopping leaves none in the queue; with fewer, all of
                # them would wait for another one and none would say what it has done
                while not ended and under_way < self._at_hand * self.workers:
                    shard = None if stop.is_set() else next(shards, None)
                    if shard is None:
                        ended = True
                        self._no_more()
                    else:
                        self._shards.put(shard)
                        under_way += 1
                with died_is_an_error(REMEDY):
                    for future in (future for future in working if future.done()):
                        future.result()
                with suppress(Empty):
                    receipt = self._receipts.get(timeout=TICK)
                    under_way -= 1
                    advance(receipt.tally.tokens)
                    yield receipt
            with died_is_an_error(REMEDY):
                for future in working:  # one that still waits would take shards of the next run
                    future.result()
        finally:
            if not ended:
                with suppress(Empty):
                    while True:  # after an error those that nobody has begun stay undone
                        self._shards.get_nowait()
                self._no_more()

    def _no_more(self) -> None:
        for _ in range(self.workers):
            self._shards.put(None)

    def close(self) -> None:
        """End the workers, after the shards that they are at."""
        end_pool(self._pool)


class _GivenUp(Exception):
    """Ends a shard whose run has ended."""


class _Queues(NamedTuple):
    """What a worker shares with its parent."""

    numbers: multiprocessing.Queue[int]
    shards: multiprocessing.Queue[ShardRows | None]
    receipts: multiprocessing.Queue[Receipt]


_queues: _Queues | None = None
_scorer: RowScorer | None = None
_failure: SaefilterError | None = None


def _start_worker(settings: ScoreSettings, queues: _Queues, workers: int) -> None:
    """Load a scorer once per process, on a device of its own."""
    global _queues, _scorer, _failure
    be_a_worker()
    from saefilter.scoring.scorer import RowScorer

    _queues = queues
    try:
        _scorer = RowScorer.load(_for_worker(settings, queues.numbers.get(), workers))
        # first of all, while its queues still work: or the process would wait for its own processes
        Finalize(None, _scorer.close, exitpriority=1000)
    except SaefilterError as error:  # raised here it would only say that the pool is broken
        _failure = error


def _for_worker(settings: ScoreSettings, number: int, workers: int) -> ScoreSettings:
    import torch

    if settings.device in ("auto", "cuda") and torch.cuda.is_available():
        return replace(settings, device=f"cuda:{number % torch.cuda.device_count()}")
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    return settings


def _loaded() -> RowScorer:
    if _failure is not None:
        raise _failure
    assert _scorer is not None
    return _scorer


def _about() -> tuple[ScorerIdentity, int]:
    """What was loaded, and how many shards the worker takes at a time."""
    engine = LocalEngine(_loaded())
    return engine.identity, engine.at_hand


def _work_on(work: Work, job: Job) -> None:
    """Do the work of shards of the job until there are no more."""
    assert _queues is not None
    shards = iter(_queues.shards.get, None)
    engine = LocalEngine(_loaded())
    for receipt in engine.run(work, job, shards, threading.Event(), lambda done: None):
        _queues.receipts.put(receipt)


def default_workers(settings: ScoreSettings) -> int:
    """One per GPU, or one."""
    import torch

    if settings.device == "auto" and settings.device_map is None and torch.cuda.is_available():
        return max(1, torch.cuda.device_count())
    return 1
