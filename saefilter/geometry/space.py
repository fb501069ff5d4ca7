"""Who lies next to whom: exact nearest directions by cosine, and the feature space of one SAE seen from one
toxic set, in which neighbours are found once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saefilter.errors import is_out_of_memory
from saefilter.toxic.toxicset import ToxicFeature, ToxicSet

FAISS_WORK = 2e10
"""Multiplications up to which FAISS is asked: well under a second."""
COSINES_AT_ONCE = 1 << 24
"""That are held by the matrix product."""
Array = NDArray[np.float32]


class Neighbours(NamedTuple):
    """For each query, its nearest indexed directions, nearest first."""

    cosine: NDArray[np.float32]
    """`[n_queries, k]`"""
    position: NDArray[np.int64]
    """Which of the indexed directions, `[n_queries, k]`."""


class DirectionIndex:
    """Exact nearest directions by cosine.

    Flat, since exactness costs milliseconds with the sets of hundreds of features that curation finds;
    on a GPU where that is the device and the installed FAISS can. A set of tens of thousands against a
    whole SAE is another matter: beyond `FAISS_WORK` torch multiplies (docs/metrics.md says why).
    """

    def __init__(self, directions: NDArray[np.float32], device: str = "cpu"):
        """`directions`: unit rows, `[n_directions, d_model]`. `device`: in torch's words, where to
        compute."""
        self.directions = np.ascontiguousarray(directions, dtype=np.float32)
        self.device = device

    def nearest(self, queries: NDArray[np.float32], k: int = 1) -> Neighbours:
        """The `k` nearest directions to each unit query, `[n_queries, d_model]`."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        k = min(k, len(self.directions))
        if float(queries.size) * len(self.directions) > FAISS_WORK:
            return self._by_product(queries, k)
        return Neighbours(*self._faiss.search(queries, k))

    def _by_product(self, queries: NDArray[np.float32], k: int) -> Neighbours:
        try:
            return nearest_by_product(self.directions, queries, k, self.device)
        except RuntimeError as error:
            if self.device == "cpu" or not is_out_of_memory(error):
                raise
        return nearest_by_product(self.directions, queries, k)

    @cached_property
    def _faiss(self) -> Any:
        import faiss

        index: Any = faiss.IndexFlatIP(self.directions.shape[1])
        if self.device.startswith("cuda") and getattr(faiss, "get_num_gpus", int)() > 0:
            number = int(self.device.partition(":")[2] or 0)
            index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), number, index)
        index.add(self.directions)
        return index


def nearest_by_product(
    directions: NDArray[np.float32], queries: NDArray[np.float32], k: int, device: str = "cpu"
) -> Neighbours:
    """What FAISS's flat index answers, by torch in fp32: queries `[n, d]` against directions `[m, d]`."""
    import torch

    columns = torch.from_numpy(directions).to(device).T
    answers = []
    rows = max(1, COSINES_AT_ONCE // len(directions))
    for start in range(0, len(queries), rows):
        cosine = torch.from_numpy(queries[start : start + rows]).to(device) @ columns
        # of one neighbour a maximum is enough, which is several times faster than topk
        largest = cosine.max(dim=1, keepdim=True) if k == 1 else cosine.topk(k, dim=1)
        answers.append((largest.values.cpu(), largest.indices.cpu()))
    values, positions = (torch.cat(column).numpy() for column in zip(*answers, strict=True))
    return Neighbours(values, positions)


def unit_rows(rows: Array) -> Array:
    """Rows scaled to unit length, `[n, d]`; zero rows stay zero."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit: Array = (rows / np.maximum(norms, 1e-12)).astype(np.float32)
    return unit


@dataclass(frozen=True)
class Side:
    """Some features of a set, and how near every feature of the SAE is to them."""

    features: list[ToxicFeature]
    indices: NDArray[np.int64]
    """Which SAE features they are, `[n]`."""
    weights: Array
    """`[n]`"""
    directions: Array
    """Unit decoder directions, `[n, d_model]`."""
    index: DirectionIndex
    """Of these."""
    nearest: Neighbours
    """For each feature of the SAE, the nearest of these, `[d_sae, k]`."""

    @classmethod
    def of(
        cls, features: list[ToxicFeature], directions: Array, neighbours: int, device: str
    ) -> Side | None:
        """None when there are no features."""
        if not features:
            return None
        indices = np.array([feature.index for feature in features], dtype=np.int64)
        own = directions[indices]
        index = DirectionIndex(own, device)
        nearest = _nearest_of_each(directions, indices, index, neighbours)
        weights = np.array([feature.weight for feature in features], dtype=np.float32)
        return cls(features, indices, weights, own, index, nearest)

    def proximity(self) -> Array:
        """Mean cosine to the nearest of them, `[d_sae]`: the paper's proximity for one neighbour."""
        mean: Array = self.nearest.cosine.mean(axis=1)
        return mean

    def pull(self, threshold: float) -> Array:
        """Weight of the nearest one, times how far the cosine to it exceeds `threshold`, `[d_sae]`.

        1 times the weight for the feature itself, falling linearly to 0 at the threshold.
        """
        kernel = np.maximum(0, (self.nearest.cosine - threshold) / (1 - threshold))
        pull: Array = (kernel * self.weights[self.nearest.position]).mean(axis=1).astype(np.float32)
        return pull

    def centroid(self) -> Array:
        """Unit mean of the directions, weighted by effect size and its sign, `[d_model]`: a feature that
        is less active in toxic samples points away."""
        effects = np.array([feature.effect_size for feature in self.features], np.float32)
        centroid: Array = unit_rows((effects @ self.directions)[None])[0]
        return centroid


def _nearest_of_each(
    directions: Array, indices: NDArray[np.int64], index: DirectionIndex, neighbours: int
) -> Neighbours:
    """For each feature of the SAE, `[d_sae, d_model]`, the nearest of those at `indices`, whose `index`
    this is."""
    if neighbours > 1:
        return index.nearest(directions, neighbours)
    # the nearest to a feature of the set is itself: nobody needs to be asked, which with a huge set is
    # much of the work. One without a direction (a dead feature) is near to nothing, itself included
    alive = np.einsum("nd,nd->n", directions[indices], directions[indices]) > 0.5
    others = np.ones(len(directions), dtype=bool)
    others[indices[alive]] = False
    cosine = np.ones((len(directions), 1), dtype=np.float32)
    position = np.zeros((len(directions), 1), dtype=np.int64)
    position[indices[alive], 0] = np.flatnonzero(alive)
    cosine[others], position[others] = index.nearest(directions[others])
    return Neighbours(cosine, position)


@dataclass(frozen=True)
class FeatureSpace:
    """All that a metric may read besides the sample."""

    toxic_set: ToxicSet
    directions: Array
    """Unit decoder directions, `[d_sae, d_model]`."""
    toxic: Side
    """All toxic features of the set."""
    weighted_toxic: Side | None
    """Those with a weight above 0."""
    weighted_benign: Side | None
    gain: Array
    """1 over each feature's spread on the contrast data, `[d_sae]`; 0 where there is none."""
    largest: Array
    """Each feature's largest pooled activation on the contrast data, `[d_sae]`."""

    @classmethod
    def of(
        cls, toxic_set: ToxicSet, directions: Array, neighbours: int = 1, device: str = "cpu"
    ) -> FeatureSpace:
        """The space of an SAE with these unit decoder directions. `device`: see DirectionIndex."""

        def side(features: list[ToxicFeature]) -> Side | None:
            return Side.of(features, directions, neighbours, device)

        toxic, benign = toxic_set.side("toxic"), toxic_set.side("benign")
        everything = side(toxic)
        assert everything is not None  # a set without toxic features does not load
        weighted = [feature for feature in toxic if feature.weight > 0]
        scale = np.asarray(toxic_set.scale, dtype=np.float32)
        gain = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
        return cls(
            toxic_set,
            directions,
            everything,
            everything if len(weighted) == len(toxic) else side(weighted),
            side([feature for feature in benign if feature.weight > 0]),
            gain,
            np.asarray(toxic_set.largest, dtype=np.float32),
        )

    def within_range(self, features: sparse.csr_matrix) -> sparse.csr_matrix:
        """Pooled activations `[n, d_sae]`, each no larger than on the contrast data.

        A feature that hardly fires there, the words of another topic for one, has next to no spread;
        on rows about that topic it would be tens of spreads strong and drown all others.
        """
        data = np.minimum(features.data, self.largest[features.indices])
        return sparse.csr_matrix((data, features.indices, features.indptr), features.shape)
