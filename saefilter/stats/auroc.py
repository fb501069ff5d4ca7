"""How well a score finds the samples of one kind, and how alike two choices are. Plain numpy.

Of two kinds, `bad` is the one that is looked for; curation and diagnosis call it toxic, or the data.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Z95 = 1.959963984540054


def auroc(bad: NDArray[np.bool_], value: NDArray[Any], weight: Floats | None = None) -> float:
    """Chance that a bad row has a higher value than a good one, equal values counting half.

    `weight`, `[n_rows]`: how often each row counts. NaN without rows of both kinds.
    """
    return _Sorted(bad, value).auroc(np.ones(len(bad)) if weight is None else weight)


def auroc_interval(
    bad: NDArray[np.bool_], value: NDArray[Any], *, draws: int, seed: int
) -> tuple[float, float]:
    """95 % bootstrap interval of `auroc`: percentiles over `draws` samples of the rows, bad and good
    ones apart, so that every draw has both. The same seed draws the same rows for every ranking."""
    rng = np.random.default_rng(seed)
    ordered = _Sorted(bad, value)
    drawn = np.empty(draws)
    strata = [np.flatnonzero(bad), np.flatnonzero(~bad)]
    for draw in range(draws):
        weight = np.zeros(len(bad))
        for rows in strata:
            picked = rng.integers(0, len(rows), len(rows))
            weight[rows] = np.bincount(picked, minlength=len(rows))
        drawn[draw] = ordered.auroc(weight)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


class _Sorted:
    """Rows sorted by value once, for many weightings."""

    def __init__(self, bad: NDArray[np.bool_], value: NDArray[Any]):
        self.order = np.argsort(value, kind="stable")
        ascending = value[self.order]
        self.bad = bad[self.order]
        changes = np.flatnonzero(ascending[1:] != ascending[:-1]) + 1  # infinite ones tie too
        self.starts = np.concatenate([[0], changes])[: len(ascending)]  # of runs of equal values

    def auroc(self, weight: Floats) -> float:
        if not len(self.order):
            return math.nan
        weight = weight[self.order]
        bad = np.add.reduceat(weight * self.bad, self.starts)
        good = np.add.reduceat(weight * ~self.bad, self.starts)
        pairs = bad.sum() * good.sum()
        if not pairs:
            return math.nan
        below = np.cumsum(good) - good
        return float((bad * (below + good / 2)).sum() / pairs)


def wilson(count: int, of: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); 0 to 1 of nothing."""
    if not of:
        return 0.0, 1.0
    share, z2 = count / of, Z95**2
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = Z95 / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def jaccard(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Rows in both over rows in either; 1 for two empty choices."""
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 1.0
