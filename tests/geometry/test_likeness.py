"""Whether data are like the reference: nothing is said of alike halves, and of others what differs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from saefilter.curate.calibrate import LEVELS
from saefilter.geometry.likeness import (
    LEAST_LIMIT,
    MOST_LIMIT,
    SCORE,
    UNLIKE,
    likeness_of,
    measures,
    places,
    summed,
    sums_of,
    unlikeness,
    warning,
)
from saefilter.stats.sparse_rows import SparseRows
from saefilter.toxic.toxicset import Likeness

D_SAE = 60
Rows = tuple[sparse.csr_matrix, np.ndarray, np.ndarray]
"""Pooled features `[n, D_SAE]`, scored tokens `[n]`, and proximities `[n]`."""


def some_rows(n: int, seed: int, *, longer: float = 1.0, rare: bool = False) -> Rows:
    """Rows of which each feature has a frequency of its own, from common to rare, or the other way."""
    rng = np.random.default_rng(seed)
    frequency = np.linspace(0.6, 0.02, D_SAE)
    active = rng.random((n, D_SAE)) < (frequency[::-1] if rare else frequency)
    features = sparse.csr_matrix(active * rng.random((n, D_SAE)))
    tokens = np.maximum(1, rng.lognormal(4, 0.5, n) * longer).astype(np.int64)
    return features, tokens, rng.normal(0.3, 0.1, n)


def like(rows: Rows, group: np.ndarray | None = None) -> Likeness:
    features, tokens, _ = rows
    group = np.arange(len(tokens)) if group is None else group
    return likeness_of(SparseRows.of(features), tokens, group, LEVELS)


def sums(rows: Rows, likeness: Likeness, scores: np.ndarray) -> dict[str, list[float]]:
    features, tokens, proximity = rows
    by_measure = measures(features, tokens, np.array(likeness.frequency))
    quantiles = np.quantile(scores, LEVELS).tolist()
    return sums_of(by_measure, likeness, LEVELS, (proximity, quantiles))


def told(rows: Rows, reference: Rows, likeness: Likeness | None = None) -> list[str]:
    """What is said of rows beside a reference."""
    likeness, n = likeness or like(reference), len(rows[1])
    means = summed([sums(rows, likeness, reference[2])], n)
    assert means is not None
    return unlikeness(means, likeness.mean, likeness.limit, n)


@pytest.mark.parametrize("n", [50, 300])
def test_nothing_is_said_of_alike_rows(n: int) -> None:
    for seed in range(0, 20, 2):
        assert told(some_rows(n, seed), some_rows(n, seed + 1)) == []


@pytest.mark.parametrize("n", [1, 2, 10])
def test_few_rows_are_judged_with_the_width_of_their_interval(n: int) -> None:
    reference = some_rows(300, 0)
    likeness = like(reference)
    said = [told(some_rows(n, seed), reference, likeness) for seed in range(1, 101)]
    assert sum(map(bool, said)) <= 5


def test_length_is_told_with_its_ratio() -> None:
    reference = some_rows(300, 0)
    (clause,) = told(some_rows(300, 1, longer=10), reference)
    assert clause.startswith("the rows are 10.")
    assert " times as long (" in clause
    own, other = (some_rows(300, 1, longer=10)[1].mean(), reference[1].mean())
    assert f"({own:,.0f} tokens, not {other:,.0f})" in clause
    (clause,) = told(some_rows(300, 1, longer=0.05), reference)
    assert clause.startswith("the rows are 0.04 times as long (3 tokens, not ")  # rounded down


def test_rare_and_common_features_and_their_number_are_told() -> None:
    reference = some_rows(300, 0)
    assert "the rows activate features that are rare there" in told(
        some_rows(300, 1, rare=True), reference
    )
    features, tokens, proximity = some_rows(300, 1)
    common = sparse.csr_matrix(features.toarray() * (np.arange(D_SAE) < 20))
    said = told((common, tokens, proximity), reference)
    assert "the rows activate hardly any feature that is not common there" in said
    assert any("times as many features are active in a row" in clause for clause in said)


def test_scores_that_lie_lower_are_told_and_higher_ones_are_not() -> None:
    reference = some_rows(300, 0)
    features, tokens, proximity = some_rows(300, 1)
    (clause,) = told((features, tokens, proximity - 0.2), reference)
    assert clause.startswith("the scores lie lower (")
    # these are what is looked for
    assert told((features, tokens, proximity + 0.2), reference) == []


def test_the_warning_names_the_remedy() -> None:
    assert warning([], None) is None
    text = warning(["the rows are 10 times as long", "and so on"], None)
    assert text is not None
    assert text.startswith(UNLIKE)
    assert "those of the toxic set" in text
    assert "by --reference" in text
    own = warning(["the rows are 10 times as long"], "good.jsonl")
    assert own is not None
    assert "those of good.jsonl" in own
    assert "more like the data" in own


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 40), seed=st.integers(0, 10_000), cut=st.integers(0, 40),
       longer=st.sampled_from([0.01, 1.0, 100.0]))  # fmt: skip
def test_sums_over_shards_are_those_over_all_in_any_order(
    n: int, seed: int, cut: int, longer: float
) -> None:
    reference = some_rows(60, 0)
    likeness = like(reference)
    rows = some_rows(n, seed, longer=longer)
    order = np.random.default_rng(seed).permutation(n)

    def part(which: np.ndarray) -> dict[str, list[float]]:
        features, tokens, proximity = rows
        chosen = (features[which], tokens[which], proximity[which])
        return sums(chosen, likeness, reference[2])

    whole = summed([part(np.arange(n))], n)
    assert whole is not None
    assert set(whole) == {"tokens", "active", "rarity", SCORE}
    parts = summed([part(order[:cut]), None, part(order[cut:])], n)
    for name, (place, value) in whole.items():
        assert 0 <= place <= 1
        assert parts is not None
        assert parts[name] == pytest.approx((place, value))


@settings(deadline=None)
@given(
    reference=st.lists(st.integers(0, 20), min_size=1, max_size=50),
    values=st.lists(st.integers(-3, 25), min_size=1, max_size=50),
)
def test_places_are_shares_of_the_reference_below(reference: list[int], values: list[int]) -> None:
    quantiles = np.quantile(reference, LEVELS).tolist()
    found = places(np.array(values, dtype=float), quantiles, LEVELS)
    assert ((found >= 0) & (found <= 1)).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(found[order]) >= 0).all()
    assert (found[np.array(values) < min(reference)] == 0).all()
    assert (found[np.array(values) > max(reference)] == 1).all()
    # the reference's own mean place is the middle, however many of it are equal
    own = places(np.array(reference, dtype=float), quantiles, LEVELS)
    assert abs(own.mean() - 0.5) < 1 / len(reference)


def test_no_order_of_the_reference_matters_and_the_limit_is_of_groups() -> None:
    rows = some_rows(120, 0)
    order = np.random.default_rng(1).permutation(120)
    features, tokens, proximity = rows
    one, other = like(rows), like((features[order], tokens[order], proximity[order]))
    assert one.quantiles == other.quantiles
    assert one.frequency == other.frequency
    assert one.mean == pytest.approx(other.mean)
    assert LEAST_LIMIT <= one.limit <= MOST_LIMIT
    # groups that are alike within lie farther apart by halves than rows by themselves
    group = np.repeat(np.arange(6), 20)
    factor = np.array([1, 1, 1, 9, 9, 9])[group]
    apart = like((features, tokens * factor, proximity), group)
    assert apart.limit > like((features, tokens * factor, proximity)).limit
    # of one group nothing is known
    assert like(rows, np.zeros(120, dtype=np.int64)).limit == MOST_LIMIT


def test_without_rows_or_sums_nothing_is_said() -> None:
    likeness = like(some_rows(60, 0))
    assert summed([], 5) is None
    assert summed([None, None], 5) is None
    empty = (sparse.csr_matrix((0, D_SAE)), np.zeros(0, dtype=np.int64), np.zeros(0))
    assert summed([sums(empty, likeness, np.linspace(0, 1, 60))], 0) is None


def test_rows_without_features_have_their_place() -> None:
    """A row may be of tokens at which no feature is active."""
    likeness = like(some_rows(60, 0))
    none = (sparse.csr_matrix((30, D_SAE)), np.full(30, 6), np.zeros(30))
    means = summed([sums(none, likeness, np.linspace(0.1, 1, 60))], 30)
    assert means is not None
    assert all(np.isfinite(pair).all() for pair in means.values())
    assert means["active"] == (0.0, 0.0)
    assert len(unlikeness(means, likeness.mean, 0.2, 30)) == 3
