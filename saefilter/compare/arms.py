"""The arms of a comparison: each strategy's ranking of the same rows, and what it drops alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saefilter.artifacts.scores import Scores
from saefilter.select.ranking import Candidates, Ranking
from saefilter.select.registry import StrategyOptions, is_control, options_of
from saefilter.select.strategies import Selection, count_of, rank
from saefilter.watch import Watch


@dataclass(frozen=True)
class RankedArm:
    """A strategy's ranking and what it took."""

    name: str
    strategy: str
    scores: Scores
    candidates: Candidates
    ranking: Ranking
    seconds: float

    def dropped(self, count: int) -> NDArray[np.bool_]:
        """The first `count` rows of its order, `[n_rows]`."""
        chosen = np.zeros(len(self.candidates), dtype=bool)
        chosen[self.ranking.order[:count]] = True
        return chosen

    def value(self) -> NDArray[np.float64]:
        """Higher is dropped earlier, equal where the strategy sees no difference, `[n_rows]`."""
        if self.strategy == "closest":
            return -self.candidates.distance
        if self.ranking.score is not None:
            return np.where(np.isnan(self.ranking.score), -np.inf, self.ranking.score)
        place = np.empty(len(self.candidates))
        place[self.ranking.order] = -np.arange(len(self.candidates))
        return place


def arms_of(strategies: Sequence[str], scores: Sequence[Scores]) -> list[tuple[str, str, int]]:
    """Name, strategy and which scores, for every arm: `closest` by each scores file, the others once."""
    found = []
    for strategy in strategies:
        if strategy == "closest" and len(scores) > 1:
            names = _names([(one.provenance.metric, one.provenance.preset, one.path.name)
                            for one in scores])  # fmt: skip
            found += [(f"closest, {name}", strategy, i) for i, name in enumerate(names)]
        else:
            found.append((strategy, strategy, 0))
    return found


def _names(facts: Sequence[tuple[str, str, str]]) -> list[str]:
    """The shortest part of the facts that tells all of them apart."""
    for depth in range(1, 4):
        names = [", ".join(one[:depth]) for one in facts]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({number})" for number, name in enumerate(names, start=1)]


def rank_arm(
    name: str,
    strategy: str,
    scores: Scores,
    candidates: Candidates,
    options: StrategyOptions,
    most: float,
    seed: int,
    watch: Watch,
) -> RankedArm:
    """Let a strategy rank the candidates, of which a share of `most` is to be dropped at most. Raises
    SaefilterError when it cannot."""
    watch.say(f"Ranking by {name}")
    selection = Selection(strategy, most, seed=seed, options=options_of(strategy, options))
    start = time.monotonic()
    ranking = rank(candidates, selection)
    return RankedArm(name, strategy, scores, candidates, ranking, time.monotonic() - start)


def count_at(share: float, n_rows: int) -> int:
    """As many as `filter --drop-frac` drops."""
    count = count_of(Selection(drop_frac=share), n_rows)
    assert count is not None
    return count


def dropped_alone(arms: Sequence[RankedArm], count: int) -> list[tuple[NDArray[np.int64], int]]:
    """For each arm, the rows that it drops and no other does but the controls, first to go first;
    and how many there are. Nothing for controls."""
    own = [one.dropped(count) for one in arms]
    found = []
    for number, one in enumerate(arms):
        if is_control(one.strategy):
            found.append((np.empty(0, dtype=np.int64), 0))
            continue
        others = np.zeros(len(one.candidates), dtype=bool)
        for other, dropped in enumerate(own):
            if other != number and not is_control(arms[other].strategy):
                others |= dropped
        order = one.ranking.order[:count]
        ids = one.candidates.row_ids[order[~others[order]]]
        found.append((ids, len(ids)))
    return found
