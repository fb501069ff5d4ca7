"""How many rows a search draws, and how far its front is expected to go: planned so that few are read in all. What is
promised rests on none of it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from saefilter.stats.audit import Goal, most_found

PILOT_SHARE, PILOT_LEAST, PILOT_MOST = 0.03, 200, 2000
"""Rows that are drawn to teach the guess."""
OVERDRAWN = 0.001
"""Chance that an audit is larger than what a budget has left; then there is none, and nothing is promised."""
RATES = (0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
"""Of the audit, among which the one is taken that is expected to need fewest rows."""
NEARLY_ALL = 0.98
"""Of the rows that are left: where so many are expected to be read, all are."""


def pilot_size(n: int, most: int) -> int:
    """A third of a budget at most: the rest is for what it taught."""
    return min(n, max(1, most // 3), max(PILOT_LEAST, min(PILOT_MOST, round(PILOT_SHARE * n))))


def room_of(n: int, rate: float, left: int) -> int:
    """By how many of `n` rows a front may grow, where so many may be read with those of an audit: with four
    standard deviations to spare, so that it hardly ever is the audit's own number that ends it."""
    spare = 4 * math.sqrt(n * rate * (1 - rate))
    return max(0, min(n, math.floor((left - rate * n - spare) / (1 - rate))))


def highest_rate(n: int, left: int) -> float:
    """At which an audit of `n` rows is hardly ever of more than `left`."""
    from scipy.special import bdtri

    return 1.0 if left >= n else float(bdtri(left, n, 1 - OVERDRAWN))


def plan_audit(
    guess: NDArray[np.float64],
    errors: NDArray[np.float64],
    known: NDArray[np.float64],
    goal: Goal,
    most: int,
) -> tuple[float, int] | None:
    """Rate of the audit and rows by which the front must grow that are expected to suffice with fewest rows
    read; None where it is expected that nearly all must be, or more than `most`.

    `guess`: of the rows that are left, ascending; `errors`: of rows drawn at random; `known`: distances of the
    rows that were read. A row's distance is taken to be its guess and one of the errors, so that each has a
    probability of being among the nearest.
    """
    n = len(guess)
    if not n or not len(errors):
        return None
    missed = expected_misses(guess, errors, known, goal.count)
    best: tuple[float, float, int] | None = None
    for rate in RATES:
        allowed = most_found(goal.misses, rate, goal.confidence)
        if allowed < 0:
            continue
        depth = int(np.searchsorted(-missed, -_misses_at(allowed, rate)))
        reads = depth + rate * (n - depth)
        if best is None or reads < best[0]:
            best = reads, rate, depth
    if best is None or best[0] > min(NEARLY_ALL * n, most):
        return None
    return best[1], best[2]


def expected_misses(
    guess: NDArray[np.float64],
    errors: NDArray[np.float64],
    known: NDArray[np.float64],
    count: int,
) -> NDArray[np.float64]:
    """Of the `count` nearest rows, how many are expected beyond each depth of an order by `guess`, `[n + 1]`;
    `known`: distances of the rows that are not in it."""
    ascending, read = np.sort(errors), np.sort(known)

    def nearer(limit: float) -> NDArray[np.float64]:
        return np.searchsorted(ascending, limit - guess, "right") / len(ascending)

    ends = np.concatenate([guess + ascending[0], guess + ascending[-1], read])
    low, high = float(ends.min()), float(ends.max())
    for _ in range(60):
        middle = (low + high) / 2
        enough = nearer(middle).sum() + np.searchsorted(read, middle, "right") >= count
        low, high = (low, middle) if enough else (middle, high)
    chance = nearer(high)
    return np.concatenate([np.cumsum(chance[::-1])[::-1], [0.0]])


def _misses_at(allowed: int, rate: float) -> float:
    """So many near rows beyond the front that an audit finds no more than `allowed` of them as often as not."""
    from scipy.special import bdtr

    most = np.arange(1, int((allowed + 1) / rate) + 2)
    return float(np.count_nonzero(bdtr(np.minimum(allowed, most), most, rate) >= 0.5))
