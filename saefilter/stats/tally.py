"""What some work came to, counted once and added up from batch to report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Tally:
    """Counts of some work; of two works together they are the sums.

    A new counter is a field here, a value where it is counted (encode/encoder.py) and, if people are to
    read it, an entry of `reported`.
    """

    tokens: int = 0
    """That the model read, without padding."""
    padded: int = 0
    """The same, padding included."""
    saved: int = 0
    """Of these, tokens of prefixes that had been computed for another row."""
    scored: int = 0
    """Scored tokens."""
    active: int = 0
    """Active features, summed over scored tokens."""
    repeated: int = 0
    """Tokens of rows that were not read, since the model had read the same, or nearly, in another row."""
    left_out: int = 0
    """Scored tokens of the rows that were read which are not in the sample that the SAE read."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Spent on each stage; stages of different shards overlap."""

    def __add__(self, other: Tally) -> Tally:
        if not isinstance(other, Tally):
            return NotImplemented
        return Tally(
            **{
                one.name: _sum(getattr(self, one.name), getattr(other, one.name))
                for one in fields(Tally)
            }
        )

    @property
    def l0(self) -> float:
        """Features active per scored token; 0 where none was scored."""
        return self.active / max(1, self.scored)

    def reported(self) -> dict[str, Any]:
        """By the names in a scores file's provenance."""
        return {
            "tokens": self.tokens,
            "l0": round(self.l0, 2),
            "padding": round(1 - self.tokens / max(1, self.padded), 4),
            "shared": round(self.saved / max(1, self.padded), 4),
            "repeated": self.repeated,
            "left_out": self.left_out,
            "timings": {stage: round(spent, 3) for stage, spent in self.seconds.items()},
        }


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, Mapping):
        total: Counter[str] = Counter(one)
        total.update(other)
        return dict(total)
    return one + other
