"""The diagnosis on geometry that is known: it must tell bad data from good, and be quiet otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats

from saefilter.diagnose.features import (
    Options,
    diagnose,
    draw_matched,
    frequency_bins,
    proximity_to,
)
from saefilter.geometry.space import unit_rows
from saefilter.geometry.spillover import spillover, spillover_rows
from saefilter.rows.groups import Units

D_SAE, D_MODEL, N_TOXIC = 400, 32, 20
TOXIC = np.arange(N_TOXIC)
NEAR = np.arange(N_TOXIC, 3 * N_TOXIC)
"""Features whose directions lie near toxic ones."""
OPTIONS = Options(data_features=40, toxic_features=N_TOXIC, permutations=300, bootstrap=50)


@pytest.fixture(scope="module")
def directions() -> np.ndarray:
    rng = np.random.default_rng(0)
    found = rng.normal(size=(D_SAE, D_MODEL)).astype("f4")
    found[NEAR] = found[np.repeat(TOXIC, 2)] + 0.6 * found[NEAR]
    return unit_rows(found)


def rows(seed: int, louder: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """150 data rows, in which some features are louder, and 150 reference rows."""
    rng = np.random.default_rng(seed)
    dense = rng.exponential(size=(300, D_SAE)) * (rng.random((300, D_SAE)) < 0.3)
    is_data = np.arange(300) < 150
    dense[:150, louder] *= 3
    return sparse.csr_matrix(dense.astype("f4")), is_data


@pytest.mark.parametrize("seed", range(3))
def test_data_that_fire_near_toxic_features_are_found(directions: np.ndarray, seed: int) -> None:
    found = diagnose(*rows(seed, NEAR), directions, TOXIC, OPTIONS)
    assert found.closer(found.p_value)
    assert found.chance.p_value < 0.01
    assert found.interval[0] > 0.1
    assert np.isin(found.data_features, NEAR).mean() > 0.75
    assert found.in_set == 0


@pytest.mark.parametrize("seed", range(3))
def test_data_of_another_topic_are_not_closer(directions: np.ndarray, seed: int) -> None:
    topic = np.arange(200, 240)
    found = diagnose(*rows(seed, topic), directions, TOXIC, OPTIONS)
    assert found.significant > 10
    assert found.told_apart
    assert not found.closer(found.p_value)


@pytest.mark.parametrize("seed", range(4))
def test_two_halves_of_one_dataset_do_not_differ(directions: np.ndarray, seed: int) -> None:
    found = diagnose(*rows(seed, np.array([], dtype=int)), directions, TOXIC, OPTIONS)
    assert found.significant <= 2
    assert not found.closer(found.p_value)


def test_proximity_is_to_the_nearest_other_toxic_feature(directions: np.ndarray) -> None:
    proximity, nearest = proximity_to(directions, TOXIC)
    cosines = directions @ directions[TOXIC].T
    cosines[TOXIC, TOXIC] = -2
    np.testing.assert_allclose(proximity, cosines.max(axis=1), atol=1e-5)
    assert np.array_equal(nearest, TOXIC[cosines.argmax(axis=1)])
    alone, _ = proximity_to(directions, TOXIC[:1])
    assert alone[0] == 0  # there is no other


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_matched_draws_fire_as_often(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frequency = rng.random(300) * (rng.random(300) < 0.9)
    alive = np.flatnonzero(frequency > 0)
    bins = frequency_bins(frequency, alive)
    chosen = rng.choice(alive, 30, replace=False)
    drawn = draw_matched(chosen, bins, 20, rng)
    for one in drawn:
        assert len(set(one.tolist())) == 30
        assert sorted(bins[one]) == sorted(bins[chosen])


def test_spillover_is_the_mean_push_and_orders_by_it(directions: np.ndarray) -> None:
    features, is_data = rows(0, NEAR[:2])
    pushes = spillover_rows(features, directions @ directions[TOXIC].T)
    a = features[3].toarray().ravel()
    assert pushes[3, 5] == pytest.approx((a @ (directions @ directions[5])) / a.sum(), abs=1e-5)
    found = spillover(
        pushes[is_data], pushes[~is_data], TOXIC, {0: "loud"},
        groups=(np.arange(150), np.arange(150)),
        draws=OPTIONS.bootstrap, seed=OPTIONS.seed,
    )  # fmt: skip
    loud = next(one for one in found if one.feature == 0)  # what lies next to the louder ones
    assert loud.label == "loud"
    assert loud.low < loud.push < loud.high
    assert loud.push > np.median([one.push for one in found])
    assert [one.push for one in found] == sorted((one.push for one in found), reverse=True)


TOPICS, OF_TOPIC = 20, 20
"""Harmless topics, each with features of its own that fire together and lie near each other."""
AMONG = np.arange(0, D_SAE, 2 * OF_TOPIC)
"""Toxic features, one of every second topic."""
QUICK = Options(data_features=40, toxic_features=N_TOXIC, permutations=99, bootstrap=2)


def topical(seed: int, rows_of_group: int) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Harmless rows, `[240, 400]`, their groups, and directions; a group has a topic of its own draw."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(TOPICS, D_MODEL))
    directions = np.repeat(centres, OF_TOPIC, axis=0) + 0.7 * rng.normal(size=(D_SAE, D_MODEL))
    group = np.arange(240) // rows_of_group
    topic = rng.integers(0, TOPICS, group[-1] + 1)[group]
    own = topic[:, None] == np.arange(D_SAE)[None] // OF_TOPIC
    fires = rng.random((240, D_SAE)) < np.where(own, 0.9, 0.03)
    features = sparse.csr_matrix(rng.exponential(size=fires.shape) * fires)
    return features, group, unit_rows(directions.astype("f4"))


def chance_of_matched(features: sparse.csr_matrix, chosen: np.ndarray, near: np.ndarray) -> float:
    """The p-value by draws of features that fire as often, as if features did not fire together."""
    frequency = np.asarray((features > 0).mean(axis=0)).ravel()
    bins = frequency_bins(frequency, np.flatnonzero(frequency > 0))
    drawn = draw_matched(chosen, bins, 99, np.random.default_rng(0))
    return float((1 + (near[drawn].mean(axis=1) >= near[chosen].mean()).sum()) / 100)


@pytest.mark.parametrize("rows_of_group", [1, 6])
def test_p_values_of_harmless_splits_are_uniform(rows_of_group: int) -> None:
    p_chance, p_both, p_matched = [], [], []
    for seed in range(120):
        features, group, directions = topical(seed, rows_of_group)
        drawn = np.random.default_rng(seed + 1000).permutation(group[-1] + 1)[group]
        is_data = drawn < (group[-1] + 1) // 2
        near, _ = proximity_to(directions, AMONG)
        found = diagnose(
            features, is_data, directions, AMONG, QUICK, Units.of(is_data, group, np.arange(240))
        )
        assert found.p_value is not None
        p_chance.append(found.chance.p_value)
        p_both.append(found.p_value)
        p_matched.append(chance_of_matched(features, found.data_features, near))
    assert stats.kstest(p_chance, "uniform").pvalue > 0.05
    assert np.mean(np.array(p_both) < 0.05) <= 0.05
    # what stood here before: features drawn one by one, which fire and lie in clusters in truth
    assert stats.kstest(p_matched, "uniform").pvalue < 0.01


def test_one_harmless_topic_against_another_is_not_closer() -> None:
    called = apart = 0
    for seed in range(20):
        features, _, directions = topical(seed, 120)
        is_data = np.arange(240) < 120
        found = diagnose(features, is_data, directions, AMONG, QUICK)
        apart += found.told_apart
        called += found.closer(found.p_value)
    assert apart >= 18  # the others drew one topic twice
    assert called <= 2


def test_too_few_groups_give_no_p_value(directions: np.ndarray) -> None:
    features, is_data = rows(0, NEAR)
    four = np.arange(300) // 40 + 10 * is_data  # at most 4 of either
    found = diagnose(
        features, is_data, directions, TOXIC, QUICK, Units.of(is_data, four, np.arange(300))
    )
    assert found.p_value is None
    assert not found.told_apart
    assert not found.closer(found.p_value)
