"""Engines: where shards are scored. In this process, or in several on this machine."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from saefilter.errors import SaefilterError
from saefilter.rows.ranges import RangeReader
from saefilter.run.shards import Job, Receipt, Shard, score_shard

if TYPE_CHECKING:
    from saefilter.run.chunks import ChunkScorer, ScorerIdentity, ScoreSettings

Tokens = Callable[[int], None]


class Engine(Protocol):
    """Somewhere to score shards."""

    @property
    def identity(self) -> ScorerIdentity:
        """What is loaded there."""

    def run(
        self, job: Job, shards: Sequence[Shard], stop: threading.Event, advance: Tokens
    ) -> Iterator[Receipt]:
        """Score the shards; each receipt is given as it comes. Once `stop` is set no other shard is
        begun, and those under way are finished. `advance` is told the tokens done."""


class LocalEngine:
    """This process."""

    def __init__(self, scorer: ChunkScorer):
        self.scorer = scorer
        self.identity = scorer.identity()

    def run(
        self, job: Job, shards: Sequence[Shard], stop: threading.Event, advance: Tokens
    ) -> Iterator[Receipt]:
        reader = RangeReader(job.source)
        for shard in shards:
            if stop.is_set():
                return
            yield score_shard(job, shard, self.scorer, reader, advance)


class ProcessEngine:
    """Several processes of this machine, each with a model of its own; one per GPU, or several that
    share the CPU's cores. Close it after use."""

    def __init__(self, settings: ScoreSettings, workers: int):
        self.workers = workers
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        numbers = context.Queue()
        for number in range(workers):
            numbers.put(number)
        self._pool = ProcessPoolExecutor(
            workers, context, _start_worker, (settings, numbers, workers)
        )
        with _as_our_error():
            self.identity: ScorerIdentity = self._pool.submit(_identity).result()

    def run(
        self, job: Job, shards: Sequence[Shard], stop: threading.Event, advance: Tokens
    ) -> Iterator[Receipt]:
        waiting = iter(shards)
        running: set[Future[Receipt]] = set()
        while True:
            # no more than there are workers, so that stopping leaves none in a queue
            while len(running) < self.workers and not stop.is_set():
                shard = next(waiting, None)
                if shard is None:
                    break
                running.add(self._pool.submit(_score, job, shard))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                with _as_our_error():
                    receipt = future.result()
                advance(receipt.tokens)
                yield receipt

    def close(self) -> None:
        """End the workers, after the shards that they are at."""
        self._pool.shutdown(cancel_futures=True)


class _as_our_error:
    """A worker that died becomes a SaefilterError."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, BrokenProcessPool):
            raise SaefilterError(
                "a worker process died; most often it was killed for want of memory",
                remedy="Use fewer --workers or --batch-tokens.",
            ) from error


_scorer: ChunkScorer | None = None
_reader: RangeReader | None = None
_failure: SaefilterError | None = None


def _start_worker(
    settings: ScoreSettings, numbers: multiprocessing.Queue[int], workers: int
) -> None:
    """Load a scorer once per process, on a device of its own."""
    global _scorer, _failure
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    from saefilter.run.chunks import ChunkScorer

    try:
        _scorer = ChunkScorer.load(_for_worker(settings, numbers.get(), workers))
    except SaefilterError as error:  # raised here it would only say that the pool is broken
        _failure = error


def _die_with_parent() -> None:
    """A killed parent cannot end its workers, and theirs is a GPU that the next run needs."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _for_worker(settings: ScoreSettings, number: int, workers: int) -> ScoreSettings:
    import torch

    if settings.device in ("auto", "cuda") and torch.cuda.is_available():
        return replace(settings, device=f"cuda:{number % torch.cuda.device_count()}")
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    return settings


def _loaded() -> ChunkScorer:
    if _failure is not None:
        raise _failure
    assert _scorer is not None
    return _scorer


def _identity() -> ScorerIdentity:
    return _loaded().identity()


def _score(job: Job, shard: Shard) -> Receipt:
    global _reader
    if _reader is None or _reader.source != job.source:
        _reader = RangeReader(job.source)
    return score_shard(job, shard, _loaded(), _reader)


def default_workers(settings: ScoreSettings) -> int:
    """One per GPU, or one."""
    import torch

    if settings.device == "auto" and settings.device_map is None and torch.cuda.is_available():
        return max(1, torch.cuda.device_count())
    return 1
