"""What each arm of a comparison drops, measured: against labels, against the others, and a few rows of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from saefilter.compare.arms import RankedArm, count_at, dropped_alone
from saefilter.compare.data import Arm, AtFraction, Curve, Excerpt
from saefilter.rows.excerpts import last_exchange
from saefilter.rows.read import Source
from saefilter.select.ranking import Candidates, Ranking
from saefilter.select.registry import is_control
from saefilter.select.row_labels import RowLabels
from saefilter.stats.auroc import auroc, auroc_interval, jaccard, wilson

N_ONLY_IDS = 1000
N_EXCERPTS = 8
CURVE_POINTS = 50
BOOTSTRAP_ROWS = 100_000_000
"""Rows drawn for an interval, over all draws: fewer draws where there are very many rows."""


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
            **_area(arm, labels, seed),
            at=[at_fraction(arm.ranking, share, labels) for share in fractions],
            curve=_curve(arm, arms[0], labels),
            only_ids=ids[:N_ONLY_IDS].tolist(),
            only_count=count,
            only=[texts[row_id] for row_id in ids[:N_EXCERPTS].tolist()],
            details=dict(arm.ranking.details),
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
        [one.precision for one in at] if has_labels else None,
        [one.recall for one in at] if has_labels else None,
        [jaccard(arm.dropped(count), first.dropped(count)) for count in points],
    )


def _excerpts(
    source: Source, wanted: Iterable[int], labels: RowLabels | None, candidates: Candidates
) -> dict[int, Excerpt]:
    """Some rows by their ids, with their labels."""
    texts = {}
    for row in source.rows(set(wanted)):
        bad = None
        if labels is not None:
            position = int(np.searchsorted(candidates.row_ids, row.index))
            bad = bool(labels.bad[position]) if labels.known[position] else None
        texts[row.index] = Excerpt(row.index, row.line, row.file, bad, *last_exchange(row))
    return texts
