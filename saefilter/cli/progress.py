"""How far a run is: a bar on a terminal, a line now and then in a log, a batch job, a pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from saefilter.cli.common import warn

if TYPE_CHECKING:
    from rich.progress import Progress

    from saefilter.watch import Watch

FIRST, LONGEST = 30.0, 600.0
"""Seconds until the first line, and between two at most: each wait is twice the one before, so that a
day's log has some 150 lines."""


class LogLines:
    """Says a line now and then, of rows, tokens per second and time left.

    It takes the calls of a progress bar. Lines come with what is done, never by a clock of their own:
    a run that hangs says nothing.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        description: str,
        total: int | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._say, self._description, self._clock = say, description, clock
        self._wait = FIRST
        self.plan(total, 0)

    def plan(self, total: int | None, done: int) -> None:
        """Begin, now that it is known how many rows there are and how many are done already."""
        self._total, self._before, self._rows, self._tokens = total, done, 0, 0
        self._begun = self._spoke = self._clock()

    def describe(self, text: str) -> None:
        """Say what is going on, with the next line."""
        self._description = text

    def __call__(self, rows: int, tokens: int) -> None:
        """So many more rows and tokens are done."""
        self._rows, self._tokens = self._rows + rows, self._tokens + tokens
        now = self._clock()
        over = self._total is not None and self._before + self._rows >= self._total
        if over or now - self._spoke < self._wait:
            return
        self._spoke, self._wait = now, min(2 * self._wait, LONGEST)
        self._say(self._line(now - self._begun))

    def _line(self, elapsed: float) -> str:
        """As far as it is known."""
        from saefilter.encode.plan import duration

        done, total = self._before + self._rows, self._total
        parts = [f"{done:,} rows" if total is None else f"{done:,} of {total:,} rows"]
        if self._tokens:
            parts.append(f"{self._tokens / elapsed:,.0f} tokens/s")
        if total is not None and self._rows:
            left = (total - done) * elapsed / self._rows
            parts.append(f"about {duration(left)} left")
        return f"{self._description}: {', '.join(parts)}"


class ProgressBar:
    """Rows, tokens per second and time left of one piece of work."""

    def __init__(self, bar: Progress, description: str, total: int | None):
        self._bar, self._tokens = bar, 0
        self._task = bar.add_task(description, total=total, rate="-", start=total is not None)

    def plan(self, total: int, done: int) -> None:
        """Begin, now that it is known how many rows there are and how many are done already."""
        self._bar.start_task(self._task)
        self._bar.update(self._task, total=total, completed=done)

    def describe(self, text: str) -> None:
        """Say what is going on."""
        self._bar.update(self._task, description=text)

    def __call__(self, rows: int, tokens: int) -> None:
        """So many more rows and tokens are done."""
        self._tokens += tokens
        elapsed = self._bar.tasks[0].elapsed or 0
        rate = f"{self._tokens / elapsed:,.0f}" if elapsed else "-"
        self._bar.update(self._task, advance=rows, rate=rate)


@contextmanager
def progress_bar(
    description: str, total: int | None, *, quiet: bool
) -> Iterator[ProgressBar | LogLines]:
    """A bar on standard error; a line now and then where that is no terminal. Without `total` it waits
    for its plan."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not quiet and not console.is_terminal:
        yield LogLines(warn, description, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows  {task.fields[rate]} tokens/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=quiet, transient=True) as bar:
        yield ProgressBar(bar, description, total)


@contextmanager
def scoring_bar(
    *, quiet: bool, at_first_shard: Callable[[], None] = lambda: None
) -> Iterator[Watch]:
    """What scoring tells: its progress, and why device and dtype were chosen."""
    from saefilter.watch import Watch

    with progress_bar("Scoring", None, quiet=quiet) as bar:

        def plan(rows: int, done: int) -> None:
            at_first_shard()
            bar.plan(rows, done)

        yield Watch(lambda text: warn(text, quiet=quiet), plan, bar, bar.describe)
