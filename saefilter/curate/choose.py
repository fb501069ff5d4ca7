"""The features of a set with their weights and statistics, from encoded contrast data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saefilter.curate.contrast import Contrast
from saefilter.curate.fit import spread, weigh
from saefilter.curate.groups import GroupedContrast, Part
from saefilter.curate.screen import confirm, strongest
from saefilter.settings import CurationOptions, Penalty
from saefilter.stats.moments import FeatureStatistics, column_auroc

Floats = NDArray[np.float64]
AUROC_COLUMNS = 512
"""Columns ranked at once; ranking takes some 100 bytes per activation."""


@dataclass(frozen=True)
class Chosen:
    """The features of a set, `[n]` each but for `scale` and `signs`."""

    indices: NDArray[np.int64]
    sides: Floats
    """+1 toxic, -1 benign."""
    weights: Floats
    """0 or more."""
    effect_size: Floats
    auroc: Floats
    p_value: Floats
    """On the half that confirmed it, the smaller where both did."""
    source: NDArray[np.int64]
    """The source it is from, the strongest where several confirm it."""
    intercept: float
    scale: Floats
    """Spread of every feature, `[d_sae]`."""
    signs: Mapping[int, Floats]
    """By source, +1 or -1 for what it confirmed, `[d_sae]`."""


@dataclass(frozen=True)
class _FromSource:
    """What one source says, `[d_sae]` each."""

    label: int
    listed: NDArray[np.bool_]
    """Confirmed, and weighted or among the strongest."""
    statistics: FeatureStatistics
    p_value: Floats


def choose_features(
    data: GroupedContrast,
    options: CurationOptions,
    penalties: Mapping[int, Penalty],
    directions: NDArray[np.float32] | None = None,
) -> Chosen:
    """Screen, confirm and weigh, each source by itself; `indices` is empty when nothing is confirmed."""
    scale = spread(data.deviation(Part()))
    confirmed = {
        source: confirm(data, Part(source), options, directions) for source in data.sources
    }
    signs = {source: one.signs for source, one in confirmed.items()}
    by_source, total, intercept = weigh(data.contrast, signs, scale, penalties)
    found = []
    for source, one in confirmed.items():
        statistics = data.statistics(Part(source))
        listed = by_source[source] != 0
        members = np.flatnonzero(one.signs)
        listed[members[strongest(statistics.correlation[members], options.top)]] = True
        found.append(_FromSource(source, listed, statistics, one.p_value))
    indices = np.flatnonzero(np.any([one.listed for one in found], axis=0))
    strength = np.array(
        [np.where(one.listed, np.abs(one.statistics.correlation), -1) for one in found]
    )
    winner = strength.argmax(axis=0)[indices]

    def of_winner(values: list[Floats]) -> Floats:
        picked: Floats = np.array(values)[winner, indices]
        return picked

    weights = total[indices]
    correlation = of_winner([one.statistics.correlation for one in found])
    return Chosen(
        indices=indices,
        sides=np.where(weights != 0, np.sign(weights), np.sign(correlation)),
        weights=np.abs(weights),
        effect_size=of_winner([one.statistics.effect_size for one in found]),
        auroc=_aurocs(data.contrast, indices, np.array([one.label for one in found])[winner]),
        p_value=of_winner([one.p_value for one in found]),
        source=np.array([one.label for one in found])[winner],
        intercept=intercept,
        scale=scale,
        signs=signs,
    )


def _aurocs(contrast: Contrast, indices: NDArray[np.int64], source: NDArray[np.int64]) -> Floats:
    """AUROC of each feature on the source it is from, `[len(indices)]`."""
    result = np.full(len(indices), 0.5)
    for label in np.unique(source):
        rows = contrast.source == label
        members = np.flatnonzero(source == label)
        for start in range(0, len(members), AUROC_COLUMNS):
            some = members[start : start + AUROC_COLUMNS]
            result[some] = column_auroc(
                contrast.features.columns(indices[some], rows), contrast.toxic[rows]
            )
    return result
