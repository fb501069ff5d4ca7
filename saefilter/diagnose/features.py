"""The geometry of a dataset: do the features that mark it lie nearer to toxic ones than others do?

Data features are those that a dataset activates more than a harmless reference does. Their proximity
to the toxic features is compared with that of features drawn at random and of features drawn to fire
as often, which says what any such selection would show.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saefilter.stats.moments import Moments, discoveries, feature_statistics

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
FREQUENCY_BINS = 20
PERMUTATIONS = 2000
BOOTSTRAP = 200
MIN_SIGNIFICANT = 5


@dataclass(frozen=True)
class Options:
    """Choices of a diagnosis."""

    data_features: int = 100
    """The features that mark the data most; the paper takes 100."""
    toxic_features: int = 100
    """The strongest of the toxic set."""
    fdr: float = 0.05
    """Of the data features, Benjamini-Hochberg."""
    permutations: int = PERMUTATIONS
    bootstrap: int = BOOTSTRAP
    seed: int = 0


@dataclass(frozen=True)
class Null:
    """Proximities that a selection of as many other features has."""

    mean: float
    deviation: float
    p_value: float
    """Share of draws that are as near or nearer."""
    effect: float
    """Observed minus mean, in deviations of the draws."""


@dataclass(frozen=True)
class Diagnosis:
    """What the geometry of one dataset in one SAE is."""

    data_features: Indices
    """Strongest first."""
    correlation: Floats
    """With being of the dataset, of each data feature."""
    significant: int
    """How many of them hold at the false-discovery rate."""
    proximity: Floats
    """Of each data feature: cosine to the nearest other toxic feature."""
    nearest: Indices
    """Which toxic feature that is."""
    in_set: int
    """Data features that are toxic features themselves."""
    mean: float
    random: Null
    matched: Null
    """Against features that fire as often."""
    interval: tuple[float, float]
    """95 % bootstrap interval over rows of the mean proximity minus the matched mean."""
    random_proximity: Floats
    """A sample of the matched features' proximities, for a chart."""

    @property
    def closer(self) -> bool:
        """Whether the data are nearer to toxic features than chance explains, at 5 %."""
        return self.told_apart and self.matched.p_value < 0.05 and self.interval[0] > 0

    @property
    def told_apart(self) -> bool:
        """Whether there are features that mark the data at all, beyond the few that chance gives."""
        return self.significant >= MIN_SIGNIFICANT


def proximity_to(directions: NDArray[np.float32], toxic: Indices) -> tuple[Floats, Indices]:
    """For every feature, the cosine to the nearest toxic feature that is not itself, and which.

    `directions`: unit decoder directions `[d_sae, d_model]`. Returns `[d_sae]` each.
    """
    from saefilter.geometry.space import DirectionIndex

    near = DirectionIndex(directions[toxic]).nearest(directions, 2)
    itself = toxic[near.position[:, 0]] == np.arange(len(directions))
    if near.cosine.shape[1] == 1:
        return np.where(itself, 0.0, near.cosine[:, 0]).astype(np.float64), toxic[
            near.position[:, 0]
        ]
    cosine = np.where(itself, near.cosine[:, 1], near.cosine[:, 0]).astype(np.float64)
    position = np.where(itself, near.position[:, 1], near.position[:, 0])
    return cosine, toxic[position]


def diagnose(
    features: sparse.csr_matrix,
    is_data: NDArray[np.bool_],
    directions: NDArray[np.float32],
    toxic: Indices,
    options: Options,
) -> Diagnosis:
    """Diagnose pooled activations `[n, d_sae]` of data rows (`is_data`, `[n]`) and reference rows."""
    proximity, nearest = proximity_to(directions, toxic)
    rng = np.random.default_rng(options.seed)
    rows = Rows(features, is_data)
    weights = np.ones(len(is_data))
    chosen, correlation, p_values = rows.data_features(weights, options.data_features)
    frequency = rows.frequency()
    alive = np.flatnonzero(frequency > 0)
    bins = frequency_bins(frequency, alive)
    matched = draw_matched(chosen, bins, options.permutations, rng)
    random = np.stack(
        [rng.choice(alive, len(chosen), replace=False) for _ in range(options.permutations)]
    )
    mean = float(proximity[chosen].mean())
    expected = bin_means(proximity, bins)
    differences = []
    for _ in range(options.bootstrap):
        again, _, _ = rows.data_features(rows.resampled(rng), options.data_features)
        differences.append((proximity[again] - expected[again]).mean())
    # the percentile interval of a maximum-like choice is shifted; centring it on what was seen keeps
    # its width, which is what the resampling says
    seen = mean - float(expected[chosen].mean())
    spread = np.quantile(np.array(differences) - np.mean(differences), [0.025, 0.975])
    return Diagnosis(
        data_features=chosen,
        correlation=correlation,
        significant=int(discoveries(p_values, options.fdr)[chosen].sum()),
        proximity=proximity[chosen],
        nearest=nearest[chosen],
        in_set=int(np.isin(chosen, toxic).sum()),
        mean=mean,
        random=_null(mean, proximity[random].mean(axis=1)),
        matched=_null(mean, proximity[matched].mean(axis=1)),
        interval=(seen + float(spread[0]), seen + float(spread[1])),
        random_proximity=proximity[matched[: max(1, 2000 // max(1, len(chosen)))].ravel()],
    )


class Rows:
    """Pooled activations whose statistics are taken under row weights, for the bootstrap."""

    def __init__(self, features: sparse.csr_matrix, is_data: NDArray[np.bool_]):
        self._features = features.astype(np.float64)
        self._squares = self._features.copy()
        self._squares.data **= 2
        self._is_data = is_data
        self._strata = [np.flatnonzero(is_data), np.flatnonzero(~is_data)]

    def frequency(self) -> Floats:
        """Share of rows in which each feature is active, data and reference alike, `[d_sae]`."""
        active = self._features.copy()
        active.data = (active.data > 0).astype(np.float64)
        shares = [np.asarray(active[rows].mean(axis=0)).ravel() for rows in self._strata]
        frequency: Floats = np.mean(shares, axis=0)
        return frequency

    def resampled(self, rng: np.random.Generator) -> Floats:
        """How often a bootstrap draw holds each row, data and reference apart, `[n]`."""
        counts = np.zeros(len(self._is_data))
        for rows in self._strata:
            counts[rows] = np.bincount(rng.integers(0, len(rows), len(rows)), minlength=len(rows))
        return counts

    def data_features(self, weights: Floats, count: int) -> tuple[Indices, Floats, Floats]:
        """The features most correlated with being data, strongest first; their correlations; and
        the p-values of all, `[d_sae]`."""
        statistics = feature_statistics(
            self._moments(weights * self._is_data, 1.0),
            self._moments(weights * ~self._is_data, 0.0),
        )
        order = np.argsort(-statistics.correlation, kind="stable")
        chosen = order[:count]
        chosen = chosen[statistics.correlation[chosen] > 0]
        p = np.where(statistics.correlation > 0, statistics.p_value / 2, 1.0)
        return chosen, statistics.correlation[chosen], p

    def _moments(self, weights: Floats, target: float) -> Moments:
        count = float(weights.sum())
        total = weights @ self._features
        return Moments(
            count=count,
            active=np.zeros_like(total),
            total=total,
            squares=weights @ self._squares,
            products=target * total,
            target_total=target * count,
            target_squares=target * count,
        )


def frequency_bins(frequency: Floats, alive: Indices) -> NDArray[np.int64]:
    """A bin of like frequency for every feature, -1 for silent ones, `[d_sae]`."""
    edges = np.quantile(frequency[alive], np.linspace(0, 1, FREQUENCY_BINS + 1)[1:-1])
    bins = np.searchsorted(edges, frequency, side="right")
    bins[frequency == 0] = -1
    return bins


def draw_matched(
    chosen: Indices, bins: NDArray[np.int64], draws: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Selections of other features with as many of each bin as `chosen` has, `[draws, n]`."""
    drawn = np.empty((draws, len(chosen)), dtype=np.int64)
    start = 0
    for bin_number in np.unique(bins[chosen]):
        members = np.flatnonzero(bins == bin_number)
        wanted = int((bins[chosen] == bin_number).sum())
        order = rng.random((draws, len(members))).argsort(axis=1)[:, :wanted]
        drawn[:, start : start + wanted] = members[order]
        start += wanted
    return drawn


def bin_means(values: Floats, bins: NDArray[np.int64]) -> Floats:
    """For every feature, the mean value of the features in its bin, `[d_sae]`."""
    shifted = bins + 1
    totals = np.bincount(shifted, values)
    counts = np.bincount(shifted)
    means: Floats = (totals / np.maximum(counts, 1))[shifted]
    return means


def _null(observed: float, drawn: Floats) -> Null:
    deviation = float(drawn.std())
    mean = float(drawn.mean())
    return Null(
        mean=mean,
        deviation=deviation,
        p_value=float((1 + (drawn >= observed).sum()) / (1 + len(drawn))),
        effect=(observed - mean) / deviation if deviation > 0 else 0.0,
    )
