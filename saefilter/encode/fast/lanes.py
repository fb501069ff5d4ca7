"""Lanes: how many batches are computed at a time, and by whom.

On a CPU each lane is a thread that computes alone on one core: several small batches side by side
need no synchronisation between cores and stay in their caches. On a GPU two lanes with a stream each
keep it busy while results of the other are collected.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
GPU_LANES = 2


class Lanes:
    """Threads that compute batches; several callers may share them."""

    def __init__(self, device: torch.device, n: int | None = None):
        """`n` lanes: by default one per thread that torch may use on a CPU, two on a GPU."""
        self.device = device
        threads = torch.get_num_threads()
        self.n = n or (threads if device.type == "cpu" else GPU_LANES)
        self._own = threading.local()
        self._turn = threading.Condition()
        self._computing = 0
        self._alone = False
        # nothing that the threads are given refers to this object, so that they end with it
        starting = _Starting(device, self._own, threading.Barrier(self.n + 1))
        self._pool = ThreadPoolExecutor(self.n, "saefilter-lane", starting)
        for _ in range(self.n):
            self._pool.submit(int)
        try:
            starting.all_are.wait()
        except threading.BrokenBarrierError:
            raise starting.problems[0] from None
        # a lane's setting becomes the default of threads that start later; it is meant for lanes
        torch.set_num_threads(threads)

    def close(self) -> None:
        """End the threads, after what they are at."""
        self._pool.shutdown()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """For work in a lane: until it is left, nothing is computed in any other."""
        with self._turn:
            self._computing -= 1  # two that want to be alone do not wait for each other
            self._turn.notify_all()
            self._turn.wait_for(lambda: not self._alone)
            self._alone = True
            self._turn.wait_for(lambda: not self._computing)
        try:
            yield
        finally:
            with self._turn:
                self._alone = False
                self._computing += 1
                self._turn.notify_all()

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items; no more are begun than keep the lanes busy.

        What `work` raises is raised here, once nothing of this call is under way any more.
        """
        waiting = iter(items)
        under_way: deque[Future[Result]] = deque()
        try:
            for item in waiting:
                under_way.append(self._pool.submit(self._run, work, item))
                if len(under_way) > 2 * self.n:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
            for future in under_way:
                if not future.cancelled():
                    future.exception()

    def _run(self, work: Callable[[Item], Result], item: Item) -> Result:
        stream = getattr(self._own, "stream", None)
        with self._turn:
            self._turn.wait_for(lambda: not self._alone)
            self._computing += 1
        try:
            with torch.inference_mode(), torch.cuda.stream(stream) if stream else nullcontext():
                return work(item)
        finally:
            with self._turn:
                self._computing -= 1
                self._turn.notify_all()


@dataclass
class _Starting:
    """What a lane's thread does first."""

    device: torch.device
    own: threading.local
    all_are: threading.Barrier
    problems: list[BaseException] = field(default_factory=list)

    def __call__(self) -> None:
        try:
            if self.device.type == "cpu":
                torch.set_num_threads(1)
                torch.get_num_threads()  # a thread takes the default at its first use: now, not later
            elif self.device.type == "cuda":
                self.own.stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        except BaseException as error:  # for the thread that waits
            self.problems.append(error)
            self.all_are.abort()
            raise
        self.all_are.wait()
