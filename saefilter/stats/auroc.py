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


def grouped_auroc(
    bad: NDArray[np.bool_],
    value: NDArray[Any],
    group: NDArray[np.int64],
    source: NDArray[np.int64],
    *,
    draws: int,
    seed: int,
) -> tuple[float, float, float]:
    """Mean of the `auroc` within each source, and its 95 % bootstrap interval over groups, all `[n_rows]`.
    NaN where no source has rows of both kinds."""
    mean, drawn = grouped_draws(bad, value, group, source, draws=draws, seed=seed)
    if not len(drawn):
        return math.nan, math.nan, math.nan
    low, high = np.quantile(drawn, [0.025, 0.975])
    return mean, float(low), float(high)


def grouped_draws(
    bad: NDArray[np.bool_],
    value: NDArray[Any],
    group: NDArray[np.int64],
    source: NDArray[np.int64],
    *,
    draws: int,
    seed: int,
) -> tuple[float, Floats]:
    """Mean of the `auroc` within each source, and the same in bootstrap draws of groups, without those
    where no source has rows of both kinds, `[at most draws]`. One seed draws the same groups for every
    `value`, so that draws of two values can be subtracted."""
    rng = np.random.default_rng(seed)
    label = np.unique(group, return_inverse=True)[1].ravel()
    n_groups = int(label.max(initial=-1)) + 1
    rows_of = [np.flatnonzero(source == one) for one in np.unique(source)]
    ordered = [_Sorted(bad[rows], value[rows]) for rows in rows_of]

    def mean(times: Floats) -> float:
        values = [one.auroc(times[label[rows]]) for one, rows in zip(ordered, rows_of, strict=True)]
        values = [one for one in values if not math.isnan(one)]
        return float(np.mean(values)) if values else math.nan

    drawn = np.array(
        [
            mean(np.bincount(rng.integers(0, n_groups, n_groups), minlength=n_groups).astype(float))
            for _ in range(draws)
        ]
    )
    return mean(np.ones(n_groups)), drawn[~np.isnan(drawn)]


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


def wilson(count: float, of: float) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); 0 to 1 of nothing."""
    if not of:
        return 0.0, 1.0
    share, z2 = count / of, Z95**2
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = Z95 / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def clustered_share(
    hits: NDArray[np.bool_], group: NDArray[np.int64]
) -> tuple[float, float, float]:
    """Share of hits and its 95 % interval where rows of a group hit together.

    Wilson's interval of as many independent rows as the spread between groups allows: of 100 rows in
    10 groups that hit as one, 10. Where all rows or none hit, groups of equal size are counted.
    """
    n = len(hits)
    if not n:
        return 0.0, 0.0, 1.0
    label = np.unique(group, return_inverse=True)[1].ravel()
    sizes = np.bincount(label).astype(np.float64)
    share = float(hits.mean())
    if 0 < share < 1 and len(sizes) > 1:
        off = np.bincount(label, hits) - share * sizes
        variance = (off**2).sum() / n**2 * len(sizes) / (len(sizes) - 1)
        independent = min(float(n), share * (1 - share) / max(float(variance), 1e-12))
    else:
        independent = n**2 / float((sizes**2).sum())
    low, high = wilson(share * independent, independent)
    return share, low, high


def jaccard(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Rows in both over rows in either; 1 for two empty choices."""
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 1.0
