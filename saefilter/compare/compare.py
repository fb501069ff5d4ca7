"""Rank one scored dataset by several strategies and measure them at equal removal."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter import __version__
from saefilter.compare.data import Arm, AtFraction, Comparison, Curve, Excerpt, Overlap
from saefilter.compare.measure import auroc, auroc_interval, jaccard, wilson
from saefilter.errors import SaefilterError
from saefilter.report.build import turns_of
from saefilter.rows.formats import ASSISTANT, TEXT
from saefilter.rows.read import Row, Source
from saefilter.run.filter import candidates_of
from saefilter.run.scores import Scores
from saefilter.select.candidates import Candidates
from saefilter.select.options import StrategyOptions, option_name
from saefilter.select.ranking import Ranking
from saefilter.select.registry import check_strategy, is_control, options_of, strategy_names
from saefilter.select.row_labels import RowLabels, read_labels
from saefilter.select.strategies import Selection, count_of, rank
from saefilter.watch import Watch

FRACTIONS = (0.05, 0.1, 0.25, 0.5)
DETAIL = 0.1
"""Rows are shown at the fraction nearest to this one."""
N_ONLY_IDS = 1000
N_EXCERPTS = 8
EXCERPT_CHARACTERS = 240
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


def default_strategies(options: StrategyOptions) -> list[str]:
    """What is compared unless something else is asked for: all that the options allow for, but
    nothing that needs a model of its own or a service."""
    found = ["closest", "random"]
    if options.contrast_toxic or options.contrast_benign:
        found += ["text-classifier", "embedding-classifier"]
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
    pools = _pools(source, scores, watch)
    labels = None
    if options.label or options.labels:
        labels = read_labels(pools[0], options)
    arms = [
        _ranked(name, strategy, scores[number], pools[number], options, seed, watch)
        for name, strategy, number in _arms(strategies, scores)
    ]
    ordered = sorted(set(fractions))
    detail = min(ordered, key=lambda share: abs(share - DETAIL))
    n_rows = len(pools[0])
    counts = [_count(share, n_rows) for share in ordered]
    only = _only(arms, _count(detail, n_rows))
    texts = _excerpts(source, [ids for ids, _ in only], labels, pools[0])
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
        notes=_notes(scores, n_rows, labels),
    )


def _pools(source: Source, scores: Sequence[Scores], watch: Watch) -> list[Candidates]:
    """For each scores file, the rows that all of them have scored. Raises SaefilterError."""
    pools = [candidates_of(source, one, watch) for one in scores]
    common = pools[0].row_ids
    for pool in pools[1:]:
        common = np.intersect1d(common, pool.row_ids, assume_unique=True)
    if not len(common):
        raise SaefilterError("there is no row that all of these scores have scored")
    return [
        replace(pool, distance=pool.distance[np.isin(pool.row_ids, common)], row_ids=common)
        for pool in pools
    ]


def _arms(strategies: Sequence[str], scores: Sequence[Scores]) -> list[tuple[str, str, int]]:
    """Name, strategy and which scores, for every arm."""
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


def _ranked(
    name: str,
    strategy: str,
    scores: Scores,
    candidates: Candidates,
    options: StrategyOptions,
    seed: int,
    watch: Watch,
) -> RankedArm:
    watch.say(f"Ranking by {name}")
    selection = Selection(strategy, 0.5, seed=seed, options=options_of(strategy, options))
    start = time.monotonic()
    ranking = rank(candidates, selection)
    return RankedArm(name, strategy, scores, candidates, ranking, time.monotonic() - start)


def _count(share: float, n_rows: int) -> int:
    """As many as `filter --drop-frac` drops."""
    count = count_of(Selection(drop_frac=share), n_rows)
    assert count is not None
    return count


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
    dropped = ranking.order[: _count(share, len(ranking.order))]
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
    points = sorted({_count(i / CURVE_POINTS, n_rows) for i in range(CURVE_POINTS + 1)} - {0})
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


def _only(arms: Sequence[RankedArm], count: int) -> list[tuple[NDArray[np.int64], int]]:
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


def _excerpts(
    source: Source,
    ids: Sequence[NDArray[np.int64]],
    labels: RowLabels | None,
    candidates: Candidates,
) -> dict[int, Excerpt]:
    """The texts of the rows that are shown."""
    wanted = {int(i) for own in ids for i in own[:N_EXCERPTS]}
    found = {}
    for row in source.rows(wanted):
        bad = None
        if labels is not None:
            position = int(np.searchsorted(candidates.row_ids, row.index))
            bad = bool(labels.bad[position]) if labels.known[position] else None
        found[row.index] = _excerpt(row, bad)
    return found


def _excerpt(row: Row, bad: bool | None) -> Excerpt:
    turns = turns_of(row)
    answers = [turn.text for turn in turns if turn.role in (ASSISTANT, TEXT)]
    prompts = [turn.text for turn in turns if turn.role == "user"]
    return Excerpt(
        row.index,
        row.line,
        row.file,
        bad,
        _cut(prompts[-1] if prompts else ""),
        _cut(answers[-1] if answers else ""),
    )


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT_CHARACTERS else line[: EXCERPT_CHARACTERS - 1] + "…"


def _about(scores: Scores) -> dict[str, Any]:
    made = scores.provenance
    return {
        "name": scores.path.name,
        "content_sha256": made.content_sha256,
        "preset": made.preset if not Path(made.preset).is_absolute() else Path(made.preset).name,
        "toxic_set": made.toxic_set,
        "metric": made.metric,
    }


def _notes(scores: Sequence[Scores], n_rows: int, labels: RowLabels | None) -> list[str]:
    notes = list(dict.fromkeys(one.provenance.note for one in scores if one.provenance.note))
    most = max(one.provenance.scored for one in scores)
    if most > n_rows:
        notes.append(f"{most - n_rows:,} rows are left out because not all scores have them.")
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
