"""How many of the nearest rows were missed? A bound on it by an audit: rows drawn at random and read
whatever a cheap reader thinks of them.

Rows are read in an order (the front) that was fixed without looking at the audit; the rest is the tail.
Every row of the tail is audited with the same chance, the rate. Of `count` nearest rows that are wanted a
share `recall` must be read, so `misses` may be missed:

    1,000 rows, the 100 nearest wanted, recall 0.95: 5 may be missed. A front of 400 rows is read, and its
    95th nearest lies at distance 0.3. If at most 5 rows of the tail that nobody read are nearer than 0.3,
    the front's 95 nearest are among the 100 nearest of all. The audit is asked how likely that is.

Look at the tail's rows that are nearer than that distance, those first that leave the tail last as the front
grows, and nearer ones within them. Each is audited or missed, as a coin falls. A front that is too small has
more than `misses` missed ones, so by then the coins have shown miss number `misses + 1`; the audited ones before
it are at least those before that one, whatever the front is. Their number has a negative binomial distribution.
So one limit holds for all fronts at once, and one may look after every row: see `most_found`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Goal:
    """What must be found."""

    count: int
    """Of nearest rows that are wanted."""
    recall: float
    """Share of them that must be read, 0 to 1."""
    confidence: float = CONFIDENCE

    @property
    def needed(self) -> int:
        """Of the wanted rows, those that must be read: at least one."""
        return max(1, math.ceil(self.recall * self.count - 1e-9))

    @property
    def misses(self) -> int:
        """Wanted rows that need not be read."""
        return self.count - self.needed


def most_found(misses: int, rate: float, confidence: float = CONFIDENCE) -> int:
    """How many audited rows of the tail may be nearer than the front's last needed row, -1 where even none
    would not be enough.

    The largest `x` such that at most `x` rows are audited before row number `misses + 1` is not, with a
    probability of at most `1 - confidence`; each is audited with probability `rate`.
    """
    from scipy.special import nbdtr

    if rate >= 1:
        return misses  # nothing is left unread
    most = np.arange(int(10 + 2 * (misses + 1) * rate / (1 - rate)))
    return int(np.count_nonzero(nbdtr(most, misses + 1, 1 - rate) <= 1 - confidence)) - 1


def found_in_audit(front: NDArray[np.float64], audited: NDArray[np.float64], needed: int) -> int:
    """How many `audited` rows of the tail are as near as row number `needed` of the front, or nearer; both
    are distances. All of them, where the front is too small."""
    if len(front) < needed:
        return len(audited)
    last = np.partition(front, needed - 1)[needed - 1]
    return int(np.count_nonzero(audited <= last))


def is_enough(
    front: NDArray[np.float64], audited: NDArray[np.float64], goal: Goal, rate: float
) -> bool:
    """Whether at least a share `goal.recall` of the nearest rows was read, in front or audit.

    `front`: distances of the rows read by the order, and of any read before the audit was drawn; `audited`:
    of those of the tail. True although it is not so in at most `1 - confidence` of audits, however often it is
    asked while the front grows.
    """
    if len(front) < goal.needed:
        return False
    allowed = most_found(goal.misses, rate, goal.confidence)
    return bool(found_in_audit(front, audited, goal.needed) <= allowed)


def recall_at_least(
    front: NDArray[np.float64],
    audited: NDArray[np.float64],
    count: int,
    rate: float,
    confidence: float = CONFIDENCE,
) -> float:
    """Lower bound, with that confidence, on the share of the `count` nearest rows that a front holds which
    was not chosen by the audit. 0 to 1."""
    from scipy.special import bdtr

    nearest = np.sort(front)[:count]
    if not len(nearest):
        return 0.0
    number = np.arange(1, len(nearest) + 1)
    near = np.searchsorted(np.sort(audited), nearest, "right")
    # if row number j of the front were not among the wanted ones, count - j + 1 of the tail would be nearer
    nearer = count - number + 1
    sure = bdtr(np.minimum(near, nearer), nearer, rate) <= 1 - confidence
    return float(np.count_nonzero(np.cumprod(sure))) / count
