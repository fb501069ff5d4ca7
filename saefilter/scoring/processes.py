"""Worker processes: what those of every kind have in common, and how any process gives memory back to
the system.

glibc keeps what was freed for later, for each thread apart, and tensors of a few megabytes leave holes
that the next ones do not fit: after a million rows, two thirds of the process would be such holes.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache

from saefilter.errors import SaefilterError


def be_a_worker() -> None:
    """Leave it to the parent when to stop, and end with it, also where it was killed: a worker may
    hold a GPU that the next run needs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


@contextmanager
def died_is_an_error(remedy: str) -> Iterator[None]:
    """A worker that died becomes a SaefilterError."""
    try:
        yield
    except BrokenProcessPool as error:
        raise SaefilterError(
            "a worker process died; most often it was killed for want of memory", remedy=remedy
        ) from error


def end_pool(pool: ProcessPoolExecutor) -> None:
    """End a pool of such workers, after what they are at.

    Once one of them has died, Python ends the others by SIGTERM, which they ignore, and then waits for
    them: they are killed.
    """
    processes = list((getattr(pool, "_processes", None) or {}).values())
    try:
        pool.submit(int)
    except BrokenProcessPool:
        for process in processes:
            process.kill()
    pool.shutdown(cancel_futures=True)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def give_back_free_memory() -> None:
    """Does nothing where the C library is another one than glibc."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (
        OSError,
        TypeError,
        AttributeError,
    ):  # Windows has no such library, others no such function
        return None
    return trim
