"""The geometry of a dataset: do the features that mark it lie nearer to toxic ones than chance and topic
explain?

Data features are those that a dataset activates more than a harmless reference does. Their proximity
to the toxic features, less that of features that fire as often, is compared with what the same rows
show, features chosen anew, when they are relabelled and when they are split by topic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saefilter.rows.groups import Units

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
FREQUENCY_BINS = 20
PERMUTATIONS = 999
BOOTSTRAP = 200
LEVEL = 0.05
BATCH = 64
"""Draws at once: `[BATCH, d_sae]` is dense."""
CHARTED = 2000
"""Proximities of matched features that a chart is drawn of, about."""


@dataclass(frozen=True)
class Options:
    """Choices of a diagnosis."""

    data_features: int = 100
    """The features that mark the data most; the paper takes 100."""
    toxic_features: int = 100
    """The strongest of the toxic set."""
    permutations: int = PERMUTATIONS
    """Relabellings, and splits by topic."""
    bootstrap: int = BOOTSTRAP
    seed: int = 0


@dataclass(frozen=True)
class Null:
    """What the statistic was in the draws."""

    mean: float
    deviation: float
    p_value: float
    """`(1 + draws as near or nearer) / (1 + draws)`."""
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
    """How many correlate more than any feature does in 95 % of the relabellings."""
    apart: Null
    """Of their mean correlation: whether features mark the data at all."""
    proximity: Floats
    """Of each data feature: cosine to the nearest other toxic feature."""
    nearest: Indices
    """Which toxic feature that is."""
    in_set: int
    """Data features that are toxic features themselves."""
    mean: float
    matched: float
    """What features that fire as often have."""
    chance: Null
    """Of the difference, rows relabelled: whether data and reference could have changed places."""
    topics: Null
    """Of the difference, rows split by topic."""
    interval: tuple[float, float] | None
    """95 % bootstrap interval of the difference over groups, features chosen anew; None without groups
    enough."""
    enough: bool
    """Whether there are groups enough for p-values; without, those mean nothing."""
    effective: tuple[float, float]
    """Effective number of independent units of the data and of the reference."""
    matched_proximity: Floats
    """A sample of the matched features' proximities, for a chart."""

    @property
    def p_value(self) -> float | None:
        """That neither chance nor topic explains the difference; None without groups enough."""
        return max(self.chance.p_value, self.topics.p_value) if self.enough else None

    @property
    def told_apart(self) -> bool:
        """Whether there are features that mark the data at all."""
        return self.enough and self.apart.p_value < LEVEL

    def closer(self, p_value: float | None) -> bool:
        """Whether the data are nearer to toxic features than both explain, at 5 %, `p_value` being
        `self.p_value` or what a correction made of it."""
        if p_value is None or self.interval is None:
            return False
        return self.told_apart and p_value < LEVEL and self.interval[0] > 0


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
    units: Units | None = None,
) -> Diagnosis:
    """Diagnose pooled activations `[n, d_sae]` of data rows (`is_data`, `[n]`) and reference rows.

    `directions`: unit decoder directions `[d_sae, d_model]`; `toxic`: which features are. Without
    `units` each row is one.
    """
    if units is None:
        units = Units.of(is_data, np.arange(len(is_data)), np.arange(len(is_data)))
    rng = np.random.default_rng(options.seed)
    proximity, nearest = proximity_to(directions, toxic)
    frequency = np.asarray((features > 0).mean(axis=0)).ravel()
    bins = frequency_bins(frequency, np.flatnonzero(frequency > 0))
    expected = bin_means(proximity, bins)
    selection = Selection(features, units, proximity - expected, options.data_features)
    chosen, correlation = selection.choose(units.is_data)
    seen = selection.drawn(units.is_data[None])
    draws = options.permutations if units.enough else 0
    relabelled = selection.drawn(units.relabelled(draws, rng))
    place = selection.totals @ directions[selection.alive].astype(np.float64)
    place = place / units.count[:, None]
    split = selection.drawn(units.split_by_topic(place, draws, rng))
    times = units.resampled(options.bootstrap if draws else 0, rng)
    resampled = selection.drawn(times * units.is_data, times)
    difference = float(seen.difference[0])
    matched = draw_matched(chosen, bins, max(1, CHARTED // max(1, len(chosen))), rng)
    return Diagnosis(
        data_features=chosen,
        correlation=correlation,
        significant=_beyond(correlation, relabelled.largest),
        apart=_null(float(seen.strength[0]), relabelled.strength),
        proximity=proximity[chosen],
        nearest=nearest[chosen],
        in_set=int(np.isin(chosen, toxic).sum()),
        mean=float(proximity[chosen].mean()) if len(chosen) else 0.0,
        matched=float(expected[chosen].mean()) if len(chosen) else 0.0,
        chance=_null(difference, relabelled.difference),
        topics=_null(difference, split.difference),
        interval=_interval(difference, resampled.difference, relabelled.difference)
        if draws
        else None,
        enough=units.enough,
        effective=(units.effective(True), units.effective(False)),
        matched_proximity=proximity[matched.ravel()],
    )


def _interval(seen: float, resampled: Floats, relabelled: Floats) -> tuple[float, float]:
    """95 % interval of the difference that was seen.

    Features chosen again on a resample are noisier than the choice itself, which shifts plain
    percentiles; centring the spread on what was seen keeps its width. Resamples share rows and hence
    features, which makes it too narrow (it held the truth in 84 to 91 % of harmless splits), so it
    is as wide as that of the relabellings at least.
    """
    ends = [np.quantile(one - one.mean(), [0.025, 0.975]) for one in (resampled, relabelled)]
    return float(seen + min(ends[0][0], ends[1][0])), float(seen + max(ends[0][1], ends[1][1]))


@dataclass(frozen=True)
class Drawn:
    """What each draw showed, `[draws]` each."""

    difference: Floats
    """Mean proximity of the chosen features minus that of features that fire as often."""
    strength: Floats
    """Mean correlation of the chosen features."""
    largest: Floats
    """Largest correlation."""


class Selection:
    """The choice of data features and their statistic, under any labels of the units.

    Rows of a group that lies in data and reference are compared with each other only: how often a
    prompt was answered on either side says nothing of the answers.
    """

    def __init__(
        self, features: sparse.csr_matrix, units: Units, excess: Floats, count: int
    ) -> None:
        """`features` `[n_rows, d_sae]`; `excess`: of each feature, its proximity minus that of features
        that fire as often, `[d_sae]`; `count`: how many features are chosen."""
        n = len(units.number)
        members = sparse.csr_matrix((np.ones(n), (units.number, np.arange(n))))
        rows = features.astype(np.float64)
        self.alive = np.flatnonzero(np.asarray((rows > 0).sum(axis=0)).ravel())
        rows = rows[:, self.alive]
        self.totals = (members @ rows).tocsr()
        """Per unit, of the features that fire at all, `[n_units, n_alive]`."""
        self._squares = (members @ rows.multiply(rows)).tocsr()
        self._rows = units.count
        number = np.unique(units.stratum, return_inverse=True)[1].ravel()
        self._strata = sparse.csr_matrix((np.ones(len(number)), (np.arange(len(number)), number)))
        self._excess = excess
        self._count = count

    def choose(self, is_data: NDArray[np.bool_]) -> tuple[Indices, Floats]:
        """The features most correlated with being data, strongest first, and their correlations."""
        weight = is_data[None].astype(np.float64)
        (correlation,) = self._correlations(weight, np.ones_like(weight))
        chosen = self._strongest(correlation)
        chosen = chosen[np.argsort(-correlation[chosen], kind="stable")]
        return self.alive[chosen], correlation[chosen]

    def drawn(self, data: NDArray[np.generic], everything: Floats | None = None) -> Drawn:
        """Features chosen anew for each draw: how often it holds each unit as data, and at all (once
        where not said), `[draws, n_units]`."""
        values = [
            (self._excess[self.alive[chosen]].mean(), r[chosen].mean(), r[chosen].max())
            if len(chosen := self._strongest(r))
            else (0.0, 0.0, 0.0)
            for start in range(0, len(data), BATCH)
            for r in self._correlations(
                data[start : start + BATCH].astype(np.float64),
                np.ones((1, len(self._rows))) if everything is None
                else everything[start : start + BATCH],
            )
        ]  # fmt: skip
        return Drawn(*np.array(values).reshape(-1, 3).T)

    def _strongest(self, correlation: Floats) -> Indices:
        """At most so many as are wanted, in no order, of those that go with the data."""
        if len(correlation) > self._count:
            chosen = np.argpartition(-correlation, self._count - 1)[: self._count]
        else:
            chosen = np.arange(len(correlation))
        return chosen[correlation[chosen] > 0]

    def _correlations(self, data: Floats, everything: Floats) -> Iterator[Floats]:
        """Of each feature with being data, less the share of data in the stratum, `[n_alive]` for each
        draw."""
        rows = everything * self._rows
        n = rows.sum(axis=1, keepdims=True)
        mean = (self.totals.T @ everything.T).T / n
        variance = np.maximum((self._squares.T @ everything.T).T / n - mean**2, 0)
        of_stratum = np.broadcast_to(rows @ self._strata, (len(data), self._strata.shape[1]))
        of_data = (data * self._rows) @ self._strata
        share = np.divide(of_data, of_stratum, out=np.zeros_like(of_data), where=of_stratum > 0)
        label = data - everything * (share @ self._strata.T)
        covariance = (self.totals.T @ label.T).T / n
        spread = (of_stratum * share * (1 - share)).sum(axis=1, keepdims=True) / n
        scale = np.sqrt(variance * spread)
        yield from np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 1e-12)


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


def _beyond(correlation: Floats, largest: Floats) -> int:
    """How many exceed the largest of any feature in 95 % of the draws."""
    return int((correlation > np.quantile(largest, 1 - LEVEL)).sum()) if len(largest) else 0


def _null(observed: float, drawn: Floats) -> Null:
    """Of no draws: p is 1."""
    if not len(drawn):
        return Null(0.0, 0.0, 1.0, 0.0)
    deviation, mean = float(drawn.std()), float(drawn.mean())
    as_near = int((drawn >= observed - 1e-12).sum())  # the labels themselves, drawn again, count
    return Null(
        mean=mean,
        deviation=deviation,
        p_value=(1 + as_near) / (1 + len(drawn)),
        effect=(observed - mean) / deviation if deviation > 0 else 0.0,
    )
