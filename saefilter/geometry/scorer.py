"""The scorer: one toxic set and one metric, applied to encoded samples, with the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saefilter.errors import SaefilterError
from saefilter.geometry.metrics import METRICS, Metric, Sample, choose_metric
from saefilter.geometry.space import FeatureSpace
from saefilter.geometry.spillover import spillover_rows
from saefilter.toxic.toxicset import ToxicSet

N_TOP_FEATURES = 5


class TopFeatures(NamedTuple):
    """The features that bring samples closest, sample after sample, the largest share first."""

    counts: NDArray[np.int64]
    """How many there are of each sample, `[n]`; they add up to the length of the others."""
    feature: NDArray[np.int64]
    share: NDArray[np.float64]
    """Share of the sample's positive contributions, 0 to 1."""
    activation: NDArray[np.float32]


class ToxicNeighbours(NamedTuple):
    """For each feature of the SAE, the toxic feature nearest to it."""

    feature: NDArray[np.int64]
    """`[d_sae]`"""
    cosine: NDArray[np.float32]
    """`[d_sae]`"""


@dataclass(frozen=True)
class Scored:
    """Scores of some samples and what they are made of."""

    proximity: NDArray[np.float64]
    """`[n]`"""
    contributions: sparse.csr_matrix
    """Each feature's share in its sample's proximity, up to a factor per sample, `[n, d_sae]`; its
    entries are those of `features`, in their order."""
    features: sparse.csr_matrix
    """Pooled activations, `[n, d_sae]`."""
    own_share: NDArray[np.float64]
    """How much of the contributions, by their size whatever their sign, is of the set's own features that
    the metric reads; the rest is of features that lie next to them, 0 to 1. NaN where there are no
    contributions, `[n]`."""

    def top_features(self) -> TopFeatures:
        """Of each sample, at most `N_TOP_FEATURES` features with a positive share; of equals the one
        with the smaller number comes first."""
        contributions, indices = self.contributions.data, self.contributions.indices
        counts, chosen, shares = [], [], []
        for start, end in zip(
            self.contributions.indptr[:-1].tolist(), self.contributions.indptr[1:].tolist(),
            strict=True,
        ):  # fmt: skip
            row = contributions[start:end]
            positive = np.flatnonzero(row > 0)
            values = row[positive]
            if len(values) > N_TOP_FEATURES:
                kth = np.partition(values, -N_TOP_FEATURES)[-N_TOP_FEATURES]
                positive = positive[values >= kth]
            best = positive[np.lexsort((indices[start:end][positive], -row[positive]))]
            best = best[:N_TOP_FEATURES]
            counts.append(len(best))
            chosen.append(start + best)
            shares.append(row[best] / max(float(values.sum()), 1e-30))
        at = np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.int64)
        share = np.concatenate(shares) if shares else np.zeros(0)
        return TopFeatures(np.array(counts), indices[at], share, self.features.data[at])


class Scorer:
    """Scores samples of one SAE. Neighbours of its features are sought once, when it is made."""

    def __init__(
        self,
        toxic_set: ToxicSet,
        directions: NDArray[np.float32],
        *,
        metric: str | None = None,
        neighbours: int | None = None,
        device: str = "cpu",
    ):
        """`directions`: unit decoder directions, `[d_sae, d_model]`. `device`: where neighbours are
        sought. Raises SaefilterError for a metric that is unknown or that the set cannot serve."""
        self.toxic_set = toxic_set
        self.space = FeatureSpace.of(toxic_set, directions, neighbours or 1, device)
        self.metric: Metric = choose_metric(metric, self.space)
        if (neighbours or 1) > 1 and not self.metric.looks_for_neighbours:
            with_them = [one.name for one in METRICS.values() if one.looks_for_neighbours]
            raise SaefilterError(
                f"--neighbours has no effect with metric {self.metric.name}",
                remedy=f"It goes with {', '.join(with_them)}.",
            )
        self.token_weights: NDArray[np.float32] = self.metric.push(self.space).astype(np.float32)
        self._labels = toxic_set.labels()
        # evidence names the toxic features that the metric reads
        weighted = self.space.weighted_toxic
        self._side = self.space.toxic
        if self.metric.needs_weights and weighted is not None:
            self._side = weighted
        read = [self._side.indices]
        if self.metric.needs_weights and (benign := self.space.weighted_benign) is not None:
            read.append(benign.indices)
        self._own = np.zeros(len(directions))
        self._own[np.concatenate(read)] = 1
        reference = toxic_set.calibration.push if toxic_set.calibration else None
        self.push_reference = reference
        """What spillover is measured against; None when the set's calibration does not hold it."""
        self._cosines = None
        if reference is not None:
            self._cosines = directions @ directions[list(reference.features)].T

    def score(self, features: sparse.csr_matrix, residual: NDArray[np.float32]) -> Scored:
        """Proximity and evidence of pooled activations `[n, d_sae]` and residuals `[n, d_model]`."""
        proximity = self.metric.proximity(self.space, Sample(features, residual))
        counted = self.space.within_range(features) if self.metric.needs_weights else features
        values = counted.data * self.token_weights[features.indices]
        contributions = sparse.csr_matrix(
            (values, features.indices, features.indptr), features.shape
        )
        share = self.own_share(contributions)
        return Scored(proximity.astype(np.float64), contributions, features, share)

    def own_share(self, contributions: sparse.csr_matrix) -> NDArray[np.float64]:
        """See `Scored.own_share`."""
        size = abs(contributions.astype(np.float64))
        total, own = size @ np.ones(len(self._own)), size @ self._own
        share: NDArray[np.float64] = np.full(len(total), np.nan)
        np.divide(own, total, out=share, where=total > 0)
        return share

    def pushes(self, features: sparse.csr_matrix) -> NDArray[np.float64] | None:
        """The push of each sample on the reference's toxic features, `[n, n_toxic]`."""
        return None if self._cosines is None else spillover_rows(features, self._cosines)

    def label(self, feature: int) -> str:
        """What a feature fires on, in a few words."""
        return self._labels.get(feature, f"feature {feature}")

    def percentile(self, proximity: NDArray[np.float64], pool: str) -> NDArray[np.float64] | None:
        """Share of the harmless reference that is less close, 0 to 100; None without calibration."""
        if self.toxic_set.calibration is None:
            return None
        return self.toxic_set.calibration.percentile(proximity, f"{self.metric.name}/{pool}")

    @cached_property
    def nearest(self) -> ToxicNeighbours:
        """The toxic feature that each feature lies next to."""
        first = self._side.nearest
        return ToxicNeighbours(self._side.indices[first.position[:, 0]], first.cosine[:, 0])
