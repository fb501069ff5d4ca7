"""Filter a folder of files to a folder of files: one cut over all rows, names and layout kept."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saefilter.artifacts.decisions import Decisions
from saefilter.artifacts.folder import publishing_folder, refuse_foreign, tidy_up
from saefilter.artifacts.publish import exclusive, refuse_unwritable
from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.filtering.annotate import has_files, notes_on
from saefilter.filtering.conserve import Placed
from saefilter.filtering.filter import check_writable, filter_file
from saefilter.filtering.job import FilterResult, Job, explorer_on, report_on, write_faces
from saefilter.filtering.layout import FolderPart, LaidOut, laid_out, records
from saefilter.filtering.outputs import OutputPaths, made_by, refuse_own_columns
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
from saefilter.filtering.soft import SoftOptions
from saefilter.report.build import Quarantine
from saefilter.report.data import Report
from saefilter.report.explore import N_ROWS
from saefilter.rows.inputs import FOLDER_REPORT
from saefilter.rows.read import TABLES, Source
from saefilter.rows.tables import TypedRows, typed_rows
from saefilter.select.balance import FILE
from saefilter.select.strategies import Choice, Selection
from saefilter.settings import ScoreSettings
from saefilter.storage import Location
from saefilter.watch import Watch


def paths_in(folder: Path) -> OutputPaths:
    """Where the report goes; rows go wherever their own file says."""
    beside = OutputPaths.beside(folder / FOLDER_REPORT.replace(".report.json", ".jsonl"))
    return replace(beside, kept=folder, dropped=folder, quarantined=folder)


def writer_to(
    place: Location,
    source: Source,
    options: SoftOptions,
    *,
    folder: bool,
    card: bool = False,
    overwrite: bool = False,
    report_rows: int = N_ROWS,
    settings: ScoreSettings | None = None,
) -> Callable[..., FilterResult]:
    """`filter_folder` or `filter_file` with all but scores, selection and what depends on these. `settings`: of
    scoring, for what one file's soft outputs score anew.

    Raises SaefilterError where it could not write there, before anything is scored.
    """
    how: dict[str, Any] = {
        "card": card, "overwrite": overwrite, "options": options, "report_rows": report_rows,
    }  # fmt: skip
    if folder:
        target = Path(str(place))
        check_folder(source, target, options, overwrite=overwrite)
        return partial(filter_folder, source, output=target, **how)
    check_writable(place, source, options)
    OutputPaths.beside(place).refuse_existing(card=card, overwrite=overwrite)
    return partial(filter_file, source, output=place, settings=settings, **how)


def check_folder(source: Source, folder: Path, options: SoftOptions, *, overwrite: bool) -> None:
    """Raises SaefilterError when the rows of a source cannot go to a folder."""
    if options.is_soft or options.swaps:
        raise SaefilterError(
            "--as and --preference swap write one file", remedy="Use --single, or -o NAME.jsonl."
        )
    _refuse_to_join(source, folder, laid_out(source))
    if not folder.exists():
        refuse_unwritable(folder.absolute().parent)
        return
    if not folder.is_dir():
        raise SaefilterError(f"{folder} is a file", remedy="Name a folder with -o.")
    if not any(folder.iterdir()):
        return
    if not overwrite:
        raise SaefilterError(
            f"{folder} exists already", remedy="Use --overwrite, or another name with -o."
        )
    refuse_foreign(folder, _written_before(folder))


def _refuse_to_join(source: Source, folder: Path, files: list[LaidOut]) -> None:
    """Raises SaefilterError when the folder is where the input lies, or the current one."""
    home = folder.resolve()
    if home in (Path.cwd(), *Path.cwd().parents):
        raise SaefilterError(f"{folder} is the current folder or holds it",
                             remedy="Name a new folder with -o.")  # fmt: skip
    for file in source.files:
        if file.path.resolve().is_relative_to(home):
            raise SaefilterError(f"{file.path} is read by this command and would be overwritten",
                                 remedy="Name another folder with -o.")  # fmt: skip
    joins = source.path.is_dir() and home.is_relative_to(source.path.resolve())
    if "**" in source.path.parts:  # without it what is written lies deeper than a pattern reaches
        pattern = str(source.path.absolute())
        joins = any(fnmatch.fnmatch(str(home / one.names[KEPT]), pattern) for one in files)
    if joins:
        raise SaefilterError(
            f"{folder} would be read as data of {source.path} by the next run",
            remedy="Choose another place with -o.",
        )


def _written_before(folder: Path) -> Iterable[str]:
    """The files that a run of filter wrote into a folder, by its report; none where there is no such."""
    try:
        report = json.loads((folder / FOLDER_REPORT).read_text(encoding="utf-8"))
        faces = [record["name"] for record in report["files"].values()]
        rows = [
            one[role]["name"] for one in report["layout"] for role in ROLES.values() if role in one
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return [FOLDER_REPORT, *faces, *rows]


def filter_folder(
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
    decisions: Decisions | None = None,
) -> FilterResult:
    """Write each file of `source` into the folder `output`, with its name and place: the kept rows, its dropped and
    quarantined rows beside them, and one report of all. The cut is over all rows, or by itself in each
    file where the selection keeps the balance of `file`.

    All of it appears at once, after the checks of `filter_file`; the arguments are the same.
    Raises SaefilterError, and then nothing is written.
    """
    assert isinstance(output, Path)  # of one in a store, goes_to_folder says so
    folder = output.resolve() if output.is_symlink() else output  # the name is what is replaced
    selection.check()
    options = options or SoftOptions()
    options.check_with(selection)
    check_folder(source, folder, options, overwrite=overwrite)
    scores.check_belongs(source)
    scores.verify()
    with exclusive(folder):
        tidy_up(folder)
        check_folder(source, folder, options, overwrite=overwrite)
        job = Job.of(source, scores, paths_in(folder), selection, choice, watch, decisions)
        job = replace(job, report_rows=report_rows)
        if len(source.files) > 1:
            job = replace(job, also=(FILE,))
        with publishing_folder(folder) as staged:
            report = _write(job, folder.name, staged, card, source_dataset)
    return FilterResult(job.paths, report)


def _write(job: Job, name: str, staged: Path, card: bool, source_dataset: str | None) -> Report:
    columns = job.columns
    files = laid_out(job.source)
    starts = [0, *np.cumsum(job.scores.rows_of_files(job.source)).tolist()]
    places = np.full(len(columns.scored), KEPT, dtype=np.int8)
    places[job.gone] = DROPPED
    places[~columns.scored] = QUARANTINED
    opener = _Opener(job, files, starts, places)
    of_place = [
        FolderPart(place, staged, files, starts, places, open_one)
        for place, open_one in (
            (KEPT, opener.kept), (DROPPED, opener.dropped), (QUARANTINED, opener.quarantined),
        )
    ]  # fmt: skip
    partition(job.source, places, columns.row_hash, {part.place: part for part in of_place})
    report = report_on(job, places, {"kept": name}, opener.quarantine)
    report = replace(
        report,
        layout=records(files, starts, of_place),
        made_from={**report.made_from, "source_dataset": source_dataset},
    )
    at = {path: staged / path.name for path in job.paths.wanted(card)}
    write_faces(report, job.paths, at, card=card, explorer=explorer_on(job, places, report))
    return report


class _Opener:
    """Opens the parts of single files, which share what is known of all rows."""

    def __init__(self, job: Job, files: list[LaidOut], starts: list[int], places: NDArray[np.int8]):
        self._job, self._files, self._starts, self._places = job, files, starts, places
        self._made = made_by(job.scores, job.selection, job.choice)
        self._notes = notes_on(job.source, places == DROPPED, job.columns, job.ranked)
        self._reasons = Reasons(job.scores)
        self._has_file = has_files(job.source)
        self.quarantine = Quarantine()

    def kept(self, number: int, path: Path) -> Part:
        return self._part_type(number)(self._chosen(KEPT, number, path))

    def dropped(self, number: int, path: Path) -> Part:
        return self._part_type(number)(self._chosen(DROPPED, number, path), self._notes)

    def quarantined(self, number: int, path: Path) -> Part:
        return QuarantinePart(
            self._chosen(QUARANTINED, number, path), self._reasons.of,
            self._has_file, quarantine=self.quarantine,
        )  # fmt: skip

    def _part_type(self, number: int) -> type[ParquetPart] | type[LinesPart]:
        return ParquetPart if self._files[number].is_table else LinesPart

    def _chosen(self, place: int, number: int, path: Path) -> Chosen:
        one, rows = self._files[number], slice(*self._starts[number : number + 2])
        here = self._places[rows]
        if one.file.kind in TABLES:
            typed = typed_rows(one.file, np.zeros(len(here), dtype=np.bool_))
            refuse_own_columns(typed.schema.names, one.file)
        else:  # JSON lines, which need no common types
            typed = TypedRows(one.file, pa.schema([]), np.zeros(len(here), dtype=np.int32), [])
        return Chosen(
            ROLES[place], path, typed, Placed(here, place),
            self._job.columns.row_hash.part(rows.start, rows.stop),
            self._made, path.name, (self._starts[number], self._job.source.name_of(one.file)), one_table=False,
        )  # fmt: skip
