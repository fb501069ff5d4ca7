"""What a strategy read to rank the rows: counted where it is read, so that methods can be compared by what
they cost. What is learnt once is told apart from what every row costs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace


@dataclass
class Cost:
    """Counts that only grow; of one strategy they are the difference of two moments."""

    tokens: int = 0
    """Read or written by a causal model, without padding; what is learnt once included."""
    row_tokens: int = 0
    """Of these, those of the rows."""
    row_seconds: float = 0.0
    """Spent on rows, where a strategy goes through them by `scored_once`."""
    rows_read: int = 0
    """Rows whose numbers were found out, equal ones included."""
    rows_kept: int = 0
    """Rows whose numbers were kept from before: what they cost is not known any more."""
    kept_learnt: int = 0
    """Things that were learnt once, before, and kept."""

    def read(self, tokens: int) -> None:
        """So many tokens more."""
        self.tokens += tokens

    @contextmanager
    def of_rows(self) -> Iterator[None]:
        """Within it, what is read is of rows."""
        tokens, start = self.tokens, time.monotonic()
        yield
        self.row_seconds += time.monotonic() - start
        self.row_tokens += self.tokens - tokens

    def copy(self) -> Cost:
        """As it stands now."""
        return replace(self)

    def since(self, before: Cost) -> Cost:
        """What came since then."""
        return Cost(**{name: value - getattr(before, name) for name, value in vars(self).items()})
