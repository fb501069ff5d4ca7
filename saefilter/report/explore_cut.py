"""How many rows go for a distance: what the report's slider moves along. Counts are of all rows, whether or not
they are in the page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saefilter.artifacts.column import Column

N_POINTS = 1000
N_HELD = 1_000_000
"""Distances that are sorted; of more, evenly spaced ones say where the points lie, and all are counted."""


@dataclass(frozen=True)
class Curve:
    """Distances, ascending, each with how many rows are closer: what `--min-distance` drops with that very value."""

    distance: list[float]
    rows: list[int]


def curve_of(
    distance: Column[np.float64], there: NDArray[np.bool_], also: int = 0, *, held: int = N_HELD
) -> Curve:
    """About `N_POINTS` cuts, a like number of rows apart, from none to all of the rows that are `there`,
    `[n_rows]`, and one of `also` rows; rows that are exactly as close go together."""
    step = -(-int(np.count_nonzero(there)) // held)
    some = np.empty(0)
    for first, values in distance.blocks():
        own = values[there[first : first + len(values)]]
        ends = [own.min(), own.max()] if step > 1 and len(own) else []
        some = np.concatenate([some, own[::step], ends])
    some.sort()
    places = np.round(np.linspace(0, len(some), N_POINTS + 1)).astype(np.int64)
    places = np.unique([*places, round(also / step)])
    after = np.unique(np.searchsorted(some, some[places[places > 0] - 1], "right"))
    cuts = [between(-np.inf, some[0])]
    cuts += [
        between(some[place - 1], some[place] if place < len(some) else np.inf) for place in after
    ]
    counts = np.zeros(len(cuts), dtype=np.int64)
    for first, values in distance.blocks():
        own = np.sort(values[there[first : first + len(values)]])
        counts += np.searchsorted(own, cuts, "left")
    return Curve(cuts, counts.tolist())


def between(low: float, high: float) -> float:
    """The number with the fewest digits that is above `low` and not above `high`, one of which may be infinite."""
    if np.isinf(low):
        low = high - max(1e-3, abs(high) * 0.01)
    if np.isinf(high):
        high = low + max(1e-3, abs(low) * 0.01)
    middle = low + (high - low) / 2
    for digits in range(1, 17):
        if low < (short := float(f"{middle:.{digits}g}")) <= high:
            return short
    return float(high)
