"""A FAISS inner-product index over unit decoder directions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Neighbours(NamedTuple):
    """For each query, its nearest indexed directions, nearest first."""

    cosine: NDArray[np.float32]
    """`[n_queries, k]`"""
    position: NDArray[np.int64]
    """Which of the indexed directions, `[n_queries, k]`."""


class DirectionIndex:
    """Exact nearest directions by cosine.

    Flat, since toxic sets are small beside `d_sae` and exactness costs milliseconds; moved to the
    GPUs when the installed FAISS has any.
    """

    def __init__(self, directions: NDArray[np.float32]):
        """`directions`: unit rows, `[n_directions, d_model]`."""
        import faiss

        self.n_directions = len(directions)
        index: Any = faiss.IndexFlatIP(directions.shape[1])
        if getattr(faiss, "get_num_gpus", int)() > 0:
            index = faiss.index_cpu_to_all_gpus(index)
        index.add(np.ascontiguousarray(directions, dtype=np.float32))
        self._index = index

    def nearest(self, queries: NDArray[np.float32], k: int = 1) -> Neighbours:
        """The `k` nearest directions to each unit query, `[n_queries, d_model]`."""
        k = min(k, self.n_directions)
        cosine, position = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
        return Neighbours(cosine, position)
