"""Which rows the model reads, step by step, until enough of the nearest ones are among them.

    pilot    rows drawn at random; what a cheap reader saw of them and what the model says teach a guess
    front    the rows that are nearest by the guess, which they teach anew
    audit    of all but the pilot each with the same chance; nothing that is learnt of them changes what is read
    front    grows in the order of the guess, until the audit finds hardly a near row beyond it

A generator that asks for rows and is told their distances: whoever runs it reads them wherever, and a
simulation has them all. With equal seed, vectors and distances it asks for the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from saefilter.scoring.cascade.plan import (
    RATES,
    highest_rate,
    pilot_size,
    plan_audit,
    room_of,
)
from saefilter.scoring.cascade.predict import Prediction
from saefilter.scoring.job import UnusableInput
from saefilter.stats.audit import Goal, found_in_audit, is_enough, most_found, recall_at_least

TEACHING_ROWS, MORE = 4000, 1.3
"""The most that teach it, an even choice of those that are known; and by how much these must have grown to
teach it anew."""
LEAST_BUDGET = 10
"""Rows: with fewer there is nothing to learn from and nothing left to read by it."""
STEP = 0.02
"""Of all rows, by which the front grows until it is enough."""
COVERAGE = 0.9
"""Of the intervals of rows that were not read."""
INTERVAL_ROWS = 40
"""Audited rows beyond the front that an interval needs; with fewer the pilot's count too."""


class Seen(Protocol):
    """What a cheap reader saw of every row that can be scored: a vector each."""

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where it saw something, `[n]`."""

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of some rows, which ascend, `[n_rows, d]`."""

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """The vectors of all rows, in order, so many at a time as are at hand."""


@dataclass(frozen=True)
class Ask:
    """Rows that the model has to read."""

    name: str
    """Of the step: pilot, sweep, audit, front-00, ..."""
    rows: NDArray[np.int64]
    """Places among the rows that can be scored, ascending."""


def small_budget(most: int, n: int) -> UnusableInput:
    """The error for so few rows that may be read that nothing is learnt of them."""
    least = math.ceil(1000 * LEAST_BUDGET / n) / 1000
    return UnusableInput(
        f"the budget lets the model read {most:,} of {n:,} rows, too few to learn from which are near",
        remedy=f"Use --budget {least:g} or more, or none." if least < 1 else "Leave --budget out.",
    )


def rows_of_budget(budget: float | None, n: int) -> int:
    """How many of `n` rows may be read. Raises UnusableInput where nothing comes of so few."""
    most = n if budget is None else min(n, int(budget * n + 1e-9))
    if most < min(n, LEAST_BUDGET):
        raise small_budget(most, n)
    return most


@dataclass(frozen=True)
class Outcome:
    """How a search ended. Arrays are of the rows that can be scored, `[n]`."""

    goal: Goal
    recall: float
    """Share of the wanted rows that was read, at least, with the goal's confidence."""
    reached: bool
    """Whether that is the recall that was asked for; False where a budget ended it before."""
    pilot: int
    audit: int
    """Rows drawn at random; the audit's among those of the front too, which are read anyway."""
    rate: float
    """Of the audit, among all but the pilot's."""
    front: int
    """Rows read by the order, audited ones among them not counted."""
    near_in_audit: int
    """Audited rows beyond the front that are as near as its last needed row."""
    allowed: int
    """So many might be."""
    correlation: float
    """Spearman's, of guesses with distances, over the pilot's rows, each guessed without it; not below 0."""
    read: NDArray[np.bool_]
    sampled: NDArray[np.bool_]
    """Pilot and audit: each row with the same chance."""
    guess: NDArray[np.float64]
    """Distances as guessed."""
    below: float
    above: float
    """To be added to the guess of a row that was not read: the ends of its interval."""
    interval_rows: int
    """Of rows whose distance is known that these rest on."""

    @property
    def unread(self) -> int:
        return int(np.count_nonzero(~self.read))


Search = Generator[Ask, NDArray[np.float64], Outcome]
"""Asks, is sent the distances of the rows in their order, and returns what was found."""


def search(
    seen: Seen,
    goal: Goal,
    *,
    budget: float | None = None,
    seed: int = 0,
    begun: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> Search:
    """Find the nearest rows. Rows of which the cheap reader saw nothing are read first. `budget`: no more than
    this share of the rows is read. `begun`: a pilot that was drawn at random before, and what was read by a
    guess that it taught (see exits.py), the front's first rows. Raises UnusableInput for a budget that is too
    small."""
    n = len(seen.known)
    most = rows_of_budget(budget, n)
    hunt = _Hunt(seen, goal, most)
    draws = np.random.default_rng([seed, n])
    if begun is None:
        begun = np.sort(draws.permutation(n)[: pilot_size(n, most)]), np.zeros(0, np.int64)
    pilot, swept = begun
    hunt.random[pilot] = True
    yield from hunt.ask("pilot", pilot)
    hunt.front[swept] = True
    yield from hunt.ask("sweep", swept)
    if np.count_nonzero(hunt.random & seen.known) < 3 or len(pilot) == n:
        if most < n:
            raise small_budget(most, n)
        return (yield from hunt.read_all())
    hunt.fit()
    if len(swept) < goal.count:
        yield from hunt.grow(min(goal.count - len(swept), hunt.left // 2))
        hunt.fit()
    plan = plan_audit(hunt.guess[hunt.order], hunt.errors, hunt.known_front, goal, hunt.left)
    if plan is None and budget is None:
        return (yield from hunt.read_all())
    rate, depth = plan or (min(RATES[-1], hunt.left / 3 / max(1, len(hunt.order))), 0)
    hunt.draw_audit(min(rate, highest_rate(len(hunt.order), hunt.left)), draws.random(n))
    if budget is not None:
        hunt.room = room_of(len(hunt.order), hunt.rate, hunt.left)
    yield from hunt.ask("audit", np.flatnonzero(hunt.audited & ~hunt.front))
    step = max(1, round(STEP * n))
    while not hunt.is_enough() and hunt.left and hunt.room:
        yield from hunt.grow(max(step, depth - 2 * step))
        depth = 0
        if hunt.has_learnt():
            hunt.fit()
    return hunt.outcome()


class _Hunt:
    """What is read so far, and what it says of the rest."""

    def __init__(self, seen: Seen, goal: Goal, most: int):
        n = len(seen.known)
        self.seen, self.goal, self.most = seen, goal, most
        self.distance: NDArray[np.float64] = np.full(n, np.nan)
        self.random = np.zeros(n, dtype=np.bool_)
        """The pilot."""
        self.front = np.zeros(n, dtype=np.bool_)
        self.audited = np.zeros(n, dtype=np.bool_)
        self.rate = 0.0
        self.guess: NDArray[np.float64] = np.full(n, np.nan)
        self.order = np.arange(n)
        """Rows of neither pilot nor front, nearest by the guess first."""
        self.errors: NDArray[np.float64] = np.zeros(0)
        """Of guesses of the pilot's rows, each guessed without it."""
        self.correlation = 0.0
        self.steps = self.fitted = 0
        self.room = n
        """By how many rows the front may still grow. Of a budget it must not depend on who was audited."""

    @property
    def n_read(self) -> int:
        return int(np.count_nonzero(~np.isnan(self.distance)))

    @property
    def left(self) -> int:
        """Rows that may still be read."""
        return self.most - self.n_read

    def ask(self, name: str, rows: NDArray[np.int64]) -> Generator[Ask, NDArray[np.float64], None]:
        if len(rows):
            self.distance[rows] = yield Ask(name, rows)

    def grow(self, more: int) -> Generator[Ask, NDArray[np.float64], None]:
        """Let the front grow by so many rows, or as many as may still be read."""
        unread = np.cumsum(np.isnan(self.distance[self.order]))
        affordable = int(np.searchsorted(unread, self.left, "right"))
        more = min(more, self.room, affordable, len(self.order))
        self.room -= more
        next_rows, self.order = np.sort(self.order[:more]), self.order[more:]
        self.front[next_rows] = True
        unread_rows = next_rows[np.isnan(self.distance[next_rows])]
        if len(unread_rows):
            yield from self.ask(f"front-{self.steps:02}", unread_rows)
            self.steps += 1

    def draw_audit(self, rate: float, coins: NDArray[np.float64]) -> None:
        """Choose the audit, by a number from 0 to 1 for each row. The front's rows are drawn as well, so that
        pilot and audit together are like all rows. None where it would overdraw the budget: to draw anew would
        choose among audits."""
        self.rate = rate
        self.audited = (coins < rate) & ~self.random
        if np.count_nonzero(self.audited & ~self.front) > self.left:
            self.rate, self.audited = 0.0, np.zeros_like(self.audited)

    def has_learnt(self) -> bool:
        """Whether there are many more rows to learn from than there were."""
        known = np.count_nonzero(self.random | self.front)
        return self.fitted < TEACHING_ROWS and bool(known > MORE * self.fitted)

    def fit(self) -> None:
        """Learn from pilot and front, which do not depend on who is audited; the pilot's first."""
        teaching = np.flatnonzero((self.random | self.front) & self.seen.known)
        self.fitted = int(np.count_nonzero(self.random | self.front))
        if len(teaching) > TEACHING_ROWS:
            kept = np.linspace(0, len(teaching) - 1, TEACHING_ROWS).astype(np.int64)
            teaching = np.union1d(teaching[kept], np.flatnonzero(self.random & self.seen.known))
        prediction = Prediction.fit(self.seen.vectors(teaching), self.distance[teaching])
        pilot = self.random[teaching]
        self.errors = prediction.errors[pilot]
        self.correlation = _spearman(self.distance[teaching][pilot], self.errors)
        guess = np.concatenate([prediction.distance(part) for part in self.seen.blocks()])
        self.guess = np.where(self.seen.known, guess, prediction.intercept)
        place = np.where(self.seen.known, guess, -np.inf)
        rest = np.flatnonzero(~(self.random | self.front))
        self.order = rest[np.argsort(place[rest], kind="stable")]

    @property
    def _beyond(self) -> NDArray[np.float64]:
        """Distances of the audited rows beyond the front."""
        return self.distance[self.audited & ~self.front]

    @property
    def known_front(self) -> NDArray[np.float64]:
        """Distances of pilot and front."""
        return self.distance[self.random | self.front]

    def is_enough(self) -> bool:
        """Whether the recall is reached."""
        if not len(self.order):
            return True
        return is_enough(self.known_front, self._beyond, self.goal, self.rate)

    def read_all(self) -> Search:
        """Nothing that the cheap reader saw spares a row."""
        rest = np.flatnonzero(np.isnan(self.distance))
        yield from self.ask(f"front-{self.steps:02}", rest)
        self.front[rest], self.order = True, rest[:0]
        return self.outcome()

    def outcome(self) -> Outcome:
        """How it ended."""
        goal, beyond, reached = self.goal, self._beyond, self.is_enough()
        recall = 1.0 if not len(self.order) else goal.recall
        if not reached:
            recall = recall_at_least(
                self.known_front, beyond, goal.count, self.rate, goal.confidence
            )
        audited = np.flatnonzero(self.audited & ~self.front)
        errors = self.distance[audited] - self.guess[audited]
        if len(errors) < INTERVAL_ROWS:
            errors = np.concatenate([errors, self.errors])
        below, above = _interval(errors)
        return Outcome(
            goal, recall, reached, int(self.random.sum()), int(self.audited.sum()), self.rate,
            int(np.count_nonzero(self.front & ~self.audited)),
            found_in_audit(self.known_front, beyond, goal.needed),
            most_found(goal.misses, self.rate, goal.confidence), self.correlation,
            ~np.isnan(self.distance), self.random | self.audited, self.guess, below, above, len(errors),
        )  # fmt: skip


def _spearman(distance: NDArray[np.float64], errors: NDArray[np.float64]) -> float:
    """Of distances and guesses. Not below 0: of guesses that know nothing each is the mean of the others, and
    so the lower the higher the distance."""
    from scipy.stats import spearmanr

    guess = distance - errors
    if np.ptp(guess) == 0 or np.ptp(distance) == 0:
        return 0.0
    return max(0.0, float(spearmanr(guess, distance).statistic))


def _interval(errors: NDArray[np.float64]) -> tuple[float, float]:
    """What to add to the guess of a row for the ends of its interval.

    By the errors of rows that are drawn from the same rows and taught nothing (split conformal prediction:
    Papadopoulos et al. 2002; Lei et al. 2018, arXiv 1604.04173).
    """
    errors, n = np.sort(errors), len(errors)
    if not n:
        return 0.0, 0.0
    rank = min(n, int(np.ceil((n + 1) * (1 + COVERAGE) / 2)))
    return float(errors[n - rank]), float(errors[rank - 1])
