from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from saefilter.stats.sparse_rows import SparseRows


@pytest.fixture
def dense() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.random((50, 20)) * (rng.random((50, 20)) < 0.3)).astype("f4")


@pytest.mark.parametrize("memory_bytes", [0, 1500, 1 << 20], ids=["disk", "both", "memory"])
def test_rows_are_the_same_wherever_they_are_kept(dense: np.ndarray, memory_bytes: int) -> None:
    rows = SparseRows(20, memory_bytes=memory_bytes)
    for start in range(0, 50, 8):
        rows.append(sparse.csr_matrix(dense[start : start + 8]))
    rows.append(sparse.csr_matrix((0, 20), dtype="f4"))
    assert rows.shape == (50, 20)
    assert np.array_equal(rows.tocsr().toarray(), dense)
    chosen, mask = np.array([3, 17, 4]), np.arange(50) % 3 == 0
    assert np.array_equal(rows.columns(chosen, mask).toarray(), dense[mask][:, chosen])
    assert np.array_equal(rows.subset(mask).tocsr().toarray(), dense[mask])
    vector = np.arange(20.0)
    assert np.allclose(rows.dot(vector), dense @ vector)
    assert np.array_equal(rows.largest(), dense.max(axis=0))


def test_the_temporary_folder_goes_with_the_rows(dense: np.ndarray) -> None:
    rows = SparseRows(20, memory_bytes=0)
    rows.append(sparse.csr_matrix(dense))
    folder = Path(rows._spool_folder())
    assert list(folder.iterdir())
    del rows
    gc.collect()
    assert not folder.exists()


def test_no_rows_are_no_rows() -> None:
    rows = SparseRows(4)
    assert rows.columns(np.array([1, 2])).shape == (0, 2)
    assert rows.dot(np.ones(4)).shape == (0,)
    assert np.array_equal(rows.largest(), np.zeros(4))
