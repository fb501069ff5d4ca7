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

ESCAPE, ENDS = "\x1b", ("\x03", "\x04")
"""Ctrl-C and Ctrl-D."""
AT_ONCE = 64
CONTROL_KEYS = 6
"""Where termios has them in the list of a terminal's attributes."""
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
                if key in ENDS:
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
    # a signal just before a read would wait for the next key: between two waits it is noticed
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
            key_by_key()

    def key_by_key() -> None:
        """Ctrl-C is a key as the others, which wait for their turn: as a signal it was lost now and then."""
        tty.setcbreak(terminal, termios.TCSADRAIN)
        mode = termios.tcgetattr(terminal)
        mode[CONTROL_KEYS][termios.VINTR] = os.fpathconf(terminal, "PC_VDISABLE").to_bytes()
        termios.tcsetattr(terminal, termios.TCSADRAIN, mode)

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    # which would leave the terminal as it is
    old = {one: signal.signal(one, end) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        key_by_key()
        yield lines
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        for one, handler in old.items():
            signal.signal(one, handler)


@contextmanager
def _nothing() -> Iterator[None]:
    yield
