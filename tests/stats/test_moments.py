from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats
from sklearn.metrics import roc_auc_score

from saefilter.stats.moments import (
    FeatureStatistics,
    GroupedMoments,
    column_auroc,
    discoveries,
    feature_statistics,
    holm,
)
from saefilter.stats.sparse_rows import SparseRows


def random_features(
    seed: int, n: int = 80, d_sae: int = 30
) -> tuple[sparse.csr_matrix, np.ndarray]:
    rng = np.random.default_rng(seed)
    dense = rng.exponential(size=(n, d_sae)) * (rng.random((n, d_sae)) < 0.3)
    dense = np.round(dense, 1)  # ties
    return sparse.csr_matrix(dense), rng.permutation(n) < n // 3


def statistics_of(features: sparse.csr_matrix, toxic: np.ndarray) -> FeatureStatistics:
    """By way of groups, in slabs, as curation does it."""
    rows = SparseRows(features.shape[1], memory_bytes=2000)
    for start in range(0, len(toxic), 17):
        rows.append(features[start : start + 17])
    group = np.arange(len(toxic)) % 3 * 2 + toxic
    moments = GroupedMoments.of(rows, group, 6, toxic.astype(float))
    side = np.arange(6) % 2 == 1
    return feature_statistics(moments.over(side), moments.over(~side))


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_statistics_equal_those_of_scipy_and_sklearn(seed: int) -> None:
    features, toxic = random_features(seed)
    found = statistics_of(features, toxic)
    area = column_auroc(features, toxic)
    dense = features.toarray()
    for feature in np.flatnonzero(dense.std(axis=0) > 0):
        r, p = stats.pearsonr(dense[:, feature], toxic)
        assert found.correlation[feature] == pytest.approx(r)
        assert found.p_value[feature] == pytest.approx(p, abs=1e-12)
        assert area[feature] == pytest.approx(roc_auc_score(toxic, dense[:, feature]))
        one, two = dense[toxic, feature], dense[~toxic, feature]
        smd = (one.mean() - two.mean()) / np.sqrt((one.var() + two.var()) / 2)
        assert found.effect_size[feature] == pytest.approx(smd)
        assert found.frequency[feature] == pytest.approx((dense[:, feature] > 0).mean())


def test_silent_features_are_neutral() -> None:
    features = sparse.csr_matrix((10, 3))
    found = statistics_of(features, np.arange(10) < 5)
    assert np.all(column_auroc(features, np.arange(10) < 5) == 0.5)
    assert np.all(found.p_value == 1)
    assert np.all(found.effect_size == 0)


def test_discoveries_are_benjamini_hochberg() -> None:
    p_values = np.array([0.001, 0.012, 0.03, 0.6, 0.9])
    assert discoveries(p_values, 0.05).tolist() == [True, True, True, False, False]
    assert discoveries(np.array([0.04, 0.6, 0.7, 0.8]), 0.05).sum() == 0


def test_holm_holds_the_chance_of_any_false_one() -> None:
    assert holm(np.array([])).tolist() == []
    assert holm(np.array([0.03])).tolist() == [0.03]
    # smallest times 3, next times 2, and never below one before: Holm 1979
    np.testing.assert_allclose(holm(np.array([0.02, 0.9, 0.01])), [0.04, 0.9, 0.03])
    np.testing.assert_allclose(holm(np.array([0.5, 0.4])), [0.8, 0.8])
