"""Exact nearest directions by cosine: a FAISS inner-product index, or a matrix product where that is much
faster."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from saefilter.errors import is_out_of_memory

FAISS_WORK = 2e10
"""Multiplications up to which FAISS is asked: well under a second."""
BLOCK = 1 << 24
"""Cosines that are held at once by the matrix product."""


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
    whole SAE is another matter: the BLAS in FAISS's package reaches a quarter of what torch's does
    (docs/performance.md), so beyond `FAISS_WORK` torch multiplies.
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
    parts = []
    rows = max(1, BLOCK // len(directions))
    for start in range(0, len(queries), rows):
        cosine = torch.from_numpy(queries[start : start + rows]).to(device) @ columns
        # of one neighbour a maximum is enough, which is several times faster than topk
        found = cosine.max(dim=1, keepdim=True) if k == 1 else cosine.topk(k, dim=1)
        parts.append((found.values.cpu(), found.indices.cpu()))
    values, positions = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    return Neighbours(values, positions)
