"""Encoded contrast data, and ways to split it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

BLOCKS_PER_FOLD = 8


@dataclass(frozen=True)
class Contrast:
    """Encoded contrast data, possibly of several sources."""

    features: sparse.csr_matrix
    """Pooled activations, `[n_samples, d_sae]`."""
    residual: NDArray[np.float32]
    """Mean residuals, `[n_samples, d_model]`."""
    toxic: NDArray[np.bool_]
    """`[n_samples]`"""
    source: NDArray[np.int64]
    """Which source each sample is from, `[n_samples]`."""

    def part(self, chosen: NDArray[np.bool_]) -> Contrast:
        """Some of the samples."""
        return Contrast(
            self.features[chosen], self.residual[chosen], self.toxic[chosen], self.source[chosen]
        )

    def halves(self, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """A random half of every source and label, and the rest."""
        rng = np.random.default_rng(seed)
        first = np.zeros(len(self.toxic), dtype=bool)
        for label in np.unique(self.source):
            for side in (True, False):
                members = np.flatnonzero((self.source == label) & (self.toxic == side))
                first[rng.permutation(members)[: len(members) // 2]] = True
        return first, ~first

    def folds(self, n: int) -> NDArray[np.int64]:
        """A fold `0..n-1` for each sample, `[n_samples]`.

        Runs of neighbouring rows stay together, since neighbours are often variants of one text;
        sources and labels are spread evenly.
        """
        fold = np.zeros(len(self.toxic), dtype=np.int64)
        for label in np.unique(self.source):
            for side in (True, False):
                members = np.flatnonzero((self.source == label) & (self.toxic == side))
                for number, block in enumerate(np.array_split(members, n * BLOCKS_PER_FOLD)):
                    fold[block] = number % n
        return fold
