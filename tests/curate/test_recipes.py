"""The paper's recipe beside the default one."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from saefilter.curate.assemble import fitted_set
from saefilter.curate.contrast import Contrast
from saefilter.curate.options import CurationOptions
from saefilter.errors import SaefilterError
from saefilter.geometry.scorer import Scorer
from saefilter.geometry.space import unit_rows
from saefilter.stats.sparse_rows import SparseRows

ROWS, D_SAE, D_MODEL, TOXIC = 200, 50, 16, 12


def contrast() -> Contrast:
    """Rows whose toxicity the first features tell, the first one best."""
    rng = np.random.default_rng(0)
    toxic = np.arange(ROWS) % 2 == 0
    dense = rng.exponential(size=(ROWS, D_SAE))
    dense[:, :TOXIC] += toxic[:, None] * np.linspace(3, 1, TOXIC)
    features = SparseRows.of(sparse.csr_matrix(dense.astype(np.float32)))
    residual = rng.normal(size=(ROWS, D_MODEL)).astype(np.float32)
    return Contrast(features, residual, toxic, np.zeros(ROWS, dtype=np.int64))


def encoder() -> SimpleNamespace:
    directions = unit_rows(
        np.random.default_rng(1).normal(size=(D_SAE, D_MODEL)).astype(np.float32)
    )
    sae = SimpleNamespace(
        directions=lambda: directions, d_model=D_MODEL, d_sae=D_SAE, fingerprint="f" * 64
    )
    preset = SimpleNamespace(model="m", sae="s", name="n")
    return SimpleNamespace(sae=sae, preset=preset, hook="h", revision=None)


def test_the_papers_recipe_is_the_most_correlated_features_unweighted_by_the_nearest() -> None:
    data, reader = contrast(), encoder()
    options = CurationOptions(recipe="paper", top=8)
    toxic_set = fitted_set(reader, data, name="t", options=options, sources=[])
    dense = data.features.tocsr().toarray()
    correlation = [np.corrcoef(dense[:, i], data.toxic)[0, 1] for i in range(D_SAE)]
    expected = np.argsort(correlation)[::-1][:8]
    assert {f.index for f in toxic_set.features} == set(expected.tolist())
    assert {(f.side, f.weight) for f in toxic_set.features} == {("toxic", 0.0)}
    assert toxic_set.method["recipe"] == "paper"
    scorer = Scorer(toxic_set, reader.sae.directions())
    assert scorer.metric.name == "nearest"
    directions = reader.sae.directions()
    nearest = (directions @ directions[expected].T).max(axis=1)
    scored = scorer.score(data.features.tocsr(), data.residual)
    assert scored.proximity == pytest.approx(dense @ nearest / dense.sum(axis=1), rel=1e-5)


def test_what_the_papers_recipe_does_not_do_is_refused() -> None:
    for given in ({"fdr": 0.1}, {"screen_p": 0.5}, {"max_density": 0.9}, {"prune_cosine": 1.0}):
        with pytest.raises(SaefilterError, match="has no effect with --recipe paper"):
            CurationOptions(recipe="paper", **given)
    with pytest.raises(SaefilterError, match="--recipe 'best' is not known"):
        CurationOptions(recipe="best")


def test_where_nothing_is_more_active_in_toxic_rows_there_is_no_set() -> None:
    with pytest.raises(SaefilterError, match="no feature is more active in toxic rows"):
        fitted_set(
            encoder(), replace(contrast(), toxic=np.ones(ROWS, dtype=bool)), name="t",
            options=CurationOptions(recipe="paper"), sources=[],
        )  # fmt: skip
