"""Nearest directions: FAISS and the matrix product give the same answer, which is the right one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saefilter.geometry import space
from saefilter.geometry.space import DirectionIndex, nearest_by_product, unit_rows


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 40),
    st.integers(1, 30),
    st.integers(2, 24),
    st.integers(1, 5),
    st.integers(0, 99),
)
def test_both_ways_find_the_nearest(n: int, m: int, d: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries = unit_rows(rng.standard_normal((n, d)).astype(np.float32))
    directions = unit_rows(rng.standard_normal((m, d)).astype(np.float32))
    cosine = queries @ directions.T
    expected = -np.sort(-cosine, axis=1)[:, :k]
    for found in (
        DirectionIndex(directions).nearest(queries, k),
        nearest_by_product(directions, queries, min(k, m)),
    ):
        assert found.cosine == pytest.approx(expected, abs=1e-6)
        at = np.take_along_axis(cosine, found.position, axis=1)
        assert at == pytest.approx(found.cosine, abs=1e-6)
        assert found.cosine.dtype == np.float32
        assert found.position.dtype == np.int64


def test_blocks_are_put_together_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    queries = unit_rows(rng.standard_normal((50, 8)).astype(np.float32))
    directions = unit_rows(rng.standard_normal((7, 8)).astype(np.float32))
    small = DirectionIndex(directions).nearest(queries, 2)
    monkeypatch.setattr(space, "FAISS_WORK", 0)
    monkeypatch.setattr(space, "COSINES_AT_ONCE", 7 * 3)  # three queries at a time, two at last
    large = DirectionIndex(directions).nearest(queries, 2)
    assert np.array_equal(large.position, small.position)
    assert large.cosine == pytest.approx(small.cosine, abs=1e-6)
