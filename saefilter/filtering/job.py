"""What is filtered by what, and the report of it, for one file as for a folder (folder.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saefilter.artifacts.decisions import Decisions
from saefilter.artifacts.scores import Scores
from saefilter.filtering.annotate import ScoreColumns
from saefilter.filtering.outputs import OutputPaths, file_record
from saefilter.filtering.parts import QUARANTINED
from saefilter.filtering.soft import Soft
from saefilter.filtering.switch import Switches
from saefilter.report.build import Quarantine, build_report
from saefilter.report.card import to_card
from saefilter.report.data import Report
from saefilter.report.done import gone_words
from saefilter.report.explore import N_ROWS, Explorer, Outcome, explorer_of
from saefilter.report.html import to_html
from saefilter.report.markdown import to_markdown
from saefilter.rows.read import Source
from saefilter.select.balance import Loss, losses, read_values
from saefilter.select.decided import choose_decided
from saefilter.select.ranking import Candidates, Ranked, UnreadCandidates
from saefilter.select.strategies import Choice, Selection, choose
from saefilter.storage import Location
from saefilter.watch import Watch


@dataclass(frozen=True)
class FilterResult:
    """What was written."""

    paths: OutputPaths
    report: Report


@dataclass(frozen=True)
class Job:
    """What is filtered by what."""

    source: Source
    scores: Scores
    paths: OutputPaths
    selection: Selection
    choice: Choice
    candidates: Candidates
    columns: ScoreColumns
    ranked: Ranked
    soft: Soft | None = None
    """What is written instead of kept and dropped rows."""
    swaps: bool = False
    """Whether labels are switched, and not only said to be; `soft` is then made once columns are known."""
    also: tuple[str, ...] = ()
    """Columns whose losses are told unasked."""
    report_rows: int = N_ROWS
    """So many rows at most can be looked through in the report's page."""

    @classmethod
    def of(
        cls,
        source: Source,
        scores: Scores,
        paths: OutputPaths,
        selection: Selection,
        choice: Choice | None,
        watch: Watch | None,
        decisions: Decisions | None = None,
    ) -> Job:
        """With what the selection chooses, where it has not yet chosen."""
        columns = ScoreColumns.of(scores)
        candidates = candidates_of(source, scores, watch, columns)
        if decisions is not None:
            choice = choose_decided(candidates, selection, decisions)
        elif choice is None:
            choice = choose(candidates, selection)
        ranked = Ranked(choice.ranking, candidates)
        return cls(source, scores, paths, selection, choice, candidates, columns, ranked)

    @property
    def gone(self) -> NDArray[np.bool_]:
        """Which rows are dropped, or are marked or switched instead, `[n_rows]` of the input."""
        if self.soft is not None and isinstance(self.soft.additions, Switches):
            return self.soft.additions.mask
        gone = self.columns.scored.copy()
        gone[gone] = self.choice.dropped
        return gone


def candidates_of(
    source: Source,
    scores: Scores,
    watch: Watch | None = None,
    columns: ScoreColumns | None = None,
) -> Candidates:
    """The scored rows of a dataset, for a strategy to choose among. `columns`: of the scores, where they are at
    hand."""
    columns = columns or ScoreColumns.of(scores)
    return UnreadCandidates.of(columns.scored, columns.distance, scores, source, watch or Watch())


def report_on(
    job: Job, places: NDArray[np.int8], names: dict[str, str], quarantine: Quarantine
) -> Report:
    """The report of a run; of a soft output, its rows that are marked stand where dropped ones do."""
    there = places != QUARANTINED
    gone = job.gone & there
    report = build_report(
        job.source,
        job.scores,
        job.selection,
        job.ranked,
        names,
        kept=there & ~gone,
        dropped=gone,
        quarantined=quarantine,
        distance=job.columns.distance,
        percentile=job.columns.percentile,
        cut=job.choice.cut,
        decided=job.choice.decided,
        per=_per(job.candidates, job.selection, job.choice, job.also),
    )
    if job.soft is None:
        return report
    marked = report.counts["dropped"]
    counts = {**report.counts, "dropped": 0, "marked": marked}
    counts["kept"] += marked
    return replace(report, counts=counts, written=job.soft.about)


def _per(
    candidates: Candidates, selection: Selection, choice: Choice, also: tuple[str, ...]
) -> list[tuple[str, list[Loss]]]:
    """What the values of the columns that were named lose, and of those `also` to be told."""
    balanced = (selection.keep_balance,) if selection.keep_balance else ()
    one_cut = np.zeros_like(choice.dropped) if balanced else None
    if one_cut is not None:
        one_cut[choice.ranking.order[: int(choice.dropped.sum())]] = True
    columns = dict.fromkeys([*also, *(selection.by or ()), *balanced])
    return [(c, losses(read_values(candidates, c), choice.dropped, one_cut)) for c in columns]


def explorer_on(job: Job, places: NDArray[np.int8], report: Report) -> Explorer | None:
    """The rows that the report's page lets a reader look through."""
    there = places != QUARANTINED
    gone = job.gone & there
    selection, decided = job.selection, job.choice.decided
    outcome = Outcome(
        report.outputs["kept"],
        gone_words(report).lower().removesuffix(" in"),
        selection.strategy == "closest" and not selection.keep_balance and not job.soft,
        report.selection["threshold"],
        decided.decisions if decided else None,
    )
    return explorer_of(
        job.source, job.scores, job.ranked, kept=there & ~gone, dropped=gone, outcome=outcome,
        distance=job.columns.distance, percentile=job.columns.percentile, limit=job.report_rows,
    )  # fmt: skip


def write_faces(
    report: Report,
    paths: OutputPaths,
    at: dict[Location, Path],
    *,
    card: bool,
    explorer: Explorer | None = None,
) -> None:
    """Write the report and its faces; the report's `files` gain a record of each face. `explorer`: rows to look
    through in the page."""
    faces: dict[str, tuple[Location, Callable[[Report], str]]] = {
        "report_html": (paths.report_html, partial(to_html, explorer=explorer)),
        "report_md": (paths.report_md, to_markdown),
    }
    if card:
        faces["card"] = (paths.card, to_card)
    for name, (path, face) in faces.items():
        at[path].write_text(face(report), encoding="utf-8")
        report.files[name] = file_record(at[path], path.name)
    at[paths.report_json].write_text(report.to_json(), encoding="utf-8")
