"""Filter a scored dataset: kept, dropped and quarantined rows and the report. No torch here."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from saefilter.artifacts.publish import exclusive, publishing
from saefilter.artifacts.scores import SCORED, Scores
from saefilter.errors import SaefilterError
from saefilter.filtering.outputs import OutputPaths, file_record, made_by, refuse_own_columns
from saefilter.filtering.parts import (
    DROPPED,
    KEPT,
    QUARANTINED,
    ROLES,
    Chosen,
    JsonlPart,
    Notes,
    ParquetPart,
    Part,
    QuarantinePart,
    Reasons,
    partition,
)
from saefilter.report.build import Quarantine, build_report
from saefilter.report.card import to_card
from saefilter.report.data import Report
from saefilter.report.html import to_html
from saefilter.report.markdown import to_markdown
from saefilter.rows.pieces import Piece
from saefilter.rows.read import Source
from saefilter.rows.tables import TypedRows, typed_rows
from saefilter.rows.write import Annotations, added_columns, check_output_name
from saefilter.select.balance import Loss, losses, read_values
from saefilter.select.ranking import Candidates, Ranked
from saefilter.select.strategies import Choice, Selection, choose
from saefilter.watch import Watch


@dataclass(frozen=True)
class FilterResult:
    """What was written."""

    paths: OutputPaths
    report: Report


@dataclass(frozen=True)
class _Columns:
    """The scores that selection and report need, one entry per input row: 25 bytes a row."""

    row_hash: NDArray[np.uint64]
    scored: NDArray[np.bool_]
    distance: NDArray[np.float64]
    percentile: NDArray[np.float64]

    @classmethod
    def of(cls, scores: Scores) -> _Columns:
        n_rows = scores.provenance.rows
        scored = np.zeros(n_rows, dtype=np.bool_)
        distance, percentile = np.full((2, n_rows), np.nan)
        first = 0
        for batch in scores.batches(["status", "distance", "percentile"]):
            here = slice(first, first + batch.num_rows)
            scored[here] = pc.equal(batch["status"], SCORED).to_numpy(zero_copy_only=False)
            distance[here] = batch["distance"].to_numpy(zero_copy_only=False)
            percentile[here] = batch["percentile"].to_numpy(zero_copy_only=False)
            first += batch.num_rows
        return cls(scores.row_hashes(), scored, distance, percentile)


def filter_file(
    source: Source,
    scores: Scores,
    output: Path,
    selection: Selection,
    *,
    overwrite: bool = False,
    card: bool = False,
    source_dataset: str | None = None,
    watch: Watch | None = None,
    choice: Choice | None = None,
) -> FilterResult:
    """Write the kept rows to `output`, everything else beside it, after checking that no row is lost.

    The checks are on what was written, read back before it gets its final name (`conserve.py`).
    `card` adds a dataset card, which names `source_dataset`, the input's name on the hub. `watch` is
    told how far a slow strategy has come; with `choice`, what the selection gave before is taken.
    Raises SaefilterError when the input is not the one that was scored, when an output is in the
    way, or when the request makes no sense; then nothing is written.
    """
    selection.check()
    check_output_name(output)
    paths = OutputPaths.beside(output)
    paths.refuse_existing(card=card, overwrite=overwrite)
    _refuse_to_overwrite_inputs(paths, source, scores)
    source.refuse_to_join(paths.all())
    scores.check_belongs(source)
    scores.verify()
    with exclusive(output, paths.all()):
        paths.refuse_existing(card=card, overwrite=overwrite)
        if choice is None:
            choice = choose(candidates_of(source, scores, watch), selection)
        return _filter(source, scores, paths, selection, choice, card, source_dataset)


def candidates_of(source: Source, scores: Scores, watch: Watch | None = None) -> Candidates:
    """The scored rows of a dataset, for a strategy to choose among."""
    columns = _Columns.of(scores)
    row_ids = np.flatnonzero(columns.scored)
    return Candidates(columns.distance[row_ids], row_ids, scores, source, watch or Watch())


def _filter(
    source: Source,
    scores: Scores,
    paths: OutputPaths,
    selection: Selection,
    choice: Choice,
    card: bool,
    source_dataset: str | None,
) -> FilterResult:
    columns = _Columns.of(scores)
    scored_ids = np.flatnonzero(columns.scored)
    ranked = Ranked(choice.ranking, scored_ids)
    rows = typed_rows(source, columns.scored)
    refuse_own_columns(rows, source)
    places = _places(columns, scored_ids[choice.dropped], rows)
    ids = {place: np.flatnonzero(places == place) for place in (KEPT, DROPPED, QUARANTINED)}
    roles = {KEPT: paths.kept, DROPPED: paths.dropped, QUARANTINED: paths.quarantined}
    if not len(ids[QUARANTINED]):
        del roles[QUARANTINED]
    to_write = [p for p in paths.wanted(card) if p != paths.quarantined or QUARANTINED in roles]
    with publishing(to_write) as temporary:
        at = dict(zip(to_write, temporary, strict=True))
        chosen = {
            place: Chosen(ROLES[place], at[path], rows, places == place, columns.row_hash,
                          made_by(scores, selection, choice.ranking))
            for place, path in roles.items()
        }  # fmt: skip
        notes = _notes(source, ids[DROPPED], columns, ranked)
        parts = _parts(chosen, paths.kept.suffix, notes)
        quarantine = Quarantine()
        if QUARANTINED in roles:
            aside = QuarantinePart(
                chosen[QUARANTINED], paths.kept.suffix, _reason_of(rows, scores), _has_files(source)
            )
            parts[QUARANTINED], quarantine = aside, aside.quarantine
        partition(source, places, columns.row_hash, parts)
        files = {
            ROLES[place]: file_record(at[path], path.name, len(ids[place]))
            for place, path in roles.items()
        }
        report = build_report(
            source,
            scores,
            selection,
            ranked,
            paths_to_names(paths, QUARANTINED in roles),
            kept=ids[KEPT],
            dropped=ids[DROPPED],
            quarantined=quarantine,
            distance=columns.distance,
            percentile=columns.percentile,
            cut=choice.cut,
            per=_per(candidates_of(source, scores), selection, choice),
        )
        origin = {**report.made_from, "source_dataset": source_dataset}
        report = replace(report, files=files, made_from=origin)
        _write_faces(report, paths, at, card=card)
    if QUARANTINED not in roles:  # one of an earlier run would now be a lie
        paths.quarantined.unlink(missing_ok=True)
    return FilterResult(paths, report)


def _per(
    candidates: Candidates, selection: Selection, choice: Choice
) -> list[tuple[str, list[Loss]]]:
    """What the values of the columns that were named lose."""
    balanced = (selection.keep_balance,) if selection.keep_balance else ()
    columns = dict.fromkeys([*(selection.per or ()), *balanced])
    return [(c, losses(read_values(candidates, c), choice.dropped)) for c in columns]


def _write_faces(report: Report, paths: OutputPaths, at: dict[Path, Path], *, card: bool) -> None:
    """Write the report and its faces; the report's `files` gain a record of each face."""
    faces = {
        "report_html": (paths.report_html, to_html),
        "report_md": (paths.report_md, to_markdown),
    }
    if card:
        faces["card"] = (paths.card, to_card)
    for name, (path, face) in faces.items():
        at[path].write_text(face(report), encoding="utf-8")
        report.files[name] = file_record(at[path], path.name)
    at[paths.report_json].write_text(report.to_json(), encoding="utf-8")


def paths_to_names(paths: OutputPaths, has_quarantined: bool) -> dict[str, str]:
    """File names for the report, which is read beside them."""
    names = {"kept": paths.kept.name, "dropped": paths.dropped.name}
    if has_quarantined:
        names["quarantined"] = paths.quarantined.name
    return names


def _refuse_to_overwrite_inputs(paths: OutputPaths, source: Source, scores: Scores) -> None:
    for path in paths.all():
        for read in (*(file.path for file in source.files), scores.path):
            if path.exists() and os.path.samefile(path, read):
                raise SaefilterError(
                    f"{path} is read by this command and would be overwritten",
                    remedy="Choose another name with -o.",
                )


def _places(columns: _Columns, dropped: NDArray[np.int64], rows: TypedRows) -> NDArray[np.int8]:
    """Where each row goes, `[n_rows]`; `dropped` are row ids."""
    places = np.full(len(columns.scored), KEPT, dtype=np.int8)
    places[dropped] = DROPPED
    places[~columns.scored | (rows.conflict != 0)] = QUARANTINED
    return places


def _reason_of(rows: TypedRows, scores: Scores) -> Callable[[int], str]:
    """Why a row is quarantined, to be asked in the rows' order."""
    reasons = Reasons(scores)
    return lambda row_id: rows.why(row_id) or reasons.of(row_id)


def _parts(chosen: dict[int, Chosen], suffix: str, notes: Notes | None) -> dict[int, Part]:
    """The files of kept and dropped rows."""
    if suffix == ".parquet":
        return {KEPT: ParquetPart(chosen[KEPT]), DROPPED: ParquetPart(chosen[DROPPED], notes)}
    return {KEPT: JsonlPart(chosen[KEPT]), DROPPED: JsonlPart(chosen[DROPPED], notes)}


def _has_files(source: Source) -> bool:
    return any(source.name_of(file) is not None for file in source.files)


def _notes(
    source: Source, dropped: NDArray[np.int64], columns: _Columns, ranked: Ranked
) -> Notes | None:
    """What is added to the dropped rows; nothing where there are none."""
    if not len(dropped):
        return None
    has_percentile = not np.isnan(columns.percentile[dropped]).all()
    types = added_columns(
        has_percentile=has_percentile,
        has_file=_has_files(source),
        has_score=ranked.ranking.score is not None,
    )
    return Notes(types, lambda piece, positions: _annotations(piece, positions, columns, ranked))


def _annotations(
    piece: Piece, positions: Sequence[int], columns: _Columns, ranked: Ranked
) -> Annotations:
    ids = np.asarray(positions, dtype=np.int64) + piece.first
    percentile = [None if np.isnan(p) else float(p) for p in columns.percentile[ids]]
    return Annotations(
        distance=columns.distance[ids].tolist(),
        percentile=percentile,
        reason=ranked.reasons(ids),
        row_id=ids.tolist(),
        line=[piece.line(i) for i in positions],
        file=None if piece.file is None else [piece.file] * len(ids),
        score=ranked.scores(ids),
    )
