"""Choose the rows to drop from their distances; nothing else is looked at."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from saefilter import plugins
from saefilter.errors import SaefilterError
from saefilter.plugins import load_plugin, plugin_names

if TYPE_CHECKING:
    from saefilter.run.scores import Scores

STRATEGIES = ("closest", "random")


@dataclass(frozen=True)
class Candidates:
    """The scored rows that a strategy chooses among."""

    distance: NDArray[np.float64]
    """`[n_rows]`"""
    row_ids: NDArray[np.int64]
    """Their positions in the input, ascending, `[n_rows]`."""
    scores: Scores | None = None
    """The scores file, for its other columns: `scores.read(["top_features"])` has every input row."""


Strategy = Callable[[Candidates, "Selection"], NDArray[np.int64]]
"""Positions among the candidates in the order in which to drop them, each once."""


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
        known = [*STRATEGIES, *plugin_names(plugins.STRATEGIES)]
        if self.strategy not in known:
            raise SaefilterError(
                f"there is no strategy {self.strategy!r}", remedy=f"Strategies: {', '.join(known)}."
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
        if self.strategy != "closest" and self.min_distance is not None:
            raise SaefilterError(
                f"--min-distance does not go with --strategy {self.strategy}",
                remedy="Use it with --drop-frac or --drop-count.",
            )


def choose_dropped(candidates: Candidates, selection: Selection) -> NDArray[np.bool_]:
    """Which of the rows to drop, `[n_rows]`; ties go to the earlier row.

    Raises SaefilterError when the request makes no sense for this many rows.
    """
    selection.check()
    n_rows = len(candidates.distance)
    if selection.min_distance is not None:
        below: NDArray[np.bool_] = candidates.distance < selection.min_distance
        return below
    if selection.drop_frac is not None:
        count = math.floor(selection.drop_frac * n_rows + 0.5)
    else:
        count = int(selection.drop_count or 0)
    if count > n_rows:
        raise SaefilterError(f"--drop-count {count} is more than the {n_rows} scored rows")
    dropped = np.zeros(n_rows, dtype=bool)
    dropped[_order(candidates, selection)[:count]] = True
    return dropped


def _order(candidates: Candidates, selection: Selection) -> NDArray[np.int64]:
    n_rows = len(candidates.distance)
    if selection.strategy == "closest":
        return np.argsort(candidates.distance, kind="stable")
    if selection.strategy == "random":
        return np.random.default_rng(selection.seed).permutation(n_rows)
    strategy: Strategy = load_plugin(plugins.STRATEGIES, selection.strategy)
    order = np.asarray(strategy(candidates, selection), dtype=np.int64)
    if not np.array_equal(np.sort(order), np.arange(n_rows)):
        raise SaefilterError(
            f"the strategy {selection.strategy!r} did not order the {n_rows} scored rows, each once",
            remedy="Tell its authors; nothing was written.",
        )
    return order
