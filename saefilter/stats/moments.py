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


@dataclass(frozen=True)
class GroupSums:
    """What a test of x against y needs, where rows of a group may depend on each other in any way.

    A group in which the target y is the same for all rows is one observation: who had drawn labels by
    group could have drawn another. In a group in which it differs, rows are compared with each other,
    copies of one text as one: what the whole group has in common says nothing there, and is taken away.
    Arrays are `[n_groups]`, matrices sparse `[n_groups, d_sae]`.
    """

    rate: Floats
    """Mean target."""
    weight: Floats
    """Of a group of n rows of one target: 1 / sqrt(n), between counting rows and counting groups."""
    count: Floats
    """Rows."""
    units: Floats
    """Observations: copies of one text count once, and so do groups of one target."""
    mixed: NDArray[np.bool_]
    """Whether the target differs within it."""
    totals: sparse.csr_matrix
    """Sum of x."""
    within: sparse.csr_matrix
    """`sum_i (x_i - mean x) (y_i - mean y)` over the rows of a mixed group."""
    within_squares: sparse.csr_matrix
    """The sum of squares of that sum's units."""

    @classmethod
    def of(
        cls, features: SparseRows, group: NDArray[np.int64], copies: NDArray[np.int64],
        target: Floats,
    ) -> GroupSums:  # fmt: skip
        """`group`, `0..n_groups-1`, `copies` (equal numbers: one text) and `target` of each sample,
        `[n_samples]`."""
        n_groups = int(group.max()) + 1
        count = np.bincount(group, minlength=n_groups).astype(np.float64)
        rate = np.bincount(group, target, minlength=n_groups) / np.maximum(count, 1)
        centred = target - rate[group]
        mixed = np.bincount(group, np.abs(centred) > 1e-9, minlength=n_groups) > 0
        pairs, unit = np.unique(np.stack([group, copies]), axis=1, return_inverse=True)
        unit, n_units, group_of_unit = unit.ravel(), pairs.shape[1], pairs[0]
        totals = sparse.csr_matrix((n_groups, features.n_columns))
        products = sparse.csr_matrix((n_units, features.n_columns))
        for rows, slab in features.slabs():
            slab = slab.astype(np.float64)
            totals = totals + _indicator(group[rows], n_groups) @ slab
            scaled = sparse.diags(centred[rows] * mixed[group[rows]]) @ slab
            products = products + _indicator(unit[rows], n_units) @ scaled
        # sum_u (p_u - b_u m)^2 = sum p^2 - 2 m sum b p + m^2 sum b^2 with m the group's mean of x:
        # so nothing is as dense as a group's mean in each of its rows
        gather = _indicator(group_of_unit, n_groups)
        b = np.bincount(unit, centred, minlength=n_units)
        mean = sparse.diags(mixed / np.maximum(count, 1)) @ totals
        squares = gather @ products.multiply(products)
        squares = squares - 2 * mean.multiply(gather @ sparse.diags(b) @ products)
        squares = squares + sparse.diags(gather @ b**2) @ mean.multiply(mean)
        units = np.bincount(group_of_unit, minlength=n_groups).astype(np.float64)
        return cls(
            rate, 1 / np.sqrt(np.maximum(count, 1)), count, np.where(mixed, units, 1.0), mixed,
            totals.tocsr(), (gather @ products).tocsr(), squares.tocsr(),
        )  # fmt: skip

    def t_statistic(self, groups: NDArray[np.bool_]) -> tuple[Floats, int]:
        """`sum_u s_u / sqrt(sum_u s_u^2)` of each feature, `[d_sae]`, over the observations u of those
        groups, and their number; s_u is the observation's share in the covariance of x and y.

        A feature that fires in G observations reaches sqrt(G) at most. 0 where nothing varies.
        """
        inside = (groups & self.mixed).astype(np.float64)
        total = np.asarray(inside @ self.within).ravel()
        squares = np.asarray(inside @ self.within_squares).ravel()
        weight = np.where(groups & ~self.mixed, self.weight, 0.0)
        n = float(weight @ self.count)
        if n > 0:
            x_mean = np.asarray(weight @ self.totals).ravel() / n
            off = weight * (self.rate - weight @ (self.count * self.rate) / n)
            b = off * self.count  # sums to 0
            total = total + np.asarray(off @ self.totals).ravel()
            squares = squares + np.asarray(off**2 @ self.totals.multiply(self.totals)).ravel()
            squares += -2 * x_mean * np.asarray((off * b) @ self.totals).ravel()
            squares += x_mean**2 * (b @ b)
        scale = np.asarray((groups.astype(np.float64)) @ self.totals).ravel() ** 2
        varies = squares > 1e-18 * np.maximum(scale, 1e-300)  # else it is what rounding leaves
        t: Floats = np.divide(total, np.sqrt(squares), out=np.zeros_like(total), where=varies)
        return t, int(self.units[groups].sum())


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
    """Two-sided, of `t`."""
    t: Floats
    """Of the covariance with the target, against Student's t with one degree of freedom less than there
    are observations: `GroupSums.t_statistic`; without groups that of the correlation."""


def feature_statistics(
    toxic: Moments, benign: Moments, by_groups: tuple[Floats, int] | None = None
) -> FeatureStatistics:
    """Statistics from the sums over the toxic and over the benign samples; `by_groups`: what
    `GroupSums.t_statistic` gave. Without it every sample counts as an observation."""
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
    if by_groups is None:
        freedom = max(1, n - 2)
        with np.errstate(divide="ignore"):
            t = correlation * np.sqrt(freedom / np.maximum(1 - correlation**2, 0))
    else:
        t, freedom = by_groups[0], max(1, by_groups[1] - 1)
    return FeatureStatistics(
        frequency=both.active / max(1.0, n),
        effect_size=effect_size,
        correlation=correlation,
        p_value=2 * stats.t.sf(np.abs(t), freedom),
        t=t,
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


def holm(p_values: Floats) -> Floats:
    """p-values of several tests, corrected so that the chance of any false one is held (Holm 1979)."""
    order = np.argsort(p_values)
    scaled = p_values[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1) if len(order) else scaled
    return corrected
