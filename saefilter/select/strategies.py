"""Choose the rows to drop from their distances; nothing else is looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saefilter.errors import SaefilterError

STRATEGIES = ("closest", "random")


@dataclass(frozen=True)
class Selection:
    """What was asked: exactly one of `drop_frac`, `drop_count` and `min_distance`."""

    strategy: str = "closest"
    drop_frac: float | None = None
    """Share of the scored rows to drop, 0 to 1; rounded to whole rows, halves up."""
    drop_count: int | None = None
    min_distance: float | None = None
    """Drop every row whose distance is smaller."""
    seed: int = 0
    """For `random`."""

    def check(self) -> None:
        """Raises SaefilterError when the request makes no sense."""
        asked = [self.drop_frac, self.drop_count, self.min_distance]
        if sum(value is not None for value in asked) != 1:
            raise SaefilterError(
                "say how much to drop, in exactly one way",
                remedy="Use --drop-frac 0.1, --drop-count 200 or --min-distance 0.4.",
            )
        if self.strategy not in STRATEGIES:
            raise SaefilterError(
                f"there is no strategy {self.strategy!r}",
                remedy=f"Strategies: {', '.join(STRATEGIES)}.",
            )
        if self.drop_frac is not None and not 0 <= self.drop_frac <= 1:
            raise SaefilterError(
                f"--drop-frac {self.drop_frac} is not between 0 and 1",
                remedy="10 % is --drop-frac 0.1.",
            )
        if self.drop_count is not None and self.drop_count < 0:
            raise SaefilterError(f"--drop-count {self.drop_count} is negative")
        if self.min_distance is not None and not math.isfinite(self.min_distance):
            raise SaefilterError(f"--min-distance {self.min_distance} is not a finite number")
        if self.strategy == "random" and self.min_distance is not None:
            raise SaefilterError(
                "--strategy random looks at no distances",
                remedy="Use it with --drop-frac or --drop-count.",
            )


def choose_dropped(distances: NDArray[np.float64], selection: Selection) -> NDArray[np.bool_]:
    """Which of the rows to drop, `[n_rows]`; ties go to the earlier row.

    Raises SaefilterError when the request makes no sense for this many rows.
    """
    selection.check()
    n_rows = len(distances)
    if selection.min_distance is not None:
        below: NDArray[np.bool_] = distances < selection.min_distance
        return below
    if selection.drop_frac is not None:
        count = math.floor(selection.drop_frac * n_rows + 0.5)
    else:
        count = int(selection.drop_count or 0)
    if count > n_rows:
        raise SaefilterError(f"--drop-count {count} is more than the {n_rows} scored rows")
    if selection.strategy == "random":
        order = np.random.default_rng(selection.seed).permutation(n_rows)
    else:
        order = np.argsort(distances, kind="stable")
    dropped = np.zeros(n_rows, dtype=bool)
    dropped[order[:count]] = True
    return dropped
