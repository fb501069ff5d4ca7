"""Encoded contrast data, and ways to split it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saefilter.stats.sparse_rows import SparseRows

BLOCKS_PER_FOLD = 8


@dataclass(frozen=True)
class Contrast:
    """Encoded contrast data, possibly of several sources."""

    features: SparseRows
    """Pooled activations, `[n_samples, d_sae]`."""
    residual: NDArray[np.float32]
    """Mean residuals, `[n_samples, d_model]`."""
    toxic: NDArray[np.bool_]
    """`[n_samples]`"""
    source: NDArray[np.int64]
    """Which source each sample is from, `[n_samples]`."""
    score: NDArray[np.float64] | None = None
    """How toxic each sample is, `[n_samples]`, where the data say; correlations are taken with it."""
    density: NDArray[np.float64] | None = None
    """Share of scored tokens on which each feature fires, `[d_sae]`."""

    @property
    def target(self) -> NDArray[np.float64]:
        """What correlations are taken with: the score, or 1 and 0 for the sides."""
        return self.toxic.astype(np.float64) if self.score is None else self.score

    @classmethod
    def joined(cls, parts: Sequence[Contrast]) -> Contrast:
        """Several parts as one, as they say which source they are."""
        features = SparseRows(parts[0].features.n_columns)
        for part in parts:
            for _, block in part.features.blocks():
                features.append(block)
        return cls(
            features,
            np.concatenate([part.residual for part in parts]),
            np.concatenate([part.toxic for part in parts]),
            np.concatenate([part.source for part in parts]),
            density=np.mean([part.density for part in parts if part.density is not None], axis=0),
        )

    def part(self, rows: NDArray[np.bool_]) -> Contrast:
        """Some of the samples."""
        return Contrast(
            self.features.part(rows),
            self.residual[rows],
            self.toxic[rows],
            self.source[rows],
            None if self.score is None else self.score[rows],
            self.density,
        )

    def first_half(self, seed: int) -> NDArray[np.bool_]:
        """A random half of every source and side, `[n_samples]`."""
        rng = np.random.default_rng(seed)
        first = np.zeros(len(self.toxic), dtype=bool)
        for members in self._strata():
            first[rng.permutation(members)[: len(members) // 2]] = True
        return first

    def folds(self, n: int) -> NDArray[np.int64]:
        """A fold `0..n-1` for each sample, `[n_samples]`.

        Runs of neighbouring rows stay together, since neighbours are often variants of one text;
        sources and sides are spread evenly.
        """
        fold = np.zeros(len(self.toxic), dtype=np.int64)
        for members in self._strata():
            for number, block in enumerate(np.array_split(members, n * BLOCKS_PER_FOLD)):
                fold[block] = number % n
        return fold

    def _strata(self) -> list[NDArray[np.int64]]:
        return [
            np.flatnonzero((self.source == label) & (self.toxic == side))
            for label in np.unique(self.source)
            for side in (True, False)
        ]
