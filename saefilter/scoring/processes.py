"""What worker processes of every kind have in common."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

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
