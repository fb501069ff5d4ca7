"""What worker processes of every kind have in common."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading


def be_a_worker() -> None:
    """Leave it to the parent when to stop, and end with it, also where it was killed: a worker may
    hold a GPU that the next run needs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
