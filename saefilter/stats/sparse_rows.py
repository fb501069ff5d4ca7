"""Rows of sparse features in blocks; the blocks go to disk when they outgrow memory."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

MEMORY_BYTES = 512 << 20
"""Blocks beyond this are kept in a temporary folder."""


class SparseRows:
    """A sparse `[n_rows, n_columns]` that is only ever walked through, block by block."""

    def __init__(self, n_columns: int, *, memory_bytes: int = MEMORY_BYTES):
        self.n_columns = n_columns
        self.n_rows = 0
        self._blocks: list[sparse.csr_matrix | Path] = []
        self._free_bytes = memory_bytes
        self._folder: Path | None = None

    @classmethod
    def of(cls, rows: sparse.csr_matrix) -> SparseRows:
        """One block, in memory."""
        result = cls(rows.shape[1])
        result.append(rows)
        return result

    @property
    def shape(self) -> tuple[int, int]:
        return self.n_rows, self.n_columns

    def append(self, block: sparse.csr_matrix) -> None:
        """Add rows at the end."""
        if not block.shape[0]:
            return
        self.n_rows += block.shape[0]
        size = block.data.nbytes + block.indices.nbytes + block.indptr.nbytes
        if size <= self._free_bytes:
            self._free_bytes -= size
            self._blocks.append(block)
            return
        path = self._spool_folder() / f"{len(self._blocks)}.npz"
        sparse.save_npz(path, block, compressed=False)
        self._blocks.append(path)

    def tocsr(self) -> sparse.csr_matrix:
        """All of it in memory."""
        return self.columns(np.arange(self.n_columns))

    def part(self, rows: NDArray[np.bool_]) -> SparseRows:
        """The rows where `rows`, `[n_rows]`, is true."""
        result = SparseRows(self.n_columns)
        for span, block in self.blocks():
            result.append(block[rows[span]])
        return result

    def blocks(self) -> Iterator[tuple[slice, sparse.csr_matrix]]:
        """Blocks in order, each with the rows it holds."""
        start = 0
        for kept in self._blocks:
            block = sparse.load_npz(kept) if isinstance(kept, Path) else kept
            yield slice(start, start + block.shape[0]), block
            start += block.shape[0]

    def columns(
        self, chosen: NDArray[np.int64], rows: NDArray[np.bool_] | None = None
    ) -> sparse.csr_matrix:
        """Some columns of all rows, or of those where `rows`, `[n_rows]`, is true; in memory."""
        chosen_columns = [sparse.csr_matrix((0, len(chosen)), dtype=np.float32)]
        for span, block in self.blocks():
            block = block if rows is None else block[rows[span]]
            chosen_columns.append(block[:, chosen])
        return sparse.vstack(chosen_columns).tocsr()

    def dot(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """`rows @ vector`, `[n_rows]`."""
        parts = [np.asarray(block @ vector, dtype=np.float64) for _, block in self.blocks()]
        return np.concatenate(parts) if parts else np.zeros(0)

    def largest(self) -> NDArray[np.float32]:
        """The largest entry of each column, 0 or more, `[n_columns]`."""
        result = np.zeros(self.n_columns, dtype=np.float32)
        for _, block in self.blocks():
            if block.shape[0]:
                np.maximum(result, block.max(axis=0).toarray().ravel(), out=result)
        return result

    def _spool_folder(self) -> Path:
        if self._folder is None:
            scratch = tempfile.TemporaryDirectory(prefix="saefilter-")
            weakref.finalize(self, scratch.cleanup)
            self._scratch = scratch
            self._folder = Path(scratch.name)
        return self._folder
