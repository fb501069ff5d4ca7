"""Do artifacts belong together? Hashes are computed again and compared with what was recorded.

Says for every check `ok`, `mismatch` or `not found`. This finds confusion, accidents and careless
edits; it is no signature, since who can edit a file can also edit the hash in it. No torch here.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from saefilter.artifacts.integrity import file_sha256, parquet_content
from saefilter.artifacts.manifest import copy_with_neighbours, stem_of
from saefilter.artifacts.provenance import METADATA_KEY, PART_KEY
from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.filtering.parts import ROLES
from saefilter.storage import Location, RemotePath
from saefilter.toxic.load import find_toxic_set, load_toxic_set
from saefilter.toxic.toxicset import ToxicSet
from saefilter.verify.findings import (
    MISMATCH,
    NOT_FOUND,
    OK,
    Findings,
    Given,
    check_origin,
    compare_sae,
    find_input,
    find_scores,
    origin_of,
    origin_of_report,
    short,
)
from saefilter.verify.layout import check_layout_files, check_layout_rows, report_above
from saefilter.verify.rows import Parts, check_conservation, check_rows

REPORT = ".report.json"
REPORT_VERSIONS = (1, 2)
WHAT_TO_NAME = (
    "Name a file that saefilter wrote: scores, kept, dropped or quarantined rows, a report.json or a toxic "
    "set."
)


def verify(path: Location, given: Given) -> Findings:
    """Check an artifact and its neighbours; of what lies in a store, a copy of all that its manifest names.

    Raises SaefilterError when it is missing, not complete or not one that saefilter makes.
    """
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory(prefix="saefilter-") as folder:
            findings = verify(_fetched(path, Path(folder)), given)
        findings.artifact = path
        return findings
    try:
        return _verify(path, given)
    except (KeyError, TypeError, AttributeError) as error:  # JSON of another shape than ours
        raise SaefilterError(
            f"lacks what an artifact of saefilter has ({error})", where=str(path)
        ) from error


def _fetched(path: RemotePath, folder: Path) -> Path:
    """An artifact in a store, with what its manifest names and the scores that its report names."""
    try:
        copy = copy_with_neighbours(path, folder)
    except FileNotFoundError as error:
        raise SaefilterError(f"there is no file {path}", remedy=WHAT_TO_NAME) from error
    report = _report_of(copy)
    name = (_json(report).get("made_from") or {}).get("scores") if report else None
    if name and "/" not in name and (scores := path.with_name(name)).exists():
        scores.download(folder / name)
    return copy


def _verify(path: Path, given: Given) -> Findings:
    findings = Findings(path)
    report = _report_of(path) if path.is_file() else None
    if report is None and path.exists() and (above := report_above(path)) is not None:
        findings.kind = "folder of filtered files"
        return _with_report(findings, above.parent, above, given, None)
    if not path.is_file():
        raise SaefilterError(f"there is no file {path}", remedy=WHAT_TO_NAME)
    if path.suffix.lower() == ".parquet":
        made = _metadata(path, findings, report)
        if made is None:
            return findings
        if "role" in made:
            findings.kind = str(made["role"])
            _check_output(findings, path, made)
            return _with_report(findings, path, report, given, made["scores"])
        if "scores" in made:
            raise SaefilterError(
                "written by a version of saefilter that recorded no hashes",
                where=str(path),
                remedy="Filter again.",
            )
        findings.kind = "scores"
        scores = Scores.open(path)
        findings.attempt("content", lambda: _scores_are_whole(scores))
        source = find_input(
            findings, given, scores.provenance.input_path, scores.provenance.input_sha256, path
        )
        check_origin(findings, source, given, origin_of(vars(scores.provenance)), path)
        return findings
    if path.suffix == ".json":
        fields = _json(path)
        if "report_version" in fields:
            findings.kind = "report"
            return _with_report(findings, path, path, given, None)
        if isinstance(fields.get("features"), list):
            findings.kind = "toxic set"
            _check_toxic_set_file(findings, path, given)
            return findings
    elif report is not None:
        findings.kind = "file of a report"
        return _with_report(findings, path, report, given, None)
    raise SaefilterError(
        "not an artifact of saefilter",
        where=str(path),
        remedy="Name a scores file, a filtered, dropped or quarantined file, a report.json or a "
        "toxic set.",
    )


def _metadata(path: Path, findings: Findings, report: Path | None) -> dict[str, Any] | None:
    """The provenance in a Parquet file; None when that is settled already."""
    try:
        values = pq.read_metadata(path).metadata or {}
    except (pa.ArrowException, OSError) as error:
        findings.kind = "Parquet file"
        findings.add(
            "content", MISMATCH, f"not a readable Parquet file: {str(error).splitlines()[0]}"
        )
        return None
    if PART_KEY in values:
        raise SaefilterError(
            "a part of scores", where=str(path), remedy="saefilter scores merge checks it."
        )
    if (recorded := values.get(METADATA_KEY)) is not None:
        try:
            made = json.loads(recorded)
        except ValueError:
            made = None
        if isinstance(made, dict) and ("scores_version" in made or "scores" in made):
            return made
        findings.add("provenance", MISMATCH, "what saefilter wrote into the file is damaged")
        return None
    if report is not None:  # rewritten by something that drops what it does not know
        findings.kind = "Parquet file"
        findings.add("provenance", MISMATCH, "the file does not say that saefilter made it")
        _check_files(findings, report, _json(report))
        return None
    raise SaefilterError("not an artifact of saefilter", where=str(path),
                         remedy="It has no provenance, and there is no report beside it.")  # fmt: skip


def _json(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SaefilterError(f"not readable JSON ({error})", where=str(path)) from error
    if not isinstance(fields, dict):
        raise SaefilterError("not an artifact of saefilter", where=str(path))
    return fields


def _report_of(path: Path) -> Path | None:
    """The report beside a file, by the names that `filter` gives."""
    beside = path.with_name(stem_of(path.name) + REPORT)
    return beside if beside.is_file() else None


def _scores_are_whole(scores: Scores) -> str:
    scores.verify()
    if scores.provenance.content_sha256 is None:
        return f"{scores.provenance.rows:,} rows; no content hash was recorded"
    return f"{scores.provenance.rows:,} rows ({short(scores.provenance.content_sha256)})"


def _check_output(findings: Findings, path: Path, made: dict[str, Any]) -> None:
    def whole() -> str:
        content = parquet_content(path)
        if content.rows != made["rows"]:
            raise SaefilterError(f"{content.rows:,} rows where {made['rows']:,} were written")
        if made["content_sha256"] not in (None, content.hexdigest()):
            raise SaefilterError("the rows were changed after they were written")
        return f"{content.rows:,} rows ({short(content.hexdigest())})"

    findings.attempt("content", whole)


def _with_report(
    findings: Findings,
    path: Path,
    report_path: Path | None,
    given: Given,
    made: dict[str, Any] | None,
) -> Findings:
    """Everything around one run of `filter`; `made` is what a file itself says of its scores."""
    report: dict[str, Any] = {}
    if report_path is None:
        findings.add("report", NOT_FOUND, f"no report beside {path.name}")
    else:
        report = _json(report_path)
        if report.get("report_version") not in REPORT_VERSIONS:
            raise SaefilterError(
                f"report of version {report.get('report_version')!r}; this saefilter reads "
                f"{', '.join(map(str, REPORT_VERSIONS))}",
                where=str(report_path),
            )
        _check_files(findings, report_path, report)
    layout = report.get("layout") or []
    if layout and report_path is not None:
        path = report_path.absolute().parent
    whole = not layout or check_layout_files(findings, path, layout)
    origin = report.get("made_from") or {}
    recorded = origin_of(made) if made is not None else origin_of_report(report)
    if made is not None and origin:
        other = origin_of_report(report)
        differing = [name for name, value in recorded.items() if other[name] != value]
        findings.add(
            "report and file",
            MISMATCH if differing else OK,
            f"they differ in {', '.join(differing)}" if differing else "made from the same",
        )
    named = Path(str(origin["scores"])) if origin.get("scores") else None
    scores = find_scores(findings, given, named, path, recorded)
    name = scores.provenance.input_path if scores else report.get("input")
    near = scores.file if scores else path
    source = find_input(findings, given, name, recorded["input_sha256"], near)
    sound = check_origin(findings, source, given, recorded, path)
    if layout and scores is not None and whole:
        check_layout_rows(findings, path, layout, scores, source if sound else None)
        return findings
    parts = None if layout else Parts.beside(report_path or path, report)
    if parts is None or scores is None:
        lacks = "the scores" if scores is None else "the files of all rows"
        findings.add("conservation", NOT_FOUND, f"cannot be counted without {lacks}")
        return findings
    if report:
        counts = {role: report["counts"][role] for role in ROLES.values()}
        findings.compare("counts", parts.counts(), counts, "rows of each file")
    if findings.attempt("conservation", lambda: check_conservation(parts, scores)) and sound:
        assert source is not None
        findings.attempt("rows", lambda: check_rows(parts, scores, source))
    return findings


def _check_files(findings: Findings, path: Path, report: dict[str, Any]) -> None:
    """The files of a report have the bytes that it says."""
    files = report.get("files")
    if not files:
        findings.add("files", NOT_FOUND, "the report is of a version that kept no hashes of files")
        return
    for role, record in files.items():
        file = path.with_name(Path(str(record["name"])).name)
        if not file.is_file():
            findings.add(role, NOT_FOUND, f"{file.name} is not beside the report")
        else:
            findings.compare(role, file_sha256(file), record["sha256"], f"bytes of {file.name}")


def _check_toxic_set_file(findings: Findings, path: Path, given: Given) -> None:
    toxic_set: list[ToxicSet] = []

    def load() -> str:
        toxic_set.append(load_toxic_set(str(path)))
        n_toxic = len(toxic_set[0].side("toxic"))
        return f"{len(toxic_set[0].features):,} features, {n_toxic:,} of them toxic, of {toxic_set[0].sae}"

    if not findings.attempt("content", load):
        return
    if given.scores is not None:
        recorded = origin_of(vars(Scores.open(given.scores).provenance))
        findings.compare(
            "toxic set", toxic_set[0].sha256(), recorded["toxic_set_sha256"],
            f"the set that {given.scores.name} was made with",
        )  # fmt: skip
        compare_sae(findings, toxic_set[0], recorded)
    if given.toxic_set is not None:
        other = load_toxic_set(str(find_toxic_set(given.toxic_set)))
        findings.compare(
            "other set", toxic_set[0].sha256(), other.sha256(), f"the same as {given.toxic_set}"
        )
