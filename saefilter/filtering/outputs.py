"""The files that `filter` writes: their names, and what they say of themselves.

A Parquet file says in its metadata what made it. JSONL has no place for that; the report holds the
hash of every file's bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from saefilter import __version__
from saefilter.artifacts.integrity import file_sha256
from saefilter.artifacts.manifest import ENDING, is_unfinished
from saefilter.artifacts.publish import refuse_existing
from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.hub import CARD
from saefilter.rows.read import Source
from saefilter.rows.write import is_added
from saefilter.rows.written import split_name
from saefilter.select.strategies import Choice, Selection
from saefilter.storage import Location, RemotePath, same_file

ROLES = ("kept", "dropped", "quarantined")
ARTIFACT_VERSION = 1
"""Of the provenance in kept, dropped and quarantined Parquet files."""


@dataclass(frozen=True)
class OutputPaths:
    """Where everything goes, all beside the kept rows."""

    kept: Location
    dropped: Location
    quarantined: Location
    report_html: Location
    report_json: Location
    report_md: Location
    card: Location
    """Only on request; the name that the hub and `datasets` look for."""

    @classmethod
    def beside(cls, kept: Location) -> OutputPaths:
        """`out.parquet` -> `out.dropped.parquet`, `out.report.html`, ..."""

        stem, suffix = split_name(kept.name)

        def named(ending: str) -> Location:
            return kept.with_name(stem + ending)

        return cls(
            kept,
            named(f".dropped{suffix}"),
            named(f".quarantined{suffix}"),
            named(".report.html"),
            named(".report.json"),
            named(".report.md"),
            kept.with_name("README.md"),
        )

    @property
    def manifest(self) -> Location:
        """In a store, what says that all of them are there (artifacts/manifest.py)."""
        return self.kept.with_name(split_name(self.kept.name)[0] + ENDING)

    def all(self) -> list[Location]:
        return list(vars(self).values())

    def wanted(self, card: bool) -> list[Location]:
        """Those that a run may write."""
        return [path for path in self.all() if card or path != self.card]

    def superseded(self, source: Source) -> list[Path]:
        """Rows of an earlier run in another format, as its report has them: of the same names but for their
        ending, and no longer of any report once this run has written its own."""
        if not isinstance(self.report_json, Path):
            return []
        try:
            report = json.loads(self.report_json.read_text(encoding="utf-8"))
            records = [report["files"][role] for role in ROLES if role in report["files"]]
            named = {self.report_json.with_name(one["name"]): one["sha256"] for one in records}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return []
        stem = split_name(self.kept.name)[0]
        return [
            path
            for path, digest in named.items()
            if path not in self.all()
            and not any(same_file(path, file.path) for file in source.files) and path.name.startswith(f"{stem}.")
            and path.is_file() and file_sha256(path) == digest
        ]  # fmt: skip

    def refuse_existing(self, *, card: bool, overwrite: bool) -> None:
        """Raises SaefilterError for the first file in the way; somebody's own README always is. Files of a
        run that was killed while it handed them over are not."""
        if card and self.card.is_file() and not CARD.match(self.card.read_text("utf-8", "replace")):
            raise SaefilterError(
                f"{self.card} is not a card of saefilter and is never replaced",
                remedy="Give the dataset a folder of its own: -o clean/train.parquet",
            )
        if isinstance(self.manifest, RemotePath) and is_unfinished(self.manifest):
            overwrite = True
        refuse_existing(self.wanted(card), overwrite=overwrite)


def made_by(
    scores: Scores, selection: Selection, choice: Choice, written: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What made the files, without times and places, so that equal input and settings give equal
    bytes."""
    made = asdict(scores.provenance)
    for name in ("created", "seconds", "input_path", "spillover", "settings", "learnt_from"):
        made.pop(name)
    asked = {**selection.to_fields(), "details": dict(choice.ranking.details)}
    if choice.cut is not None:
        asked["rows"] = choice.cut.rows
    if choice.decided is not None:
        asked["decisions"] = choice.decided.about()
    return {
        "artifact_version": ARTIFACT_VERSION,
        "filtered_by": __version__,
        "scores": made,
        "selection": asked,
        **({"written": written} if written else {}),
    }


def file_record(path: Path, name: str, rows: int | None = None) -> dict[str, Any]:
    """What the report keeps of a file that will be called `name`."""
    record: dict[str, Any] = {
        "name": name,
        "sha256": file_sha256(path),
        "bytes": path.stat().st_size,
    }
    return record if rows is None else {**record, "rows": rows}


def refuse_own_columns(names: Iterable[str], source: Source) -> None:
    """Raises SaefilterError when the columns of an input are among those that dropped rows get."""
    taken = {name for name in names if is_added(name)}
    if taken:
        raise SaefilterError(
            f"{source.path} has the column {min(taken)!r}, which dropped rows get from saefilter",
            remedy="Rename or remove it.",
        )
