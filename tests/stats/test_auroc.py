from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from saefilter.stats.auroc import auroc, auroc_interval, jaccard, wilson

MASKS = st.integers(1, 30).flatmap(
    lambda n: st.tuples(*(st.lists(st.booleans(), min_size=n, max_size=n).map(np.array),) * 2)
)


@settings(deadline=None)  # the first one imports scikit-learn
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 3)), min_size=2).filter(
        lambda rows: len({bad for bad, _, weight in rows if weight}) == 2
    )
)
def test_auroc_is_that_of_scikit_learn_with_ties_and_weights(
    rows: list[tuple[bool, int, int]],
) -> None:
    bad, value, weight = (np.array(column) for column in zip(*rows, strict=True))
    found = auroc(bad, value.astype(float), weight.astype(float))
    assert found == pytest.approx(roc_auc_score(bad, value, sample_weight=weight))


def test_auroc_of_what_every_strategy_can_give() -> None:
    bad = np.array([True, True, False, False])
    assert auroc(bad, np.array([3.0, 2, 1, -np.inf])) == 1
    assert auroc(bad, np.zeros(4)) == 0.5
    assert np.isnan(auroc(np.ones(4, dtype=bool), np.arange(4.0)))
    assert np.isnan(auroc(np.zeros(0, dtype=bool), np.zeros(0)))


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    truth, hits = 0.7602, 0  # of normal values one deviation apart: Phi(1 / sqrt 2)
    for _ in range(100):
        bad = np.arange(120) < 40
        low, high = auroc_interval(bad, rng.normal(size=120) + bad, draws=200, seed=1)
        hits += low <= truth <= high
    assert 88 <= hits <= 99


def test_equal_seeds_draw_equal_rows() -> None:
    bad, value = np.arange(50) % 3 == 0, np.random.default_rng(2).normal(size=50)
    one = auroc_interval(bad, value, draws=100, seed=5)
    assert one == auroc_interval(bad, value, draws=100, seed=5)
    assert one != auroc_interval(bad, value, draws=100, seed=6)


@given(st.integers(0, 40), st.integers(1, 40))
def test_wilson_is_that_of_scipy(found: int, of: int) -> None:
    found = min(found, of)
    expected = binomtest(found, of).proportion_ci(0.95, "wilson")
    assert wilson(found, of) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_of_nothing_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@given(MASKS)
def test_jaccard_is_symmetric_and_one_for_itself(masks: tuple[np.ndarray, np.ndarray]) -> None:
    one, other = masks
    assert jaccard(one, other) == jaccard(other, one)
    assert jaccard(one, one) == 1
    assert 0 <= jaccard(one, other) <= 1
    assert (jaccard(one, other) == 1) == np.array_equal(one, other)


@pytest.mark.parametrize("value", [-np.inf, np.inf, 0.0])
def test_equal_values_tie_also_where_they_are_infinite(value: float) -> None:
    bad = np.array([True, False, True, False])
    for order in ([0, 1, 2, 3], [1, 0, 3, 2]):
        assert auroc(bad[order], np.full(4, value)) == 0.5
