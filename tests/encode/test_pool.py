"""Pooling: sparse on a CPU and dense on a GPU give the same, and both what a loop gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sae import D_MODEL, D_SAE, write_sae

from saefilter.encode import pool, sae
from saefilter.encode.pool import PoolOptions
from saefilter.encode.sae import load_sae

COUNTS = np.array([3, 0, 400, 1, 0, 150])


@pytest.mark.parametrize("how", ["mean", "max"])
@pytest.mark.parametrize("architecture", ["topk", "jumprelu", "gated"])
def test_sparse_and_dense_are_the_same(tmp_path: Path, architecture: str, how: str) -> None:
    config = {"k": 7} if architecture == "topk" else {}
    loaded = load_sae(write_sae(tmp_path / "sae", architecture, **config))
    tokens = torch.randn(int(COUNTS.sum()), D_MODEL, generator=torch.Generator().manual_seed(2))
    rising = torch.linspace(-1, 1, D_SAE) / loaded.w_dec.norm(dim=-1)
    weights = torch.stack([rising, rising.relu()], dim=1)
    options = PoolOptions(how, weights, count_fired=True)
    with torch.inference_mode():
        sparse = pool._pool_sparse(loaded, tokens, COUNTS, options)
        dense = pool._pool_dense(loaded, tokens, COUNTS, options)
        activations = loaded.dense(tokens).numpy()
    owner = np.repeat(np.arange(len(COUNTS)), COUNTS)
    expected = np.zeros((len(COUNTS), D_SAE), dtype=np.float32)
    for window in np.flatnonzero(COUNTS):
        own = activations[owner == window]
        expected[window] = own.max(axis=0) if how == "max" else own.sum(axis=0)
    for found in (sparse, dense):
        np.testing.assert_allclose(found.features.toarray(), expected, atol=1e-3, rtol=1e-4)
        np.testing.assert_allclose(found.token_scores, activations @ weights.numpy(), atol=1e-4)
        assert found.n_active == np.count_nonzero(activations)
        np.testing.assert_array_equal(found.fired, np.count_nonzero(activations, axis=0))
    np.testing.assert_allclose(sparse.residual, dense.residual, atol=1e-4)


@given(
    st.lists(
        st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0]), min_size=12, max_size=12),
        min_size=1, max_size=6,
    ),
    st.integers(1, 12),
)  # fmt: skip
@settings(deadline=None)
def test_topk_without_a_sort_takes_what_a_sort_takes(rows: list[list[float]], k: int) -> None:
    pre = torch.tensor(rows)
    active = sae._topk_on_cpu(pre, k)
    largest = torch.topk(pre, k, dim=-1).values.clamp(min=0)
    for token in range(len(rows)):
        own = active.value[active.token == token]
        assert sorted(own.tolist()) == sorted(v for v in largest[token].tolist() if v > 0)
        assert torch.equal(pre[token, active.feature[active.token == token]], own)
    assert active.token.tolist() == sorted(active.token.tolist())
