"""What work that takes long tells whoever watches it, and how it is asked to stop.

By default nobody watches. Ctrl-C and SIGTERM are a request to stop at the next good moment.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass(frozen=True)
class Watch:
    """What a run tells whoever watches it."""

    say: Callable[[str], None] = lambda text: None
    """Told a line now and then."""
    plan: Callable[[int, int], None] = lambda rows, done: None
    """Told how many rows there are, and how many an earlier run has done."""
    advance: Callable[[int, int], None] = lambda rows, tokens: None
    """Told how many rows and tokens have been done since it was told last."""
    describe: Callable[[str], None] = lambda text: None
    """Told what is going on, in a few words, whenever it may have changed."""


class Interrupted(Exception):
    """A run was asked to stop and did, with everything that was finished on disk."""

    def __init__(self, signal_number: int, message: str):
        self.signal_number = signal_number
        super().__init__(message)

    @property
    def exit_code(self) -> int:
        """By convention: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal_number


class StopRequest(threading.Event):
    """Set when a signal came; says which."""

    signal_number = signal.SIGINT


@contextmanager
def stop_on_signals(say: Callable[[str], None]) -> Iterator[StopRequest]:
    """The first Ctrl-C or SIGTERM sets the event and says so; a second one interrupts at once.

    Outside the main thread, where Python takes no signals, the event is never set.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.signal_number = signal.Signals(number)
        stop.set()
        say("Stopping after the shard at hand; once more to stop now")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
