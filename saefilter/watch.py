"""What work that takes long tells whoever watches it, and how it is asked to stop.

By default nobody watches; commands show a bar, and so does the Python API in a notebook. Ctrl-C and SIGTERM
are a request to stop at the next good moment.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any


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


def in_notebook() -> bool:
    """Whether this runs in a kernel of Jupyter."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


@contextmanager
def progress_watch(description: str, say: Callable[[str], None]) -> Iterator[Watch]:
    """A bar of rows, tokens per second and time left: a notebook's own where it has ipywidgets, else a line
    of text on standard error. It appears once it is known how many rows there are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm's, that ipywidgets is not there
        from tqdm.auto import tqdm

    bars: list[Any] = []
    tokens, begun = 0, time.monotonic()

    def plan(rows: int, done: int) -> None:
        nonlocal begun
        begun = time.monotonic()
        bars.append(tqdm(total=rows, initial=done, desc=description, unit=" rows"))

    def advance(rows: int, more: int) -> None:
        nonlocal tokens
        tokens += more
        for bar in bars[-1:]:
            rate = tokens / max(1e-9, time.monotonic() - begun)
            bar.set_postfix_str(f"{rate:,.0f} tokens/s" if tokens else "", refresh=False)
            bar.update(rows)

    def describe(text: str) -> None:
        for bar in bars[-1:]:
            bar.set_description(text)

    try:
        yield Watch(say, plan, advance, describe)
    finally:
        for bar in bars:
            bar.close()


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
