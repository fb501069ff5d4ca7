"""Rank one scored dataset by several strategies and measure them at equal removal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter import __version__
from saefilter.artifacts.scores import Scores
from saefilter.compare.arms import RankedArm, arms_of, count_at, dropped_alone, rank_arm
from saefilter.compare.data import Arm, AtFraction, Comparison, Curve, Excerpt, Overlap
from saefilter.errors import SaefilterError
from saefilter.filtering.filter import candidates_of
from saefilter.rows.excerpts import excerpts
from saefilter.rows.read import Source
from saefilter.select.candidates import Candidates
from saefilter.select.options import StrategyOptions, option_name
from saefilter.select.ranking import Ranking
from saefilter.select.registry import check_strategy, is_control, options_of, strategy_names
from saefilter.select.row_labels import RowLabels, read_labels
from saefilter.stats.auroc import auroc, auroc_interval, jaccard, wilson
from saefilter.text import rows_of
from saefilter.watch import Watch

FRACTIONS = (0.05, 0.1, 0.25, 0.5)
DETAIL = 0.1
"""Rows are shown at the fraction nearest to this one."""
N_ONLY_IDS = 1000
N_EXCERPTS = 8
CURVE_POINTS = 50
BOOTSTRAP_ROWS = 100_000_000
"""Rows drawn for an interval, over all draws: fewer draws where there are very many rows."""


def default_strategies(options: StrategyOptions) -> list[str]:
    """What is compared unless something else is asked for: all that the options allow for, but
    nothing that needs a model of its own."""
    found = ["closest", "random"]
    if options.contrast_toxic or options.contrast_benign:
        found += ["text-classifier", "embedding-classifier"]
    if options.judge:
        found += ["judge"]
    if options.label or options.labels:
        found += ["labels", "matched-random"]
    return found


def check_request(
    strategies: Sequence[str], options: StrategyOptions, fractions: Sequence[float]
) -> None:
    """Raises SaefilterError when the request makes no sense, before anything is read."""
    if not strategies or len(set(strategies)) != len(strategies):
        raise SaefilterError(
            "name each strategy once", remedy=f"Strategies: {', '.join(strategy_names())}."
        )
    for name in strategies:
        check_strategy(name, options_of(name, options))
    used = {name for one in strategies for name in options_of(one, options).given()}
    for name in options.given():
        if name not in {*used, "label", "labels"}:
            raise SaefilterError(
                f"none of the strategies has use for {option_name(name)}",
                remedy="Leave it out, or add the strategy with --strategy.",
            )
    if not fractions or any(not 0 < share < 1 for share in fractions):
        raise SaefilterError(
            "a share to drop lies between 0 and 1", remedy="Use --drop-frac 0.05 0.1 0.25."
        )


def compare(
    source: Source,
    scores: Sequence[Scores],
    strategies: Sequence[str],
    options: StrategyOptions,
    *,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
    watch: Watch | None = None,
) -> Comparison:
    """The strategies on the rows that all `scores` have scored; `closest` once for each of them.

    Raises SaefilterError when the scores are not of these data, or a strategy cannot do its work.
    """
    check_request(strategies, options, fractions)
    for one in scores:
        one.check_belongs(source)
        one.verify()
    watch = watch or Watch()
    pools, left_out = _pools(source, scores, watch)
    labels = None
    if options.label or options.labels:
        labels = read_labels(pools[0], options)
    arms = [
        rank_arm(
            name, strategy, scores[number], pools[number], options, max(fractions), seed, watch
        )
        for name, strategy, number in arms_of(strategies, scores)
    ]
    ordered = sorted(set(fractions))
    detail = min(ordered, key=lambda share: abs(share - DETAIL))
    n_rows = len(pools[0])
    counts = [count_at(share, n_rows) for share in ordered]
    only = dropped_alone(arms, count_at(detail, n_rows))
    shown = [int(row_id) for ids, _ in only for row_id in ids[:N_EXCERPTS]]
    texts = excerpts(source, shown, labels, pools[0])
    made = scores[0].provenance
    known = None if labels is None else int(labels.known.sum())
    return Comparison(
        version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        input=source.path.name,
        input_sha256=made.input_sha256,
        scores=[_about(one) for one in scores],
        rows=made.rows,
        scored=n_rows,
        labelled=known,
        bad=None if labels is None else int(labels.bad.sum()),
        labels=None if labels is None else labels.about,
        seed=seed,
        fractions=ordered,
        detail_frac=detail,
        arms=[
            _arm(one, arms[0], ordered, labels, seed, *found, texts)
            for one, found in zip(arms, only, strict=True)
        ],
        overlaps=[
            Overlap(share, _overlaps([one.dropped(count) for one in arms]))
            for share, count in zip(ordered, counts, strict=True)
        ],
        notes=_notes(scores, n_rows, left_out, labels),
    )


def _pools(source: Source, scores: Sequence[Scores], watch: Watch) -> tuple[list[Candidates], int]:
    """For each scores file, the rows that all of them have scored; and how many only some have.

    Raises SaefilterError when there are none.
    """
    pools = [candidates_of(source, one, watch) for one in scores]
    common = some = pools[0].row_ids
    for pool in pools[1:]:
        common = np.intersect1d(common, pool.row_ids, assume_unique=True)
        some = np.union1d(some, pool.row_ids)
    if not len(common):
        raise SaefilterError("there is no row that all of these scores have scored")
    shared = [
        replace(pool, distance=pool.distance[np.isin(pool.row_ids, common)], row_ids=common)
        for pool in pools
    ]
    return shared, len(some) - len(common)


def _arm(
    ranked: RankedArm,
    first: RankedArm,
    fractions: Sequence[float],
    labels: RowLabels | None,
    seed: int,
    only_ids: NDArray[np.int64],
    only_count: int,
    texts: dict[int, Excerpt],
) -> Arm:
    area = low = high = None
    if labels is not None and labels.bad.any() and (labels.known & ~labels.bad).any():
        bad, value = labels.bad[labels.known], ranked.value()[labels.known]
        area = auroc(bad, value)
        draws = max(100, min(1000, BOOTSTRAP_ROWS // len(bad)))
        low, high = auroc_interval(bad, value, draws=draws, seed=seed)
    return Arm(
        ranked.name,
        ranked.strategy,
        ranked.scores.path.name,
        ranked.scores.provenance.metric,
        is_control(ranked.strategy),
        round(ranked.seconds, 3),
        area,
        low,
        high,
        [at_fraction(ranked.ranking, share, labels) for share in fractions],
        _curve(ranked, first, labels),
        only_ids[:N_ONLY_IDS].tolist(),
        only_count,
        [texts[row_id] for row_id in only_ids[:N_EXCERPTS].tolist()],
        dict(ranked.ranking.details),
    )


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


def _curve(ranked: RankedArm, first: RankedArm, labels: RowLabels | None) -> Curve:
    n_rows = len(ranked.candidates)
    points = sorted({count_at(i / CURVE_POINTS, n_rows) for i in range(CURVE_POINTS + 1)} - {0})
    shares = [count / n_rows for count in points]
    at = [at_fraction(ranked.ranking, share, labels) for share in shares]
    has_labels = labels is not None
    return Curve(
        shares,
        [one.precision for one in at] if has_labels else None,
        [one.recall for one in at] if has_labels else None,
        [jaccard(ranked.dropped(count), first.dropped(count)) for count in points],
    )


def _overlaps(dropped: Sequence[NDArray[np.bool_]]) -> list[list[float]]:
    return [[jaccard(one, other) for other in dropped] for one in dropped]


def _about(scores: Scores) -> dict[str, Any]:
    made = scores.provenance
    return {
        "name": scores.path.name,
        "content_sha256": made.content_sha256,
        "preset": made.preset if not Path(made.preset).is_absolute() else Path(made.preset).name,
        "toxic_set": made.toxic_set,
        "metric": made.metric,
    }


def _notes(
    scores: Sequence[Scores], n_rows: int, left_out: int, labels: RowLabels | None
) -> list[str]:
    notes = list(dict.fromkeys(one.provenance.note for one in scores if one.provenance.note))
    if left_out:
        notes.append(f"Left out, because not all scores have them: {rows_of(left_out)}.")
    if labels is None:
        return notes
    unknown = n_rows - int(labels.known.sum())
    if unknown:
        notes.append(
            f"{unknown:,} of the {n_rows:,} rows have no label; precision, recall and AUROC are of "
            "those that have one."
        )
    n_bad = int(labels.bad.sum())
    if math.isclose(n_bad, 0) or n_bad == int(labels.known.sum()):
        notes.append("All labelled rows have the same label, so there is no AUROC.")
    return notes
