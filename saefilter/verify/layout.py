"""A folder of files that was filtered: every file as the report has it, every row in its own file's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from saefilter.artifacts.integrity import file_sha256
from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.filtering.parts import ROLES
from saefilter.rows.inputs import FOLDER_REPORT, open_input
from saefilter.rows.read import Source
from saefilter.verify.findings import MISMATCH, NOT_FOUND, OK, Findings
from saefilter.verify.rows import Parts, ScoredRows, compared, conserved

N_TOLD = 5
"""Of many files."""


def report_above(path: Path) -> Path | None:
    """The report of the folder that a path is, or that it lies in; None where there is none of it."""
    if path.is_dir():
        return path / FOLDER_REPORT if (path / FOLDER_REPORT).is_file() else None
    for folder in path.absolute().parents:
        report = folder / FOLDER_REPORT
        if not report.is_file():
            continue
        name = path.absolute().relative_to(folder).as_posix()
        if name.startswith(FOLDER_REPORT.removesuffix("json")) or _names(report, name):
            return report
    return None


def _names(report: Path, name: str) -> bool:
    """Whether a file is one of a report."""
    try:
        layout = json.loads(report.read_text(encoding="utf-8"))["layout"]
        return any(
            one.get(role, {}).get("name") == name for one in layout for role in ROLES.values()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def check_layout_files(findings: Findings, folder: Path, layout: list[dict[str, Any]]) -> bool:
    """The files have the bytes that the report says, and no other file would be read with them; whether all
    are there and have them."""
    missing, other, known = [], [], set[str]()
    for one in layout:
        for role in ROLES.values():
            if (record := one.get(role)) is None:
                continue
            known.add(str(record["name"]))
            path = _within(folder, str(record["name"]))
            if not path.is_file():
                missing.append(record["name"])
            elif file_sha256(path) != record["sha256"]:
                other.append(record["name"])
    if other:
        findings.add("files", MISMATCH, f"changed after they were written: {_some(other)}")
    if foreign := _foreign(folder, known):
        findings.add("files", MISMATCH, f"read as data here and not of this run: {_some(foreign)}")
    if missing:
        findings.add("files", NOT_FOUND, f"not there: {_some(missing)}")
    if not missing and not other and not foreign:
        findings.add("files", OK, f"bytes of {len(known):,} files of {len(layout):,}")
    return not missing and not other


def _foreign(folder: Path, known: set[str]) -> list[str]:
    """The files that who reads the folder would read too."""
    try:
        read = open_input(folder).files
    except SaefilterError:  # there is nothing to be read, or not all of it
        return []
    names = (file.path.relative_to(folder).as_posix() for file in read)
    return [name for name in names if name not in known]


def check_layout_rows(
    findings: Findings,
    folder: Path,
    layout: list[dict[str, Any]],
    scores: Scores,
    source: Source | None,
) -> None:
    """Each row is in a file of its own file, with the values of the input where that is there."""
    rows = ScoredRows.of(scores)
    files = dict(zip((one["file"] for one in layout), _members(layout, source), strict=True))

    def conservation() -> str:
        counts, n_rows = np.zeros(3, dtype=np.int64), 0
        for one, parts, own in _each(folder, layout, rows):
            try:
                ids = conserved(parts, own)
            except SaefilterError as error:
                raise SaefilterError(f"{one['file']}: {error}") from error
            counts += [len(ids.kept), len(ids.dropped), len(ids.quarantined)]
            n_rows += one["rows"]
        if n_rows != len(rows.hashes):
            raise SaefilterError(f"{n_rows:,} rows in files where {len(rows.hashes):,} were scored")
        kept, dropped, quarantined = counts.tolist()
        return (
            f"{kept:,} kept + {dropped:,} dropped + {quarantined:,} quarantined = {n_rows:,} scored "
            f"rows, each in one place, of {len(layout):,} files"
        )

    def values() -> str:
        count = 0
        for one, parts, own in _each(folder, layout, rows):
            file = files[one["file"]]
            assert file is not None
            count += compared(parts, own, file)
        return f"all {count:,} kept and dropped rows are those of their files"

    if findings.attempt("conservation", conservation) and source is not None:
        findings.attempt("rows", values)


def _members(layout: list[dict[str, Any]], source: Source | None) -> list[Source | None]:
    """The input's files, in order."""
    return [*source.files] if source is not None else [None] * len(layout)


def _each(
    folder: Path, layout: list[dict[str, Any]], rows: ScoredRows
) -> Iterator[tuple[dict[str, Any], Parts, ScoredRows]]:
    """What the report says of each file, what was written of it, and its rows."""
    first = 0
    for one in layout:
        kept, dropped, quarantined = (
            _within(folder, str(one[role]["name"])) if role in one else None
            for role in ("kept", "dropped", "quarantined")
        )
        yield one, Parts(kept, dropped, quarantined), rows.part(first, one["rows"])
        first += one["rows"]


def _within(folder: Path, name: str) -> Path:
    """Raises SaefilterError for a name that leads out of the folder."""
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts:
        raise SaefilterError(f"the report names {name}, which is not in {folder}")
    return folder / name


def _some(names: list[str]) -> str:
    more = len(names) - N_TOLD
    return ", ".join(names[:N_TOLD]) + (f" and {more:,} more" if more > 0 else "")
