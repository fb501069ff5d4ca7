"""Gather a report from scores, input rows and a selection."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saefilter import __version__
from saefilter.artifacts.column import Column
from saefilter.artifacts.provenance import Provenance
from saefilter.artifacts.scores import Scores
from saefilter.report.data import (
    Closest,
    Evidence,
    FeatureEvidence,
    QuarantinedView,
    Report,
    SampleView,
    ThemeEvidence,
)
from saefilter.report.figures import Figures
from saefilter.rows.excerpts import turns_of
from saefilter.rows.read import Source
from saefilter.rows.row import OTHER_REASONS, Row, commonest, kind_of_reason
from saefilter.select.balance import Loss, warnings_of
from saefilter.select.ranking import Ranked
from saefilter.select.registry import is_seeded
from saefilter.select.strategies import Selection

if TYPE_CHECKING:
    from saefilter.select.auto import Cut
    from saefilter.select.decided import Decided

N_DROPPED = 50
N_BORDERLINE = 10
N_QUARANTINED = 100
N_KINDS = 10_000
"""Reasons that are counted apart on the way to the commonest."""
TIED_SHARE = 0.01
"""Of the rows; fewer with the same distance are mostly duplicates."""


@dataclass
class Quarantine:
    """What a report says of the quarantined rows, which are added one by one."""

    count: int = 0
    first: list[QuarantinedView] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    """Of reasons; those that come late to a great many are other reasons."""

    def add(self, row: Row, reason: str) -> None:
        """One more, in the rows' order."""
        self.count += 1
        if len(self.first) < N_QUARANTINED:
            self.first.append(QuarantinedView(row.index, row.line, reason, row.file))
        kind = kind_of_reason(reason)
        known = kind in self.kinds or len(self.kinds) < N_KINDS
        self.kinds[kind if known else OTHER_REASONS] += 1


def build_report(
    source: Source,
    scores: Scores,
    selection: Selection,
    ranked: Ranked,
    outputs: dict[str, str],
    *,
    kept: NDArray[np.bool_],
    dropped: NDArray[np.bool_],
    quarantined: Quarantine,
    distance: Column[np.float64],
    percentile: Column[np.float64],
    cut: Cut | None = None,
    decided: Decided | None = None,
    per: Sequence[tuple[str, list[Loss]]] = (),
) -> Report:
    """The report of a run. `kept`, `dropped`, `distance` and `percentile` are `[n_rows]` of the input; `per`: what
    the values of columns lose. What the selection came to is told of the rows that nobody `decided` on."""
    provenance = scores.provenance
    figures = Figures.of(
        kept, dropped, distance, percentile, provenance.reference_rows, (N_BORDERLINE, N_DROPPED),
        _read(distance) if provenance.cascade else None,
    )  # fmt: skip
    shown_kept, shown_dropped = figures.first_kept, figures.first_dropped
    if ranked.ranking.score is not None:
        shown_dropped = ranked.first(np.flatnonzero(dropped), N_DROPPED)
        shown_kept = ranked.first(np.flatnonzero(kept), N_BORDERLINE)
    evidence = Evidence.read(scores, [*shown_dropped, *shown_kept], kept=kept, dropped=dropped)
    views = _views(source, provenance, evidence, distance, percentile)
    for rows, gone in ((shown_dropped, True), (shown_kept, False)):
        views |= _with_strategy(views, rows, ranked, dropped=gone)
    return Report(
        version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        input=source.path.name,
        input_sha256=provenance.input_sha256,
        outputs=outputs,
        counts=_counts(len(distance), figures, quarantined, provenance),
        selection=_selection(selection, ranked, dropped, _threshold(figures, decided)),
        scoring={**_scoring(provenance), "own_share": scores.own_share()},
        histogram=figures.histogram,
        flagged=figures.flagged,
        reference_rows=_reference_rows(provenance, figures),
        reference_name=provenance.reference_name,
        dropped=[views[int(i)] for i in shown_dropped],
        borderline=[views[int(i)] for i in shown_kept],
        features=evidence.features,
        themes=evidence.themes,
        quarantined=quarantined.first,
        quarantine_reasons=commonest(quarantined.kinds),
        notes=[
            *_notes(scores, quarantined.count, len(distance)),
            *_cut_notes(provenance, selection, figures, decided),
            *(note for column, lost in per for note in warnings_of(column, lost)),
        ],
        cut=asdict(cut) if cut else None,
        per=[{"column": column, "values": [asdict(loss) for loss in lost]} for column, lost in per],
        made_from=_made_from(scores),
        decisions=decided.about() if decided else None,
    )


def _threshold(figures: Figures, decided: Decided | None) -> float | None:
    """The largest distance that the selection dropped, of the rows that nobody decided on."""
    if decided is None:
        return figures.threshold
    gone = decided.rest.distance[decided.choice.dropped]
    known = gone[~np.isnan(gone)]
    return float(known.max()) if len(known) else None


def _cut_notes(
    made: Provenance, selection: Selection, figures: Figures, decided: Decided | None
) -> list[str]:
    """What there is to say of the place of the cut."""
    if (
        decided is not None
    ):  # ties with the last row that the selection dropped are not counted then
        return _vouched(made, selection, int(decided.choice.dropped.sum()))
    return [*_ties(selection, figures), *_vouched(made, selection, figures.n_dropped)]


def _reference_rows(made: Provenance, figures: Figures) -> int:
    """0 where nothing can be said of how many rows are beyond reference rows: of pairs without reference pairs none
    has a percentile, and those that a cascade has read are not like all."""
    return 0 if made.estimated or not figures.has_percentiles else made.reference_rows


def _read(distance: Column[np.float64]) -> NDArray[np.bool_]:
    """Which rows have one."""
    return np.concatenate([np.zeros(0, np.bool_), *(~np.isnan(v) for _, v in distance.blocks())])


def _counts(
    rows: int,
    figures: Figures,
    quarantined: Quarantine,
    provenance: Provenance,
) -> dict[str, int]:
    return {
        "rows": rows,
        "kept": figures.n_kept,
        "dropped": figures.n_dropped,
        "quarantined": quarantined.count,
        "truncated": provenance.truncated,
        "duplicates": provenance.duplicates,
        **({"estimated": provenance.estimated} if provenance.cascade else {}),
    }


def _scoring(provenance: Provenance) -> dict[str, Any]:
    names = (
        "preset", "model", "sae", "hook", "toxic_set", "metric", "pool", "train_on", "trainer",
        "read", "max_tokens", "dtype", "device", "seconds", "tokens", "preference", "unlike",
    )  # fmt: skip
    return {
        **{name: getattr(provenance, name) for name in names},
        "tokens_per_second": round(provenance.tokens_per_second()),
    }


def _made_from(scores: Scores) -> dict[str, Any]:
    made = scores.provenance
    return {
        "scores": scores.path.name,
        "scores_content_sha256": made.content_sha256,
        "scored_at": made.created,
        "toxic_set_sha256": made.toxic_set_sha256,
        "sae_fingerprint": made.sae_fingerprint,
        "revision": made.revision,
        "versions": {"saefilter": made.version, **(made.versions or {})},
    }


def _selection(
    selection: Selection,
    ranked: Ranked,
    dropped: NDArray[np.bool_],
    threshold: float | None,
) -> dict[str, Any]:
    fields: dict[str, Any] = {
        **selection.to_fields(),
        "seed": selection.seed if is_seeded(selection.strategy) else None,
        "threshold": threshold,
    }
    if ranked.ranking.score is not None:
        scores = ranked.scores(np.flatnonzero(dropped)) or []
        known = [score for score in scores if score is not None]
        fields["score_name"] = ranked.ranking.score_name
        fields["score_threshold"] = min(known) if known else None
    return {**fields, "details": dict(ranked.ranking.details)}


def _with_strategy(
    views: dict[int, SampleView], ids: NDArray[np.int64], ranked: Ranked, *, dropped: bool
) -> dict[int, SampleView]:
    """The views of some rows, with what the strategy says of them."""
    scores = ranked.scores(ids) or [None] * len(ids)
    reasons = ranked.reasons(ids) if dropped else [""] * len(ids)
    return {
        row_id: replace(views[row_id], score=score, reason=reason)
        for row_id, score, reason in zip(ids.tolist(), scores, reasons, strict=True)
    }


def _notes(scores: Scores, n_quarantined: int, n_rows: int) -> list[str]:
    provenance = scores.provenance
    notes = [provenance.note] if provenance.note else []
    if n_quarantined * 20 > n_rows:
        notes.append(
            f"{n_quarantined} of {n_rows} rows could not be used; see the quarantined file."
        )
    if provenance.truncated:
        notes.append(
            f"{provenance.truncated} rows are longer than --max-tokens {provenance.max_tokens}; "
            "what lies beyond was not scored."
        )
    return notes


def _vouched(made: Provenance, selection: Selection, n_dropped: int) -> list[str]:
    """Of a cascade, how many of the rows that should go may have stayed: its misses may all be of the nearest."""
    if not made.cascade or selection.strategy != "closest" or not n_dropped or not made.estimated:
        return []
    wanted, recall = made.cascade["nearest"], made.cascade["recall"]
    misses = math.floor(wanted * (1 - recall) + 1e-9)
    least = max(0.0, 1 - misses / n_dropped)
    if not least:
        return [
            f"That the {n_dropped:,} nearest rows were dropped is not vouched for: up to {misses:,} that the model did "
            "not read may be nearer. A larger --budget vouches for more."
        ]
    return [
        f"Of the {n_dropped:,} nearest rows at least {least:.1%} were dropped, with "
        f"{made.cascade['confidence']:.0%} confidence: up to {misses:,} that the model did not read may be as near."
    ]


def _ties(selection: Selection, figures: Figures) -> list[str]:
    """A note where many rows are as close as the last one dropped, and only the order of the input
    says which of them go."""
    if selection.strategy != "closest" or not figures.n_dropped:
        return []
    n_kept, n_dropped = figures.tied
    if not n_kept or n_kept + n_dropped <= TIED_SHARE * (figures.n_kept + figures.n_dropped):
        return []
    return [
        f"{n_kept + n_dropped} rows are exactly as close as the last one dropped; {n_dropped} of them "
        "were dropped for no better reason than their place in the input. Another --metric may tell "
        "them apart."
    ]


def _views(
    source: Source,
    made: Provenance,
    evidence: Evidence,
    distance: Column[np.float64],
    percentile: Column[np.float64],
) -> dict[int, SampleView]:
    return {
        row.index: view_of(
            row, made, evidence.details[row.index],
            float(distance[row.index]), float(percentile[row.index]),
        )
        for row in source.rows(evidence.details)
    }  # fmt: skip


def view_of(
    row: Row, made: Provenance, detail: dict[str, Any], distance: float, percentile: float
) -> SampleView:
    """What a reader needs of a row, by scores that were `made` so. `detail`: its evidence, columns of the scores; `percentile` is NaN where
    there is none."""
    return SampleView(
        row_id=row.index,
        line=row.line,
        distance=distance,
        percentile=None if np.isnan(percentile) else percentile,
        turns=turns_of(row, made.own_columns, made.scored_by),
        words=detail["top_words"] or [],
        features=[
            FeatureEvidence(
                f["feature"],
                f["label"],
                f["share"],
                f["toxic_feature"],
                f["toxic_label"],
                f["cosine"],
            )
            for f in detail["top_features"] or []
        ],
        truncated=bool(detail["truncated"]),
        file=row.file,
        themes=[ThemeEvidence(**theme) for theme in detail.get("themes") or []],
        closest=Closest(**closest) if (closest := detail.get("closest")) else None,
    )
