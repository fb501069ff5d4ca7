"""One sitting of a reviewer: what each key does, and that every decision is on disk before the next row is shown.

Nothing here knows of a terminal: keys come as `Press`es, and what is shown is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from saefilter.artifacts.decisions import (
    DROP,
    KEEP,
    REASON_CHARACTERS,
    Decision,
    Decisions,
    now,
)
from saefilter.report.data import SampleView
from saefilter.review.queue import Queued
from saefilter.text import one_line

KEYS = {
    "k": "keep: it stays, whatever the cut",
    "d": "drop: it goes, whatever the cut",
    "s": "skip: leave it to the cut",
    "b": "back to the row before",
    "r": "reason: say why, before k or d",
    "q": "quit: what was decided is kept, and the same command goes on",
    "?": "this help",
}
"""What a reviewer presses; case does not matter."""
NAMES = {
    "k": "keep", "d": "drop", "s": "skip", "b": "back", "r": "reason", "q": "quit", "?": "help",
}  # fmt: skip
"""The same as words, which do in a line of text."""


@dataclass(frozen=True)
class Press:
    """One key, and what was said with it: `d` alone, or the line `d gives a dose`."""

    key: str
    said: str = ""

    @classmethod
    def of_line(cls, line: str) -> Press:
        """Of a line of text: its first word, a key or what the key does, and the rest. Another word is a key
        that there is not, so that `don't know` drops nothing."""
        word, _, rest = line.strip().partition(" ")
        word = word.rstrip(":").lower()
        key = next((key for key, name in NAMES.items() if word == name), word)
        return cls(key, rest.strip())


@dataclass
class Session:
    """Where a reviewer is, and what was decided so far."""

    queue: Sequence[Queued]
    views: dict[int, SampleView]
    """By row id."""
    decisions: Decisions
    save: Callable[[Decisions], None]
    """Puts them on disk."""
    at: int = 0
    """Place in the queue."""
    reason: str = ""
    """Said, and not yet used."""
    done: bool = False
    made: set[str] = field(default_factory=set)
    """Hashes of the rows that were decided on in this sitting."""

    @property
    def finished(self) -> bool:
        return self.done or self.at >= len(self.queue)

    @property
    def current(self) -> Queued:
        return self.queue[self.at]

    @property
    def view(self) -> SampleView:
        return self.views[self.current.row_id]

    @property
    def decided(self) -> Decision | None:
        """What was decided before on the row that is shown."""
        return self.decisions.of(self.current.row_hash)

    def press(self, press: Press) -> str:
        """Do what a key says; what there is to tell the reviewer, or nothing."""
        if press.key in ("k", "d"):
            return self._decide(KEEP if press.key == "k" else DROP, press.said)
        if press.key == "r":
            self.reason = _cut(press.said)
            return f"Reason: {self.reason or '(none)'}. Now k or d."
        if press.key == "s":
            self._move(1)
        elif press.key == "b":
            if not self.at:
                return "This is the first row."
            self._move(-1)
        elif press.key == "q":
            self.done = True
        elif press.key == "?":
            return "\n".join(f"  {key}  {what}" for key, what in KEYS.items())
        elif press.key:
            return f"{one_line(press.key)!r} is no key here. {hint()}"
        return ""

    def _decide(self, decision: str, said: str) -> str:
        before = self.decided
        reason = _cut(said) or self.reason
        if not reason and before is not None and before.decision == decision:
            reason = before.reason
        row = self.view
        self.decisions = self.decisions.with_decision(
            Decision(self.current.row_hash, row.line, row.file, decision, reason, now())
        )
        self.save(self.decisions)
        self.made.add(self.current.row_hash)
        also = f", and {self.current.copies - 1:,} equal to it" if self.current.copies > 1 else ""
        done = f"{'Keep' if decision == KEEP else 'Drop'}: line {row.line}{also}"
        self._move(1)
        return done

    def _move(self, step: int) -> None:
        self.at += step
        self.reason = ""


def hint() -> str:
    """The keys, in one line."""
    return "  ".join(f"[{key}] {name}" for key, name in NAMES.items())


def _cut(said: str) -> str:
    return one_line(said)[:REASON_CHARACTERS]
