"""The smallest of many distances, exactly, without holding or sorting them: what `filter` drops of a hundred
million rows.

The distance of the last row that goes is found by its bits, sixteen at a time from the highest on, as by a radix
sort of which only one bucket is looked into. Four times over the values, and once more to mark the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

Blocks = Callable[[], Iterable[NDArray[np.float64]]]
"""Reads the values, from the first, each time it is called."""
BITS, WIDTH = 64, 16
SIGN = np.uint64(1 << (BITS - 1))


def keys_of(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Integers in the order of the values: 0.0 and -0.0 are one, and NaN comes last."""
    bits = np.asarray(values + 0.0, dtype=np.float64).view(np.uint64)
    keys = np.where(bits & SIGN, ~bits, bits | SIGN)
    keys[np.isnan(values)] = np.iinfo(np.uint64).max
    return keys


def smallest(blocks: Blocks, count: int, n_rows: int) -> NDArray[np.bool_]:
    """Which `count` of the `n_rows` values are the smallest, `[n_rows]`; of equal ones the earlier. One byte
    a row."""
    chosen = np.zeros(n_rows, dtype=np.bool_)
    if not count:
        return chosen
    last, ties = _last_key(blocks, count)
    first = 0
    for values in blocks():
        keys = keys_of(values)
        here = chosen[first : first + len(keys)]
        here[:] = keys < last
        if ties and len(tied := np.flatnonzero(keys == last)[:ties]):
            here[tied] = True
            ties -= len(tied)
        first += len(keys)
    return chosen


def _last_key(blocks: Blocks, count: int) -> tuple[np.uint64, int]:
    """The key of the value that is number `count` in their order, and how many of those that have it are
    among the first `count`."""
    prefix, left = 0, count
    for shift in range(BITS - WIDTH, -1, -WIDTH):
        sizes = np.zeros(1 << WIDTH, dtype=np.int64)
        for values in blocks():
            keys = keys_of(values)
            if shift + WIDTH < BITS:
                keys = keys[keys >> np.uint64(shift + WIDTH) == prefix]
            buckets = (keys >> np.uint64(shift)) & np.uint64((1 << WIDTH) - 1)
            sizes += np.bincount(buckets.astype(np.int64), minlength=1 << WIDTH)
        ends = np.cumsum(sizes)
        bucket = int(np.searchsorted(ends, left, "left"))
        left -= int(ends[bucket] - sizes[bucket])
        prefix = (prefix << WIDTH) | bucket
    return np.uint64(prefix), left


class First:
    """The `count` smallest of many values and their numbers, given in order; of equal ones the earlier."""

    def __init__(self, count: int):
        self._count = count
        self._keys = np.empty(0, dtype=np.uint64)
        self.ids = np.empty(0, dtype=np.int64)
        """Of the smallest so far, smallest first."""

    def add(self, ids: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        keys = keys_of(values)
        if len(self.ids) == self._count:
            closer = keys < self._keys[-1]
            ids, keys = ids[closer], keys[closer]
        keys, ids = np.concatenate([self._keys, keys]), np.concatenate([self.ids, ids])
        order = np.argsort(keys, kind="stable")[: self._count]
        self._keys, self.ids = keys[order], ids[order]
