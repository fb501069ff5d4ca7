"""Filter a scored dataset: kept, dropped and quarantined rows and the report. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from saefilter.artifacts.decisions import Decisions
from saefilter.artifacts.publish import exclusive, publishing
from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.filtering.annotate import ScoreColumns, has_files, notes_on
from saefilter.filtering.conserve import Placed
from saefilter.filtering.job import FilterResult, Job, explorer_on, report_on, write_faces
from saefilter.filtering.outputs import OutputPaths, file_record, made_by, refuse_own_columns
from saefilter.filtering.parts import (
    DROPPED,
    KEPT,
    QUARANTINED,
    ROLES,
    Chosen,
    LinesPart,
    ParquetPart,
    Part,
    QuarantinePart,
    Reasons,
    partition,
)
from saefilter.filtering.soft import (
    LABELS,
    MASK,
    WEIGHTS,
    Soft,
    SoftOptions,
    refuse_columns,
    weighted,
)
from saefilter.filtering.switch import ROW_IDS, pushing, refuse_others, switched
from saefilter.report.explore import N_ROWS
from saefilter.rows.read import Source
from saefilter.rows.tables import UNTYPED, TypedRows, typed_rows
from saefilter.rows.written import CSV, JSONL, PARQUET, check_csv, check_output_name, format_of
from saefilter.select.strategies import Choice, Selection
from saefilter.settings import ScoreSettings
from saefilter.storage import Location, same_file
from saefilter.watch import Watch


def filter_file(
    source: Source,
    scores: Scores,
    output: Location,
    selection: Selection,
    *,
    overwrite: bool = False,
    card: bool = False,
    source_dataset: str | None = None,
    watch: Watch | None = None,
    choice: Choice | None = None,
    options: SoftOptions | None = None,
    report_rows: int = N_ROWS,
    settings: ScoreSettings | None = None,
    decisions: Decisions | None = None,
) -> FilterResult:
    """Write the kept rows to `output`, everything else beside it, after checking that no row is lost.

    The checks are on what was written, read back before it gets its final name (`conserve.py`).
    `card` adds a dataset card, which names `source_dataset`, the input's name on the hub. `watch` is
    told how far a slow strategy has come; with `choice`, what the selection gave before is taken.
    `options`: write all scored rows instead, with weights, marks or labels (soft.py); marks are found by
    reading rows again, as the scores were made, on the device that `settings` say. `decisions`: rows that a
    person keeps or drops, whatever the selection says (select/decided.py). `report_rows`: how many rows at most
    can be looked through in the report's page, whose texts it then holds.
    Raises SaefilterError when the input is not the one that was scored, when an output is in the
    way, or when the request makes no sense; then nothing is written.
    """
    selection.check()
    options = options or SoftOptions()
    options.check_with(selection)
    if decisions is not None:
        options.check_decided()
    check_writable(output, source, options)
    paths = OutputPaths.beside(output)
    paths.refuse_existing(card=card, overwrite=overwrite)
    _refuse_to_overwrite_inputs(paths, source, scores)
    source.refuse_to_join(paths.all())
    scores.check_belongs(source)
    scores.verify()
    with exclusive(output, paths.all()):
        paths.refuse_existing(card=card, overwrite=overwrite)
        job = Job.of(source, scores, paths, selection, choice, watch, decisions)
        soft = _soft(options, job, settings or ScoreSettings())
        swaps = options.swaps and soft is None
        job = replace(job, soft=soft, swaps=swaps, report_rows=report_rows)
        return _filter(job, card, source_dataset)


def check_writable(output: Location, source: Source, options: SoftOptions) -> None:
    """Raises SaefilterError when the rows of a source are not written under such a name."""
    check_output_name(output)
    if format_of(output.name) == CSV:
        check_csv(source)
        options.check_csv()


def _filter(job: Job, card: bool, source_dataset: str | None) -> FilterResult:
    source, columns, paths = job.source, job.columns, job.paths
    rows = typed_rows(source, columns.scored)
    if format_of(paths.kept.name) == JSONL and source.kind in UNTYPED:  # it need not be one table
        rows = replace(rows, conflict=np.zeros(len(rows.conflict), dtype=np.int32))
    refuse_own_columns(rows.schema.names, source)
    if job.swaps:
        job = replace(job, soft=switched(job.candidates, job.choice, rows))
    soft = job.soft
    if soft is not None:
        refuse_columns(soft.about, rows.schema.names, str(source.path))
    places = _places(columns, job.gone if soft is None else None, rows)
    _refuse_to_keep_nothing(job, rows)
    roles = {KEPT: paths.kept, DROPPED: paths.dropped, QUARANTINED: paths.quarantined}
    absent = [DROPPED] if soft else []
    placed = {place: Placed(places, place) for place in roles}
    unwritten = [roles.pop(place) for place in absent]
    to_write = [path for path in paths.wanted(card) if path not in unwritten]
    about = {name: value for name, value in soft.about.items() if name != ROW_IDS} if soft else None
    made = made_by(job.scores, job.selection, job.choice, about)
    superseded = paths.superseded(source)
    with publishing(to_write, paths.manifest) as temporary:
        at = dict(zip(to_write, temporary, strict=True))
        chosen = {
            place: Chosen(
                ROLES[place], at[path], rows, placed[place], columns.row_hash, made, path.name
            )
            for place, path in roles.items()
        }
        aside = QuarantinePart(chosen[QUARANTINED], _reason_of(rows, job.scores), has_files(source))
        parts = {**_parts(job, chosen, places), QUARANTINED: aside}
        partition(source, places, columns.row_hash, parts)
        files = {
            ROLES[place]: file_record(at[path], path.name, placed[place].count)
            for place, path in roles.items()
        }
        names = {ROLES[place]: path.name for place, path in roles.items()}
        report = report_on(job, places, names, aside.quarantine)
        origin = {**report.made_from, "source_dataset": source_dataset}
        report = replace(report, files=files, made_from=origin)
        write_faces(report, paths, at, card=card, explorer=explorer_on(job, places, report))
    for path in (*unwritten, *superseded):  # one of an earlier run would now be a lie
        path.unlink(missing_ok=True)
    return FilterResult(paths, report)


def _soft(options: SoftOptions, job: Job, settings: ScoreSettings) -> Soft | None:
    """What is written instead of kept and dropped rows, where that is asked for."""
    candidates, choice, columns, ranked = job.candidates, job.choice, job.columns, job.ranked
    if options.preference is not None:
        assert candidates.scores is not None
        refuse_others(candidates.scores)
    if options.written_as == WEIGHTS:
        return weighted(options, candidates, choice, len(columns.scored))
    if options.written_as == MASK:
        from saefilter.filtering.mask import masked  # reads with a model

        return masked(options, candidates, choice, settings)
    if options.written_as != LABELS:
        return None
    assert candidates.source is not None
    label = "switch" if options.swaps else "drop"
    chosen = pushing(candidates, choice) if options.swaps else candidates.row_ids[choice.dropped]
    labels = np.full(len(columns.scored), "keep", dtype=object)
    labels[chosen] = label
    notes = notes_on(candidates.source, columns.scored, columns, ranked, labels)
    names = list(notes.types.names) if notes else []
    return (
        Soft(notes, {"as": LABELS, "how": f"{label} or keep", "columns": names}) if notes else None
    )


def _refuse_to_overwrite_inputs(paths: OutputPaths, source: Source, scores: Scores) -> None:
    for path in paths.all():
        for read in (*(file.path for file in source.files), scores.path):
            if same_file(path, read):
                raise SaefilterError(
                    f"{path} is read by this command and would be overwritten",
                    remedy="Choose another name with -o.",
                )


def _places(
    columns: ScoreColumns, dropped: NDArray[np.bool_] | None, rows: TypedRows
) -> NDArray[np.int8]:
    """Where each row goes, `[n_rows]`, and so are those that are `dropped`, if any."""
    places = np.full(len(columns.scored), KEPT, dtype=np.int8)
    if dropped is not None:
        places[dropped] = DROPPED
    places[~columns.scored | (rows.conflict != 0)] = QUARANTINED
    return places


def _refuse_to_keep_nothing(job: Job, rows: TypedRows) -> None:
    """Raises SaefilterError when every scored row would be set aside for its types."""
    scored = job.columns.scored
    if not scored.any() or (scored & (rows.conflict == 0)).any():
        return
    first = int(np.flatnonzero(scored)[0])
    raise SaefilterError(
        f"none of the {int(scored.sum()):,} scored rows fits into one table: {rows.why(first)}",
        where=str(job.source.path), remedy="Write JSONL, which needs none: -o NAME.jsonl",
    )  # fmt: skip


def _reason_of(rows: TypedRows, scores: Scores) -> Callable[[int], str]:
    """Why a row is quarantined, to be asked in the rows' order."""
    reasons = Reasons(scores)
    return lambda row_id: rows.why(row_id) or reasons.of(row_id)


def _parts(job: Job, chosen: dict[int, Chosen], places: NDArray[np.int8]) -> dict[int, Part]:
    """The files of kept and dropped rows."""
    part = ParquetPart if format_of(job.paths.kept.name) == PARQUET else LinesPart
    if job.soft is not None:
        return {KEPT: part(chosen[KEPT], job.soft.additions)}
    notes = notes_on(job.source, places == DROPPED, job.columns, job.ranked)
    return {KEPT: part(chosen[KEPT]), DROPPED: part(chosen[DROPPED], notes)}
