"""Rows of sparse features in slabs, each as it was appended; they go to disk when they outgrow memory."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

MEMORY_BYTES = 512 << 20
"""Slabs beyond this are kept in a temporary folder."""


class SparseRows:
    """A sparse `[n_rows, n_columns]` that is only ever walked through, slab by slab."""

    def __init__(self, n_columns: int, *, memory_bytes: int = MEMORY_BYTES):
        self.n_columns = n_columns
        self.n_rows = 0
        self._slabs: list[sparse.csr_matrix | Path] = []
        self._free_bytes = memory_bytes
        self._folder: Path | None = None

    @classmethod
    def of(cls, rows: sparse.csr_matrix) -> SparseRows:
        """One slab, in memory."""
        result = cls(rows.shape[1])
        result.append(rows)
        return result

    @property
    def shape(self) -> tuple[int, int]:
        return self.n_rows, self.n_columns

    def append(self, slab: sparse.csr_matrix) -> None:
        """Add rows at the end."""
        if not slab.shape[0]:
            return
        self.n_rows += slab.shape[0]
        size = slab.data.nbytes + slab.indices.nbytes + slab.indptr.nbytes
        if size <= self._free_bytes:
            self._free_bytes -= size
            self._slabs.append(slab)
            return
        path = self._spool_folder() / f"{len(self._slabs)}.npz"
        sparse.save_npz(path, slab, compressed=False)
        self._slabs.append(path)

    def tocsr(self) -> sparse.csr_matrix:
        """All of it in memory."""
        return self.columns(np.arange(self.n_columns))

    def subset(self, rows: NDArray[np.bool_]) -> SparseRows:
        """The rows where `rows`, `[n_rows]`, is true."""
        result = SparseRows(self.n_columns)
        for span, slab in self.slabs():
            result.append(slab[rows[span]])
        return result

    def slabs(self) -> Iterator[tuple[slice, sparse.csr_matrix]]:
        """Slabs in order, each with the rows it holds."""
        start = 0
        for kept in self._slabs:
            slab = sparse.load_npz(kept) if isinstance(kept, Path) else kept
            yield slice(start, start + slab.shape[0]), slab
            start += slab.shape[0]

    def columns(
        self, chosen: NDArray[np.int64], rows: NDArray[np.bool_] | None = None
    ) -> sparse.csr_matrix:
        """Some columns of all rows, or of those where `rows`, `[n_rows]`, is true; in memory."""
        chosen_columns = [sparse.csr_matrix((0, len(chosen)), dtype=np.float32)]
        for span, slab in self.slabs():
            slab = slab if rows is None else slab[rows[span]]
            chosen_columns.append(slab[:, chosen])
        return sparse.vstack(chosen_columns).tocsr()

    def dot(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """`rows @ vector`, `[n_rows]`."""
        products = [np.asarray(slab @ vector, dtype=np.float64) for _, slab in self.slabs()]
        return np.concatenate(products) if products else np.zeros(0)

    def largest(self) -> NDArray[np.float32]:
        """The largest entry of each column, 0 or more, `[n_columns]`."""
        result = np.zeros(self.n_columns, dtype=np.float32)
        for _, slab in self.slabs():
            if slab.shape[0]:
                np.maximum(result, slab.max(axis=0).toarray().ravel(), out=result)
        return result

    def _spool_folder(self) -> Path:
        if self._folder is None:
            scratch = tempfile.TemporaryDirectory(prefix="saefilter-")
            weakref.finalize(self, scratch.cleanup)
            self._scratch = scratch
            self._folder = Path(scratch.name)
        return self._folder
