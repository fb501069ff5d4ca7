"""Sums over samples, per feature and group of samples, from which every statistic of a group or of
several together follows. They are taken in one pass; nothing dense of `[n_samples, d_sae]` is made."""

from __future__ import annotations

from dataclasses import dataclass

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
        for rows, block in features.blocks():
            block = block.astype(np.float64)
            squared, fired = block.copy(), block.copy()
            squared.data **= 2
            fired.data = (fired.data > 0).astype(np.float64)
            members = _indicator(group[rows], n_groups)
            weighted = members @ sparse.diags(target[rows])
            for number, (left, right) in enumerate(
                [(members, fired), (members, block), (members, squared), (weighted, block)]
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
