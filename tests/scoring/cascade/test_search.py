"""Which rows a cascade reads, on distances that are all known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from saefilter.scoring.cascade.predict import Prediction
from saefilter.scoring.cascade.search import Outcome, highest_rate, search
from saefilter.scoring.job import UnusableInput
from saefilter.stats.audit import Goal

N = 3000


@dataclass(frozen=True)
class Held:
    """What a cheap reader saw, in memory."""

    every: NDArray[np.float32]
    known: NDArray[np.bool_]

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.every[rows]

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        yield self.every[:1000]
        yield self.every[1000:]


def hunt(
    seen: NDArray[np.floating],
    distance: NDArray[np.float64],
    goal: Goal,
    seed: int = 0,
    budget: float | None = None,
    known: NDArray[np.bool_] | None = None,
) -> tuple[Outcome, list[str], float]:
    """What was found, the steps, and the recall in truth."""
    every = np.asarray(seen, dtype=np.float32).reshape(len(distance), -1)
    known = np.ones(len(distance), dtype=np.bool_) if known is None else known
    steps, asked = search(Held(every, known), goal, budget=budget, seed=seed), []
    read = np.zeros(len(distance), dtype=np.bool_)
    answer = None
    while True:
        try:
            ask = steps.send(answer) if answer is not None else next(steps)
        except StopIteration as end:
            found: Outcome = end.value
            break
        assert not read[ask.rows].any(), "no row is asked for twice"
        assert np.array_equal(ask.rows, np.unique(ask.rows))
        read[ask.rows] = True
        asked.append(ask.name)
        answer = distance[ask.rows]
    assert np.array_equal(found.read, read)
    nearest = np.argsort(distance, kind="stable")[: goal.count]
    return found, asked, float(read[nearest].mean())


def made(kind: str, draws: np.random.Generator, n: int = N) -> tuple[NDArray, NDArray]:
    """What is seen, and distances."""
    distance = draws.normal(size=n)
    if kind == "alike":
        return distance + draws.normal(size=n) * 0.3, distance
    if kind == "so so":
        return distance + draws.normal(size=n), distance
    if kind == "blind to some":  # every seventh near row looks like the farthest
        seen = distance + draws.normal(size=n) * 0.2
        near = distance < np.quantile(distance, 0.2)
        seen[near & (draws.random(n) < 1 / 7)] = distance.max()
        return seen, distance
    if kind == "ties":
        distance = np.round(distance * 2) / 2
        return distance + draws.normal(size=n) * 0.5, distance
    return draws.normal(size=n), distance


@pytest.mark.parametrize("kind", ["alike", "so so", "blind to some", "ties", "unrelated"])
def test_the_recall_is_what_was_promised(kind: str) -> None:
    """In at least 95 of 100, whatever the cheap reader sees, also where it never sees some near rows."""
    goal, tries, short, read = Goal(300, 0.9), 200, 0, []
    for seed in range(tries):
        found, _, recall = hunt(*made(kind, np.random.default_rng(seed)), goal, seed)
        short += recall < goal.recall
        read.append(found.read.mean())
        assert found.reached
    assert short / tries <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / tries)
    share = float(np.mean(read))
    expected = {"alike": (0.1, 0.4), "unrelated": (0.85, 1.0)}.get(kind, (0.1, 0.95))
    assert expected[0] < share < expected[1], share


def test_a_budget_is_kept_and_says_what_it_reached() -> None:
    tries, wrong, bounds = 100, 0, []
    for seed in range(tries):
        seen, distance = made("so so", np.random.default_rng(seed))
        found, _, recall = hunt(seen, distance, Goal(300, 0.95), seed, budget=0.4)
        assert found.read.sum() <= 0.4 * N
        if not found.reached:
            bounds.append(found.recall)
            wrong += found.recall > recall
    assert bounds, "the budget was too large to be spent"
    assert wrong / tries <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / tries)
    assert np.mean(bounds) > 0.3


def test_equal_seeds_ask_for_equal_rows() -> None:
    seen, distance = made("so so", np.random.default_rng(3))
    first, again = (hunt(seen, distance, Goal(300, 0.9), seed=7) for _ in range(2))
    assert np.array_equal(first[0].read, again[0].read)
    assert first[1] == again[1]
    other, _, _ = hunt(seen, distance, Goal(300, 0.9), seed=8)
    assert not np.array_equal(first[0].read, other.read)


def test_rows_that_the_cheap_reader_could_not_see_are_read() -> None:
    draws = np.random.default_rng(0)
    seen, distance = made("alike", draws)
    known = draws.random(N) > 0.02
    seen = np.where(known, seen, 1e4)
    found, _, _ = hunt(seen, distance, Goal(300, 0.9), known=known)
    assert found.read[~known].all()
    assert found.unread > N / 2
    found, _, _ = hunt(seen, distance, Goal(300, 0.9), known=np.arange(N) < 600, budget=0.3)
    blind = found.guess[(np.arange(N) >= 600) & ~found.read]
    assert np.ptp(blind) == 0, "nothing was seen of them, and so the mean is their estimate"
    assert abs(blind[0]) < 1


@pytest.mark.parametrize("n", [1, 2, 5, 150, 250])
def test_few_rows_are_all_read(n: int) -> None:
    seen, distance = made("alike", np.random.default_rng(n), n)
    found, _, recall = hunt(seen, distance, Goal(max(1, n // 10), 0.95))
    assert found.read.all()
    assert (found.recall, recall) == (1.0, 1.0)


def test_a_reader_that_sees_the_same_of_all_rows_spares_none() -> None:
    distance = np.random.default_rng(0).normal(size=N)
    found, _, _ = hunt(np.zeros(N), distance, Goal(300, 0.95))
    assert found.read.mean() > 0.9
    assert found.correlation == 0


def test_intervals_of_unread_rows_hold_nine_of_ten() -> None:
    inside, of = 0, 0
    for seed in range(40):
        seen, distance = made("so so", np.random.default_rng(seed))
        found, _, _ = hunt(seen, distance, Goal(300, 0.9), seed)
        unread = ~found.read
        off = distance[unread] - found.guess[unread]
        inside += int(((off >= found.below) & (off <= found.above)).sum())
        of += int(unread.sum())
    assert 0.87 < inside / of < 0.95


def test_errors_are_of_guesses_without_the_row() -> None:
    """Against fits that leave each row out in turn."""
    draws = np.random.default_rng(2)
    vectors = draws.normal(size=(40, 6)).astype(np.float32)
    distance = vectors @ draws.normal(size=6) + draws.normal(size=40)
    whole = Prediction.fit(vectors, distance)
    errors = []
    scaled = (vectors.astype(np.float64) - whole.center) / whole.scale
    penalties = {}
    for penalty in (10.0**power for power in range(-2, 7)):
        errors = []
        for left_out in range(40):
            rest = np.arange(40) != left_out
            design = np.column_stack([scaled[rest], np.ones(39)])
            shrink = np.diag([penalty] * 6 + [0.0])
            weights = np.linalg.solve(design.T @ design + shrink, design.T @ distance[rest])
            errors.append(distance[left_out] - np.append(scaled[left_out], 1) @ weights)
        penalties[penalty] = np.array(errors)
    best = min(penalties.values(), key=lambda errors: float(np.mean(errors**2)))
    assert whole.errors == pytest.approx(best, abs=1e-8)


def test_the_rows_drawn_at_random_are_like_all() -> None:
    """Near rows, most of which the front reads, are drawn as often as far ones."""
    of_near, of_all = [], []
    for seed in range(60):
        seen, distance = made("alike", np.random.default_rng(seed))
        found, _, _ = hunt(seen, distance, Goal(300, 0.9), seed)
        assert found.unread
        assert found.sampled.sum() == found.pilot + found.audit
        assert found.read[found.sampled].all()
        of_near.append(found.sampled[np.argsort(distance)[:300]].mean())
        of_all.append(found.sampled.mean())
    error = np.std(of_near) / np.sqrt(len(of_near))
    assert abs(np.mean(of_near) - np.mean(of_all)) < 4 * error


@pytest.mark.parametrize(("n", "budget"), [(100, 0.1), (300, 0.0334), (1000, 0.012)])
def test_a_small_budget_ends_and_is_kept(n: int, budget: float) -> None:
    """Whatever the coins say: an audit that is larger than what is left is none."""
    for seed in range(150):
        seen, distance = made("alike", np.random.default_rng(seed), n)
        found, _, recall = hunt(seen, distance, Goal(n // 10, 0.95), seed, budget=budget)
        assert found.read.sum() <= budget * n
        assert found.recall <= recall + 1e-9


def test_an_audit_is_not_drawn_beyond_what_is_left() -> None:
    rate = highest_rate(1000, 50)
    sizes = (np.random.default_rng(0).random((4000, 1000)) < rate).sum(axis=1)
    assert (sizes > 50).mean() < 0.003
    assert 0.02 < rate < 0.05
    assert highest_rate(50, 50) == 1.0


@pytest.mark.parametrize(("n", "budget"), [(10, 0.0001), (10, 0.3), (1000, 0.005), (5, 0.9)])
def test_a_budget_of_hardly_a_row_is_refused(n: int, budget: float) -> None:
    seen, distance = made("alike", np.random.default_rng(0), n)
    with pytest.raises(UnusableInput, match="too few to learn from"):
        hunt(seen, distance, Goal(1, 0.95), budget=budget)
    known = np.zeros(n, dtype=np.bool_)
    with pytest.raises(UnusableInput, match="too few to learn from"):
        hunt(seen, distance, Goal(1, 0.95), budget=budget, known=known)
