"""Sums over samples, and the statistics of each feature that follow from them.

The sums are taken per feature and group of samples in one pass, so that every statistic of a group or
of several together follows. Everything works on sparse matrices: at no time is there a dense
`[n_samples, d_sae]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saefilter.stats.sparse_rows import SparseRows

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Of activations x, `[d_sae]` each, and of a target y, over `count` samples."""

    count: float
    active: Floats
    """Samples in which x > 0."""
    total: Floats
    squares: Floats
    products: Floats
    """Sum of x y."""
    target_total: float
    target_squares: float

    @property
    def mean(self) -> Floats:
        mean: Floats = self.total / max(1.0, self.count)
        return mean

    @property
    def variance(self) -> Floats:
        return np.maximum(self.squares / max(1.0, self.count) - self.mean**2, 0)

    def __add__(self, other: Moments) -> Moments:
        return Moments(**{name: value + getattr(other, name) for name, value in vars(self).items()})


@dataclass(frozen=True)
class GroupedMoments:
    """The sums of each of `n_groups` groups: per feature `[n_groups, d_sae]`, else `[n_groups]`."""

    count: Floats
    active: Floats
    total: Floats
    squares: Floats
    products: Floats
    target_total: Floats
    target_squares: Floats

    @classmethod
    def of(
        cls, features: SparseRows, group: NDArray[np.int64], n_groups: int, target: Floats
    ) -> GroupedMoments:
        """`group`, `0..n_groups-1`, and `target` for each sample, `[n_samples]`."""
        sums = np.zeros((4, n_groups, features.n_columns))
        for rows, slab in features.slabs():
            slab = slab.astype(np.float64)
            squared, fired = slab.copy(), slab.copy()
            squared.data **= 2
            fired.data = (fired.data > 0).astype(np.float64)
            members = _indicator(group[rows], n_groups)
            weighted = members @ sparse.diags(target[rows])
            for number, (left, right) in enumerate(
                [(members, fired), (members, slab), (members, squared), (weighted, slab)]
            ):
                sums[number] += (left @ right).toarray()

        def per_group(values: Floats) -> Floats:
            return np.bincount(group, values, minlength=n_groups).astype(np.float64)

        return cls(
            per_group(np.ones(len(group))),
            sums[0],
            sums[1],
            sums[2],
            sums[3],
            per_group(target),
            per_group(target**2),
        )

    def over(self, groups: NDArray[np.bool_]) -> Moments:
        """The sums over several groups, `groups` being `[n_groups]`."""
        return Moments(**{name: values[groups].sum(axis=0) for name, values in vars(self).items()})


def _indicator(group: NDArray[np.int64], n_groups: int) -> sparse.csr_matrix:
    """`[n_groups, n]` with a 1 where a sample belongs to a group."""
    n = len(group)
    return sparse.csr_matrix((np.ones(n), (group, np.arange(n))), (n_groups, n))


@dataclass(frozen=True)
class FeatureStatistics:
    """One entry per feature, `[d_sae]` each."""

    frequency: Floats
    """Share of samples in which it is active."""
    effect_size: Floats
    """Standardised mean difference, toxic minus benign, over the pooled standard deviation."""
    correlation: Floats
    """Pearson correlation with the target; point-biserial where that is the label."""
    p_value: Floats
    """Two-sided, of the correlation (t-test with n - 2 degrees of freedom)."""


def feature_statistics(toxic: Moments, benign: Moments) -> FeatureStatistics:
    """Statistics from the sums over the toxic and over the benign samples."""
    from scipy import stats  # half a second, which scoring need not wait for

    pooled = np.sqrt((toxic.variance + benign.variance) / 2)
    difference = toxic.mean - benign.mean
    effect_size = np.divide(difference, pooled, out=np.zeros_like(pooled), where=pooled > 0)

    both = toxic + benign
    n = both.count
    target_mean = both.target_total / max(1.0, n)
    target_variance = max(both.target_squares / max(1.0, n) - target_mean**2, 0.0)
    covariance = both.products / max(1.0, n) - both.mean * target_mean
    deviations = np.sqrt(both.variance * target_variance)
    correlation = np.divide(
        covariance, deviations, out=np.zeros_like(deviations), where=deviations > 0
    ).clip(-1, 1)
    freedom = max(1, n - 2)
    with np.errstate(divide="ignore"):
        t = np.abs(correlation) * np.sqrt(freedom / np.maximum(1 - correlation**2, 0))
    return FeatureStatistics(
        frequency=both.active / max(1.0, n),
        effect_size=effect_size,
        correlation=correlation,
        p_value=2 * stats.t.sf(t, freedom),
    )


def column_auroc(features: sparse.csr_matrix, toxic: NDArray[np.bool_]) -> Floats:
    """AUROC of each non-negative column, `[d_sae]`; one without activations has 0.5."""
    n_toxic = int(toxic.sum())
    n_benign = len(toxic) - n_toxic
    if not n_toxic or not n_benign:
        return np.full(features.shape[1], 0.5)
    entries = features.tocoo()
    is_toxic = toxic[entries.row]
    ranks = _ranks_within(entries.col, entries.data)

    def per_column(weights: NDArray[Any]) -> Floats:
        counts = np.bincount(entries.col, weights, minlength=features.shape[1])
        return counts.astype(np.float64)

    active_toxic = per_column(is_toxic)
    active_benign = per_column(~is_toxic)
    above = per_column(ranks * is_toxic) - active_toxic * (active_toxic + 1) / 2
    # active beats silent; two silent samples tie
    above += active_toxic * (n_benign - active_benign)
    above += (n_toxic - active_toxic) * (n_benign - active_benign) / 2
    return np.asarray(above / (n_toxic * n_benign))


def _ranks_within(group: NDArray[np.int32], values: NDArray[Any]) -> Floats:
    """Rank of each value within its group, from 1; equal ones share their mean rank."""
    order = np.lexsort((values, group))
    group, values = group[order], values[order]
    position = np.arange(len(order))
    new_group = np.diff(group, prepend=-1) != 0
    new_value = new_group | (np.diff(values, prepend=np.nan) != 0)
    first = position[new_value]
    last = np.append(first[1:], len(order)) - 1
    start = position[new_group][np.cumsum(new_group) - 1]
    shared = ((first + last) / 2)[np.cumsum(new_value) - 1] - start + 1
    ranks = np.empty(len(order))
    ranks[order] = shared
    return ranks


def discoveries(p_values: Floats, fdr: float) -> NDArray[np.bool_]:
    """Which tests pass at that false-discovery rate (Benjamini and Hochberg 1995)."""
    from scipy.stats import false_discovery_control

    if not len(p_values):
        return np.zeros(0, dtype=bool)
    passed: NDArray[np.bool_] = false_discovery_control(p_values) <= fdr
    return passed
