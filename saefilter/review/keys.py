"""Keys of a terminal as they are pressed, and those pressed too early too; lines of anything else."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

from saefilter.review.session import Press

ESCAPE, END = "\x1b", "\x04"
AT_ONCE = 64
NOTICED_WITHIN = 0.2
"""Seconds."""


def presses(ask: Callable[[str], str]) -> Generator[Press]:
    """What the reviewer says. `ask` reads a line with a prompt, for reasons; the end of the input ends it. Close
    it, or the terminal stays as it was made."""
    if sys.stdin is None or not sys.stdin.isatty():  # a service may have none at all
        yield from (Press.of_line(line) for line in sys.stdin or () if line.strip())
        return
    with _unbuffered() as lines:
        while keys := _read():
            # an arrow is several characters that end in a letter, and none of them
            for key in [keys] if keys[0] == ESCAPE else keys:
                if key == END:
                    return
                if key.lower() == "r":
                    with lines():
                        reason = ask("Reason: ")
                    yield Press("r", reason)
                else:
                    yield Press(key.lower())


def _read() -> str:
    """Keys that were pressed, at least one; nothing at the end of the input."""
    if sys.platform == "win32":
        import typer

        return typer.getchar()
    terminal = sys.stdin.fileno()
    # a Ctrl-C just before a read would wait for the next key: between two waits it is noticed
    while not select.select([terminal], [], [], NOTICED_WITHIN)[0]:
        pass
    return os.read(terminal, AT_ONCE).decode(errors="replace")


@contextmanager
def _unbuffered() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """A terminal that hands over every key; what it gives makes it read lines for a while."""
    if sys.platform == "win32":  # reads keys so anyway
        yield _nothing
        return
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    @contextmanager
    def lines() -> Iterator[None]:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        try:
            yield
        finally:
            tty.setcbreak(terminal, termios.TCSADRAIN)

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    # which would leave the terminal as it is
    old = {one: signal.signal(one, end) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setcbreak(terminal, termios.TCSADRAIN)  # Ctrl-C stays what it is
        yield lines
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        for one, handler in old.items():
            signal.signal(one, handler)


@contextmanager
def _nothing() -> Iterator[None]:
    yield
