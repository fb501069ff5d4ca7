"""The arms of a comparison: each strategy's ranking of the same rows, and what it drops, measured against
labels, against the others, and shown by a few rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saefilter.artifacts.scores import Scores
from saefilter.compare.cost import cost_of
from saefilter.compare.data import Arm, ArmCost, AtFraction, Curve, Excerpt
from saefilter.rows.excerpts import last_exchange
from saefilter.rows.read import Source
from saefilter.select.ranking import Candidates, Ranking
from saefilter.select.registry import StrategyOptions, is_control, options_of
from saefilter.select.row_labels import RowLabels
from saefilter.select.strategies import Selection, count_of, rank, refuse_unvouched
from saefilter.stats.auroc import auroc, auroc_interval, jaccard, wilson
from saefilter.watch import Watch

N_ONLY_IDS = 1000
N_EXCERPTS = 8
CURVE_POINTS = 50
BOOTSTRAP_ROWS = 100_000_000
"""Rows drawn for an interval, over all draws: fewer draws where there are very many rows."""


@dataclass(frozen=True)
class RankedArm:
    """A strategy's ranking and what it took."""

    name: str
    strategy: str
    scores: Scores
    candidates: Candidates
    ranking: Ranking
    seconds: float
    cost: ArmCost

    def dropped(self, count: int) -> NDArray[np.bool_]:
        """The first `count` rows of its order, `[n_rows]`."""
        chosen = np.zeros(len(self.candidates), dtype=bool)
        chosen[self.ranking.order[:count]] = True
        return chosen

    def value(self) -> NDArray[np.float64]:
        """Higher is dropped earlier, equal where the strategy sees no difference, `[n_rows]`."""
        if self.strategy == "closest":  # rows that a cascade did not read are far, all alike
            return np.nan_to_num(-self.candidates.distance, nan=-np.inf)
        if self.ranking.score is not None:
            return np.where(np.isnan(self.ranking.score), -np.inf, self.ranking.score)
        place = np.empty(len(self.candidates))
        place[self.ranking.order] = -np.arange(len(self.candidates))
        return place


def arms_of(strategies: Sequence[str], scores: Sequence[Scores]) -> list[tuple[str, str, int]]:
    """Name, strategy and which scores, for every arm: `closest` by each scores file, the others once."""
    arms = []
    for strategy in strategies:
        if strategy == "closest" and len(scores) > 1:
            names = _names([(scored.provenance.metric, scored.provenance.preset, scored.path.name)
                            for scored in scores])  # fmt: skip
            arms += [(f"closest, {name}", strategy, i) for i, name in enumerate(names)]
        else:
            arms.append((strategy, strategy, 0))
    return arms


def _names(facts: Sequence[tuple[str, str, str]]) -> list[str]:
    """The shortest part of the facts that tells all of them apart."""
    for depth in range(1, 4):
        names = [", ".join(own[:depth]) for own in facts]
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
    refuse_unvouched(candidates, selection)
    start, before = time.monotonic(), candidates.cost.copy()
    ranking = rank(candidates, selection)
    order = ranking.order  # of distances it is sorted when it is asked for
    seconds = time.monotonic() - start
    cost = cost_of(
        strategy, scores, ranking, seconds, candidates.cost.since(before), rows=len(order)
    )
    return RankedArm(name, strategy, scores, candidates, ranking, seconds, cost)


def count_at(share: float, n_rows: int) -> int:
    """As many as `filter --drop-frac` drops."""
    count = count_of(Selection(drop_frac=share), n_rows)
    assert count is not None
    return count


def dropped_alone(arms: Sequence[RankedArm], count: int) -> list[tuple[NDArray[np.int64], int]]:
    """For each arm, the rows that it drops and no other does but the controls, first to go first;
    and how many there are. Nothing for controls."""
    own = [arm.dropped(count) for arm in arms]
    alone = []
    for number, arm in enumerate(arms):
        if is_control(arm.strategy):
            alone.append((np.empty(0, dtype=np.int64), 0))
            continue
        others = np.zeros(len(arm.candidates), dtype=bool)
        for other, dropped in enumerate(own):
            if other != number and not is_control(arms[other].strategy):
                others |= dropped
        order = arm.ranking.order[:count]
        ids = arm.candidates.row_ids[order[~others[order]]]
        alone.append((ids, len(ids)))
    return alone


def measured(
    arms: Sequence[RankedArm],
    source: Source,
    labels: RowLabels | None,
    fractions: Sequence[float],
    detail: float,
    seed: int,
) -> list[Arm]:
    """The arms at every dropped share; at `detail` with rows that each of them alone drops. `labels`
    are of the candidates, `[n_rows]`."""
    candidates = arms[0].candidates
    alone = dropped_alone(arms, count_at(detail, len(candidates)))
    shown = [int(row_id) for ids, _ in alone for row_id in ids[:N_EXCERPTS]]
    texts = _excerpts(source, shown, labels, candidates)
    return [
        Arm(
            name=arm.name,
            strategy=arm.strategy,
            scores=arm.scores.path.name,
            metric=arm.scores.provenance.metric,
            control=is_control(arm.strategy),
            seconds=round(arm.seconds, 3),
            cost=arm.cost,
            **_area(arm, labels, seed),
            at=[at_fraction(arm.ranking, share, labels) for share in fractions],
            curve=_curve(arm, arms[0], labels),
            only_ids=ids[:N_ONLY_IDS].tolist(),
            only_count=count,
            only=[texts[row_id] for row_id in ids[:N_EXCERPTS].tolist()],
            details=dict(arm.ranking.details),
            columns={
                name: _auroc_of(values, labels) for name, values in arm.ranking.columns.items()
            },
        )
        for arm, (ids, count) in zip(arms, alone, strict=True)
    ]


def at_fraction(ranking: Ranking, share: float, labels: RowLabels | None) -> AtFraction:
    """What the first rows of a ranking hold."""
    dropped = ranking.order[: count_at(share, len(ranking.order))]
    if labels is None:
        return AtFraction(share, len(dropped))
    known, bad = int(labels.known[dropped].sum()), int(labels.bad[dropped].sum())
    everything = int(labels.bad.sum())
    low, high = wilson(bad, known)
    return AtFraction(
        share,
        len(dropped),
        known,
        bad,
        bad / known if known else None,
        low,
        high,
        bad / everything if everything else None,
    )


def overlaps(arms: Sequence[RankedArm], share: float) -> list[list[float]]:
    """How alike the choices are when that share is dropped, `[n_arms, n_arms]`."""
    dropped = [arm.dropped(count_at(share, len(arm.candidates))) for arm in arms]
    return [[jaccard(one, other) for other in dropped] for one in dropped]


def _auroc_of(values: NDArray[np.float64], labels: RowLabels | None) -> float | None:
    if labels is None or not labels.bad.any() or not (labels.known & ~labels.bad).any():
        return None
    value = np.where(np.isnan(values), -np.inf, values)
    return auroc(labels.bad[labels.known], value[labels.known])


def _area(arm: RankedArm, labels: RowLabels | None, seed: int) -> dict[str, float | None]:
    """AUROC and its interval; None without labels of both kinds."""
    if labels is None or not labels.bad.any() or not (labels.known & ~labels.bad).any():
        return {"auroc": None, "auroc_low": None, "auroc_high": None}
    bad, value = labels.bad[labels.known], arm.value()[labels.known]
    draws = max(100, min(1000, BOOTSTRAP_ROWS // len(bad)))
    low, high = auroc_interval(bad, value, draws=draws, seed=seed)
    return {"auroc": auroc(bad, value), "auroc_low": low, "auroc_high": high}


def _curve(arm: RankedArm, first: RankedArm, labels: RowLabels | None) -> Curve:
    n_rows = len(arm.candidates)
    points = sorted({count_at(i / CURVE_POINTS, n_rows) for i in range(CURVE_POINTS + 1)} - {0})
    shares = [count / n_rows for count in points]
    at = [at_fraction(arm.ranking, share, labels) for share in shares]
    has_labels = labels is not None
    return Curve(
        shares,
        [at_share.precision for at_share in at] if has_labels else None,
        [at_share.recall for at_share in at] if has_labels else None,
        [jaccard(arm.dropped(count), first.dropped(count)) for count in points],
    )


def _excerpts(
    source: Source, wanted: Iterable[int], labels: RowLabels | None, candidates: Candidates
) -> dict[int, Excerpt]:
    """Some rows by their ids, with their labels."""
    texts = {}
    columns = None if candidates.scores is None else candidates.scores.provenance.own_columns
    for row in source.rows(set(wanted)):
        bad = None
        if labels is not None:
            position = int(np.searchsorted(candidates.row_ids, row.index))
            bad = bool(labels.bad[position]) if labels.known[position] else None
        texts[row.index] = Excerpt(row.index, row.line, row.file, bad, *last_exchange(row, columns))
    return texts
