"""The feature space of one SAE seen from one toxic set: who lies next to whom, found once by FAISS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saefilter.geometry.index import DirectionIndex, Neighbours
from saefilter.toxic.toxicset import ToxicFeature, ToxicSet


@dataclass(frozen=True)
class Side:
    """The toxic or the benign features of a set, and how near every feature of the SAE is to them."""

    features: list[ToxicFeature]
    indices: NDArray[np.int64]
    """Which SAE features they are, `[n]`."""
    weights: NDArray[np.float32]
    """`[n]`"""
    directions: NDArray[np.float32]
    """Unit decoder directions, `[n, d_model]`."""
    nearest: Neighbours
    """For each feature of the SAE, its nearest ones of this side, `[d_sae, k]`."""

    @classmethod
    def of(
        cls, features: list[ToxicFeature], directions: NDArray[np.float32], neighbours: int
    ) -> Side | None:
        """None when the set has no feature of that side."""
        if not features:
            return None
        indices = np.array([feature.index for feature in features], dtype=np.int64)
        own = directions[indices]
        nearest = DirectionIndex(own).nearest(directions, neighbours)
        weights = np.array([feature.weight for feature in features], dtype=np.float32)
        return cls(features, indices, weights, own, nearest)

    def proximity(self) -> NDArray[np.float32]:
        """Mean cosine to the nearest ones, `[d_sae]`: the paper's proximity for one neighbour."""
        return self.nearest.cosine.mean(axis=1)


@dataclass(frozen=True)
class FeatureSpace:
    """All that a metric may read besides the sample."""

    toxic_set: ToxicSet
    directions: NDArray[np.float32]
    """Unit decoder directions, `[d_sae, d_model]`."""
    toxic: Side
    benign: Side | None
    gain: NDArray[np.float32]
    """1 over each feature's spread on the reference, `[d_sae]`; 0 where it was never active."""

    @classmethod
    def of(
        cls, toxic_set: ToxicSet, directions: NDArray[np.float32], neighbours: int = 1
    ) -> FeatureSpace:
        """The space of an SAE with these unit decoder directions."""
        toxic = Side.of(toxic_set.side("toxic"), directions, neighbours)
        assert toxic is not None  # checked when the set was loaded
        spread = np.asarray(toxic_set.scale, dtype=np.float32)
        gain = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0)
        benign = Side.of(toxic_set.side("benign"), directions, neighbours)
        return cls(toxic_set, directions, toxic, benign, gain)
