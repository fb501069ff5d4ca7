"""Filter a scored dataset: kept, dropped and quarantined rows and the report. No torch here."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from saefilter import __version__
from saefilter.errors import SaefilterError
from saefilter.report.build import build_report
from saefilter.report.card import to_card
from saefilter.report.data import Report
from saefilter.report.html import to_html
from saefilter.report.markdown import to_markdown
from saefilter.rows.read import Source
from saefilter.rows.tables import InputTable, read_table
from saefilter.rows.write import (
    Annotations,
    QuarantinedRow,
    check_output_name,
    write_quarantined,
    write_rows,
)
from saefilter.run.conserve import (
    check_jsonl,
    check_parquet,
    check_quarantined,
    check_read,
    entries_of,
    expected_content,
    row_hashes_sha256,
)
from saefilter.run.integrity import file_sha256
from saefilter.run.publish import publishing, refuse_existing
from saefilter.run.scores import METADATA_KEY, SCORED, Scores
from saefilter.select.strategies import Selection, choose_dropped

ARTIFACT_VERSION = 1
"""Of the provenance in kept, dropped and quarantined Parquet files."""


@dataclass(frozen=True)
class OutputPaths:
    """Where everything goes, all beside the kept rows."""

    kept: Path
    dropped: Path
    quarantined: Path
    report_html: Path
    report_json: Path
    report_md: Path
    card: Path
    """Only on request."""

    @classmethod
    def beside(cls, kept: Path) -> OutputPaths:
        """`out.parquet` -> `out.dropped.parquet`, `out.report.html`, ..."""

        def named(ending: str) -> Path:
            return kept.with_name(kept.stem + ending)

        return cls(
            kept,
            named(f".dropped{kept.suffix}"),
            named(f".quarantined{kept.suffix}"),
            named(".report.html"),
            named(".report.json"),
            named(".report.md"),
            named(".README.md"),
        )

    def all(self) -> list[Path]:
        return list(vars(self).values())

    def wanted(self, card: bool) -> list[Path]:
        """Those that a run may write."""
        return [path for path in self.all() if card or path != self.card]


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
) -> FilterResult:
    """Write the kept rows to `output`, everything else beside it, after checking that no row is lost.

    The checks are on what was written, read back before it gets its final name (`conserve.py`).
    `card` adds a dataset card.
    Raises SaefilterError when the input is not the one that was scored, when an output is in the
    way, or when the request makes no sense; then nothing is written.
    """
    selection.check()
    check_output_name(output)
    paths = OutputPaths.beside(output)
    refuse_existing(paths.wanted(card), overwrite=overwrite)
    _refuse_to_overwrite_inputs(paths, source, scores)
    source.refuse_to_join(paths.all())
    if source.sha256() != scores.provenance.input_sha256:
        raise SaefilterError(
            f"{source.path} is not the data that {scores.path} was made from (its content differs)",
            remedy=f"Score it again: saefilter score {source.path} --overwrite",
        )
    scores.verify()
    columns = _Columns.of(scores)
    scored_ids = np.flatnonzero(columns.scored)
    dropped_mask = choose_dropped(columns.distance[scored_ids], selection)
    rows = read_table(source, scored_ids.tolist())
    fits = np.isin(scored_ids, rows.row_ids)
    dropped = np.flatnonzero(dropped_mask[fits])
    kept = np.flatnonzero(~dropped_mask[fits])
    quarantined = _quarantined_rows(source, columns, rows)
    _check_conservation(len(columns.line), rows, kept, dropped, quarantined)
    check_read(source, rows, quarantined, columns.row_hash)

    report = build_report(
        source,
        scores,
        selection,
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
        writer = _Writer(rows, columns.row_hash, output.suffix, _made_by(scores, selection))
        writer.write("kept", at[paths.kept], kept)
        notes = _annotations(rows, dropped, columns, selection)
        writer.write("dropped", at[paths.dropped], dropped, notes)
        if quarantined:
            writer.write_quarantined(at[paths.quarantined], quarantined)
        named = {"kept": paths.kept, "dropped": paths.dropped, "quarantined": paths.quarantined}
        files = {
            role: file_record(at[named[role]], named[role].name, n_rows)
            for role, n_rows in writer.written.items()
        }
        report = replace(report, files=files)
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
    rows: InputTable, dropped: NDArray[np.int64], columns: _Columns, selection: Selection
) -> Annotations:
    ids = np.asarray(rows.row_ids, dtype=np.int64)[dropped]
    percentile = [None if np.isnan(p) else float(p) for p in columns.percentile[ids]]
    reason = "drawn at random" if selection.strategy == "random" else "close to toxic features"
    return Annotations(
        distance=columns.distance[ids].tolist(),
        percentile=percentile,
        reason=[reason] * len(ids),
        row_id=ids.tolist(),
        line=columns.line[ids].tolist(),
        file=columns.file.take(ids).to_pylist() if columns.file.null_count == 0 else None,
    )


def _made_by(scores: Scores, selection: Selection) -> dict[str, Any]:
    """What made the files, without times and places, so that equal input and settings give equal
    bytes."""
    made = asdict(scores.provenance)
    for name in ("created", "seconds", "input_path", "spillover"):
        made.pop(name)
    return {
        "artifact_version": ARTIFACT_VERSION,
        "filtered_by": __version__,
        "scores": made,
        "selection": asdict(selection),
    }


@dataclass
class _Writer:
    """Writes rows under temporary names and reads back what it wrote."""

    rows: InputTable
    hashes: list[str]
    suffix: str
    made_by: dict[str, Any]
    written: dict[str, int] = field(default_factory=dict)
    """Role of a file -> its rows."""

    def write(
        self, role: str, path: Path, positions: NDArray[np.int64], notes: Annotations | None = None
    ) -> None:
        """Raises SaefilterError when the file does not hold exactly the rows at `positions`."""
        places = positions.tolist()
        self.written[role] = len(places)
        if self.suffix != ".parquet":
            write_rows(self.rows, places, path, self.suffix, annotations=notes)
            check_jsonl(path, role, self.rows, places, annotated=notes is not None)
            return
        content = expected_content(self.rows, places, notes)
        ids = [self.rows.row_ids[i] for i in places]
        metadata = self._metadata(role, ids, content)
        write_rows(self.rows, places, path, self.suffix, annotations=notes, metadata=metadata)
        check_parquet(path, role, len(places), content)

    def write_quarantined(self, path: Path, quarantined: list[QuarantinedRow]) -> None:
        """Raises SaefilterError when the file does not hold exactly these rows."""
        ids = [row.index for row, _ in quarantined]
        self.written["quarantined"] = len(ids)
        write_quarantined(quarantined, path, self.suffix, self._metadata("quarantined", ids, None))
        check_quarantined(entries_of(path, self.suffix), {i: self.hashes[i] for i in ids})

    def _metadata(self, role: str, ids: list[int], content: str | None) -> dict[bytes, bytes]:
        made = {
            **self.made_by,
            "role": role,
            "rows": len(ids),
            "row_hashes_sha256": row_hashes_sha256(self.hashes, ids),
            "content_sha256": content,
        }
        return {METADATA_KEY: json.dumps(made).encode()}


def file_record(path: Path, name: str, rows: int | None = None) -> dict[str, Any]:
    """What the report keeps of a file that will be called `name`."""
    record: dict[str, Any] = {
        "name": name,
        "sha256": file_sha256(path),
        "bytes": path.stat().st_size,
    }
    return record if rows is None else {**record, "rows": rows}
