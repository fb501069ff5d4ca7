"""Filter a scored dataset: kept, dropped and quarantined rows and the report. No torch here."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from saefilter.errors import SaefilterError
from saefilter.report.build import build_report
from saefilter.report.card import to_card
from saefilter.report.data import Report
from saefilter.report.html import to_html
from saefilter.report.markdown import to_markdown
from saefilter.rows.read import Source
from saefilter.rows.tables import InputTable, read_table
from saefilter.rows.write import Annotations, QuarantinedRow, check_output_name
from saefilter.run.conserve import check_read
from saefilter.run.outputs import (
    CheckedWriter,
    OutputPaths,
    file_record,
    made_by,
    refuse_own_columns,
)
from saefilter.run.publish import exclusive, publishing
from saefilter.run.scores import SCORED, Scores
from saefilter.select.candidates import Candidates
from saefilter.select.ranking import Ranked
from saefilter.select.strategies import Choice, Selection, choose
from saefilter.watch import Watch


@dataclass(frozen=True)
class FilterResult:
    """What was written."""

    paths: OutputPaths
    report: Report


@dataclass(frozen=True)
class _Columns:
    """The scores that selection and report need, one entry per input row."""

    line: NDArray[np.int64]
    row_hash: list[str]
    file: pa.ChunkedArray
    scored: NDArray[np.bool_]
    reason: pa.ChunkedArray
    distance: NDArray[np.float64]
    percentile: NDArray[np.float64]

    @classmethod
    def of(cls, scores: Scores) -> _Columns:
        table = scores.read(
            ["line", "row_hash", "file", "status", "reason", "distance", "percentile"]
        )
        return cls(
            table["line"].to_numpy(),
            table["row_hash"].to_pylist(),
            table["file"],
            pc.equal(table["status"], SCORED).to_numpy(),
            table["reason"],
            table["distance"].to_numpy(zero_copy_only=False),
            table["percentile"].to_numpy(zero_copy_only=False).astype(np.float64),
        )


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
    table = scores.read(["status", "distance"])
    row_ids = np.flatnonzero(pc.equal(table["status"], SCORED).to_numpy())
    distance = table["distance"].to_numpy(zero_copy_only=False)[row_ids]
    return Candidates(distance, row_ids, scores, source, watch or Watch())


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
    rows = read_table(source, scored_ids.tolist())
    refuse_own_columns(rows, source)
    fits = np.isin(scored_ids, rows.row_ids)
    dropped = np.flatnonzero(choice.dropped[fits])
    kept = np.flatnonzero(~choice.dropped[fits])
    quarantined = _quarantined_rows(source, columns, rows)
    _check_conservation(len(columns.line), rows, kept, dropped, quarantined)
    check_read(source, rows, quarantined, columns.row_hash)

    ranked = Ranked(choice.ranking, scored_ids)
    report = build_report(
        source,
        scores,
        selection,
        ranked,
        paths_to_names(paths, bool(quarantined)),
        kept=np.asarray(rows.row_ids)[kept],
        dropped=np.asarray(rows.row_ids)[dropped],
        quarantined=quarantined,
        distance=columns.distance,
        percentile=columns.percentile,
    )
    to_write = [p for p in paths.wanted(card) if p != paths.quarantined or quarantined]
    with publishing(to_write) as temporary:
        at = dict(zip(to_write, temporary, strict=True))
        writer = CheckedWriter(
            rows, columns.row_hash, paths.kept.suffix, made_by(scores, selection, choice.ranking)
        )
        writer.write("kept", at[paths.kept], kept)
        notes = _annotations(rows, dropped, columns, ranked)
        writer.write("dropped", at[paths.dropped], dropped, notes)
        if quarantined:
            writer.write_quarantined(at[paths.quarantined], quarantined)
        named = {"kept": paths.kept, "dropped": paths.dropped, "quarantined": paths.quarantined}
        files = {
            role: file_record(at[named[role]], named[role].name, n_rows)
            for role, n_rows in writer.written.items()
        }
        report = replace(
            report, files=files, made_from={**report.made_from, "source_dataset": source_dataset}
        )
        faces = {
            "report_html": (paths.report_html, to_html),
            "report_md": (paths.report_md, to_markdown),
        }
        if card:
            faces["card"] = (paths.card, to_card)
        for name, (path, face) in faces.items():
            at[path].write_text(face(report), encoding="utf-8")
            files[name] = file_record(at[path], path.name)
        at[paths.report_json].write_text(report.to_json(), encoding="utf-8")
    if not quarantined:  # one of an earlier run would now be a lie
        paths.quarantined.unlink(missing_ok=True)
    return FilterResult(paths, report)


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


def _quarantined_rows(source: Source, columns: _Columns, rows: InputTable) -> list[QuarantinedRow]:
    reasons: dict[int, str] = {
        int(i): columns.reason[int(i)].as_py() or "not scored"
        for i in np.flatnonzero(~columns.scored)
    }
    reasons.update(rows.conflicts)
    if not reasons:
        return []
    return [QuarantinedRow(row, reasons[row.index]) for row in source.rows(reasons)]


def _check_conservation(
    n_rows: int,
    rows: InputTable,
    kept: NDArray[np.int64],
    dropped: NDArray[np.int64],
    quarantined: list[QuarantinedRow],
) -> None:
    """Every input row is in exactly one place."""
    places = [rows.row_ids[i] for i in kept] + [rows.row_ids[i] for i in dropped]
    places += [row.index for row, _ in quarantined]
    if sorted(places) != list(range(n_rows)):
        raise SaefilterError(
            f"rows would be lost: {len(kept)} kept, {len(dropped)} dropped and {len(quarantined)} "
            f"quarantined are not the {n_rows} rows of the input",
            remedy="Nothing was written. Please report this as a bug.",
        )


def _annotations(
    rows: InputTable, dropped: NDArray[np.int64], columns: _Columns, ranked: Ranked
) -> Annotations:
    ids = np.asarray(rows.row_ids, dtype=np.int64)[dropped]
    percentile = [None if np.isnan(p) else float(p) for p in columns.percentile[ids]]
    return Annotations(
        distance=columns.distance[ids].tolist(),
        percentile=percentile,
        reason=ranked.reasons(ids),
        row_id=ids.tolist(),
        line=columns.line[ids].tolist(),
        file=columns.file.take(ids).to_pylist() if columns.file.null_count == 0 else None,
        score=ranked.scores(ids),
    )
