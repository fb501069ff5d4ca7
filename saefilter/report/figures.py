"""What a report counts of all rows, from scores that are read and not held; and the few rows that it shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saefilter.artifacts.column import Column
from saefilter.errors import SaefilterError
from saefilter.report.data import Histogram
from saefilter.select.closest import First
from saefilter.toxic.toxicset import is_beyond

N_BINS = 40
FLAG_LEVELS = ("95", "99", "99.9")
SIDES = 2
"""Kept rows, then dropped ones: the order of whatever comes in pairs here."""


@dataclass(frozen=True)
class Figures:
    """Of the kept and the dropped rows."""

    n_kept: int
    n_dropped: int
    first_kept: NDArray[np.int64]
    """Ids of the closest, closest first."""
    first_dropped: NDArray[np.int64]
    threshold: float | None
    """The largest distance that was dropped."""
    tied: tuple[int, int]
    """How many kept and dropped rows are exactly as close as that."""
    histogram: Histogram
    flagged: dict[str, int]
    """How many rows are beyond each level."""
    has_percentiles: bool

    @classmethod
    def of(
        cls,
        kept: NDArray[np.bool_],
        dropped: NDArray[np.bool_],
        distance: Column[np.float64],
        percentile: Column[np.float64],
        reference_rows: int,
        shown: tuple[int, int],
        read: NDArray[np.bool_] | None = None,
    ) -> Figures:
        """All of `[n_rows]` of the input; `shown`: so many kept and dropped rows; `read`: of a cascade, which rows
        have a distance at all. Raises SaefilterError for a distance that is not finite, which no run of score
        writes."""
        n_kept, n_dropped = (int(np.count_nonzero(side)) for side in (kept, dropped))
        if read is not None:
            kept, dropped = kept & read, dropped & read
        sides = (kept, dropped)
        first = [First(count) for count in shown]
        low, high, threshold = np.inf, -np.inf, -np.inf
        for start, values in distance.blocks():
            for side, closest in zip(sides, first, strict=True):
                here = np.flatnonzero(side[start : start + len(values)])
                if not len(here):
                    continue
                own = values[here]
                closest.add(start + here, own)
                low, high = np.minimum(low, own.min()), np.maximum(high, own.max())
                if side is dropped:
                    threshold = np.maximum(threshold, own.max())
        if np.isnan(low) or (np.isinf([low, high]).any() and low <= high):
            raise SaefilterError(
                "a distance is not a finite number", where=str(distance.groups.scores.path),
                remedy="Score the data again.",
            )  # fmt: skip
        last = float(threshold) if dropped.any() else None
        histogram, tied = _counted(sides, distance, (float(low), float(high)), last)
        flagged, has_percentiles = _flagged(sides, percentile, reference_rows)
        return cls(
            n_kept, n_dropped, first[0].ids, first[1].ids, last, tied, histogram, flagged,
            has_percentiles,
        )  # fmt: skip


def _counted(
    sides: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    distance: Column[np.float64],
    ends: tuple[float, float],
    last: float | None,
) -> tuple[Histogram, tuple[int, int]]:
    """The histogram of distances between their `ends`, and how many are the `last` that goes."""
    if ends[0] > ends[1]:
        return Histogram([0.0, 1.0], [0], [0]), (0, 0)
    edges = bins(*ends)
    counts = np.zeros((SIDES, N_BINS), dtype=np.int64)
    tied = [0, 0]
    for start, values in distance.blocks():
        for number, side in enumerate(sides):
            own = values[side[start : start + len(values)]]
            counts[number] += np.histogram(own, bins=edges)[0]
            tied[number] += int(np.count_nonzero(own == last))
    kept, dropped = counts.tolist()
    return Histogram([float(edge) for edge in edges], kept, dropped), (tied[0], tied[1])


def bins(low: float, high: float) -> NDArray[np.float64]:
    """Edges of a histogram between two distances, `[N_BINS + 1]`; around them where floats that close leave no room for so many."""
    if high - low < 2 * N_BINS * np.spacing(max(abs(low), abs(high))):
        low, high = low - 0.5, high + 0.5
    return np.histogram_bin_edges(np.array([low, high]), bins=N_BINS)


def _flagged(
    sides: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    percentile: Column[np.float64],
    reference_rows: int,
) -> tuple[dict[str, int], bool]:
    """How many rows are beyond each level, and whether any has a percentile."""
    beyond = dict.fromkeys(FLAG_LEVELS, 0)
    has_any = False
    for start, values in percentile.blocks():
        here = slice(start, start + len(values))
        own = values[sides[0][here] | sides[1][here]]
        has_any = has_any or not bool(np.isnan(own).all())
        for level in FLAG_LEVELS:
            flagged = is_beyond(own, float(level), reference_rows)
            beyond[level] += int(np.count_nonzero(flagged))
    return beyond, has_any
