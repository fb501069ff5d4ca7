"""The bound on missed rows, against the coins that it is about."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saefilter.stats.audit import Goal, found_in_audit, is_enough, most_found, recall_at_least


@pytest.mark.parametrize(("misses", "rate"), [(0, 0.2), (5, 0.3), (25, 0.2), (100, 0.05)])
def test_the_limit_is_the_largest_that_coins_allow(misses: int, rate: float) -> None:
    draws = np.random.default_rng(1)
    coins = draws.random((20_000, 3 * (misses + 1) + 40)) < rate
    # audited rows before number misses + 1 that is not
    unaudited = np.cumsum(~coins, axis=1)
    before = np.argmax(unaudited == misses + 1, axis=1) - misses
    limit = most_found(misses, rate)
    assert (before <= limit).mean() <= 0.05 + 0.005
    assert (before <= limit + 1).mean() > 0.05 - 0.005


def test_few_misses_cannot_be_vouched_for_by_a_thin_audit() -> None:
    assert most_found(5, 0.05) == -1
    assert not is_enough(np.arange(100.0), np.zeros(0), Goal(10, 0.95), 0.05)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.floats(0.01, 0.9), st.integers(0, 2**32 - 1))
def test_a_goal_is_whole_rows(count: int, recall: float, seed: int) -> None:
    goal = Goal(count, recall)
    assert 1 <= goal.needed <= count
    assert goal.needed + goal.misses == count
    assert goal.needed >= recall * count - 1e-6
    front = np.random.default_rng(seed).random(goal.needed)
    # what lies beyond the farthest of the front is no near row
    assert found_in_audit(front, front + 1, goal.needed) == 0
    assert found_in_audit(front[:-1], front + 1, goal.needed) == len(front)


def test_however_often_one_looks_it_is_wrong_in_one_of_twenty() -> None:
    """Fronts grow row by row, and each is asked about; the audit's rows are where the model has them."""
    goal, rate, wrong, tries = Goal(100, 0.9), 0.3, 0, 400
    for seed in range(tries):
        draws = np.random.default_rng(seed)
        distance = draws.normal(size=1000)
        order = np.argsort(distance + draws.normal(size=1000) * 1.5)
        nearest = np.argsort(distance)[: goal.count]
        audited = draws.random(1000) < rate
        for place in range(goal.needed, 1001, 10):
            front, tail = order[:place], order[place:]
            if is_enough(distance[front], distance[tail[audited[tail]]], goal, rate):
                read = audited.copy()
                read[front] = True
                wrong += read[nearest].sum() < goal.needed
                break
    assert wrong / tries <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / tries)


def test_the_recall_of_a_budget_is_a_lower_bound() -> None:
    wrong, tries, bounds = 0, 400, []
    for seed in range(tries):
        draws = np.random.default_rng(seed)
        distance = draws.normal(size=1000)
        order = np.argsort(distance + draws.normal(size=1000))
        front, tail = order[:300], order[300:]
        audited = tail[draws.random(700) < 0.3]
        bound = recall_at_least(distance[front], distance[audited], 100, 0.3)
        nearest = np.argsort(distance)[:100]
        wrong += bound > np.isin(nearest, front).mean() + 1e-9
        bounds.append(bound)
    assert wrong / tries <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / tries)
    assert np.mean(bounds) > 0.5, "a bound that says nothing is always right"
    assert recall_at_least(np.zeros(0), np.zeros(0), 5, 0.3) == 0
