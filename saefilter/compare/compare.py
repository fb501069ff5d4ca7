"""Rank one scored dataset by several strategies and compare them at equal removal.

Here is what is asked and what it is asked of; `arms.py` ranks and counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from saefilter import __version__
from saefilter.artifacts.scores import Scores
from saefilter.compare.arms import arms_of, measured, overlaps, rank_arm
from saefilter.compare.data import Comparison, Overlap
from saefilter.compare.seen import unseen
from saefilter.errors import SaefilterError
from saefilter.filtering.job import candidates_of
from saefilter.rows.read import Source
from saefilter.select.ranking import Candidates
from saefilter.select.registry import (
    StrategyOptions,
    check_strategy,
    knows_labels,
    option_name,
    options_of,
    strategy_names,
)
from saefilter.select.row_labels import REVIEW, RowLabels, read_labels
from saefilter.text import rows_of
from saefilter.watch import Watch

FRACTIONS = (0.05, 0.1, 0.25, 0.5)
DETAIL = 0.1
"""Rows are shown at the fraction nearest to this one."""


def default_strategies(options: StrategyOptions) -> list[str]:
    """What is compared unless something else is asked for: all that the options allow for, but
    nothing that needs a model of its own."""
    strategies = ["closest", "random"]
    if options.contrast_toxic or options.contrast_benign:
        strategies += ["text-classifier", "embedding-classifier"]
    if options.judge:
        strategies += ["judge"]
    if names_labels(options):
        strategies += ["labels", "matched-random"]
    return strategies


def names_labels(options: StrategyOptions) -> bool:
    """Whether the options say which rows are bad."""
    return any((options.label, options.labels, options.decisions))


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
    used = {name for strategy in strategies for name in options_of(strategy, options).given()}
    for name in options.given():
        if name not in {*used, "label", "labels", "decisions"}:
            raise SaefilterError(
                f"none of the strategies has use for {option_name(name)}",
                remedy="Leave it out, or add the strategy with --strategy.",
            )
    if not fractions or any(not 0 < share < 1 for share in fractions):
        raise SaefilterError(
            "a share to drop lies between 0 and 1", remedy="Use --drop-frac 5% 10% 25%."
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
    labels = read_labels(pools[0], options) if names_labels(options) else None
    labels, seen = unseen(labels, scores, pools[0])
    if labels is None:
        strategies = [name for name in strategies if not knows_labels(name)]
    arms = [
        rank_arm(
            name, strategy, scores[number], pools[number], options, max(fractions), seed, watch
        )
        for name, strategy, number in arms_of(strategies, scores)
    ]
    ordered = sorted(set(fractions))
    detail = min(ordered, key=lambda share: abs(share - DETAIL))
    made = scores[0].provenance
    return Comparison(
        version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        input=source.path.name,
        input_sha256=made.input_sha256,
        scores=[_about(one) for one in scores],
        rows=made.rows,
        scored=len(pools[0]),
        labelled=None if labels is None else int(labels.known.sum()),
        bad=None if labels is None else int(labels.bad.sum()),
        labels=None if labels is None else labels.about,
        seed=seed,
        fractions=ordered,
        detail_frac=detail,
        arms=measured(arms, source, labels, ordered, detail, seed),
        overlaps=[Overlap(share, overlaps(arms, share)) for share in ordered],
        notes=[
            *seen,
            *_notes(scores, len(pools[0]), left_out, labels),
            *about_controls([(arm.name, arm.strategy) for arm in arms]),
        ],
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
    shared = [pool.among(common) for pool in pools]
    return shared, len(some) - len(common)


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
    if labels.about.get("by") == REVIEW:
        notes.append(
            "The labels are decisions of a review, on rows that somebody chose to read. Precision, "
            "recall and AUROC are of those rows; they hold for the others only if these were drawn at random "
            "(saefilter review --order random)."
        )
    n_bad = int(labels.bad.sum())
    if math.isclose(n_bad, 0) or n_bad == int(labels.known.sum()):
        notes.append(
            f"All labelled rows are {'bad' if n_bad else 'good'}, so nothing tells the strategies apart: there is no "
            "AUROC, and precision and recall mean nothing. More labels may have both."
        )
    return notes


def about_controls(arms: Sequence[tuple[str, str]]) -> list[str]:
    """What a reader must know of arms that know the labels, each given as its name and its strategy."""
    notes, strategies = [], [strategy for _, strategy in arms]
    if "labels" in strategies:
        notes.append(
            "labels is an oracle: it is told which rows are bad, so it is the most that any strategy could "
            "find, and none that you could use."
        )
    if "matched-random" in strategies:
        like = next((name for name, strategy in arms if strategy == "closest"), "closest")
        notes.append(
            f"matched-random has the precision and recall of {like} by construction (and its AUROC, but for "
            "rows at equal distance): at every size it drops as many bad, good and unlabelled rows, but "
            "draws which. It differs in which rows go (overlap), and so in what a model learns from the "
            "rest, which is what it is the control for."
        )
    return notes
