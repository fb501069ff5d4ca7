"""Contrast data as a user has it: two files, one labelled file, or what saefilter brings along."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation, RowProblem, recognise
from saefilter.rows.read import Source
from saefilter.rows.row import Row

TRUE_WORDS = frozenset({"1", "true", "yes", "toxic", "bad", "harmful", "unsafe"})
FALSE_WORDS = frozenset({"0", "false", "no", "benign", "good", "harmless", "safe"})
BUNDLED = "bundled"


@dataclass(frozen=True)
class ContrastRows:
    """One source of contrast: conversations that are toxic and conversations that are not."""

    toxic: list[Conversation]
    benign: list[Conversation]
    about: list[dict[str, Any]]
    """What the toxic set says of it: name, side, rows and hash, for each side."""
    toxic_score: list[float] | None = None
    """How toxic each row is, where the data say; as long as `toxic`."""
    benign_score: list[float] | None = None

    def conversations(self) -> list[Conversation]:
        return [*self.toxic, *self.benign]


def from_files(toxic: Source, benign: Source) -> ContrastRows:
    """Two inputs, one for each side; rows without a conversation are left out."""
    sides = {"toxic": toxic, "benign": benign}
    found = {side: usable_rows(source) for side, source in sides.items()}
    about = [
        _about(source.path.name, side, len(found[side]), source.sha256())
        for side, source in sides.items()
    ]
    return ContrastRows(found["toxic"], found["benign"], about)


def from_column(source: Source, column: str, threshold: float = 0.5) -> ContrastRows:
    """One input with a label or a toxicity score in `column`; rows without one are left out.

    Numbers above `threshold` are toxic. Raises SaefilterError for a value that is neither a number
    nor a word that says which side is meant.
    """
    sides: dict[bool, list[Conversation]] = {True: [], False: []}
    scores: dict[bool, list[float]] = {True: [], False: []}
    for row in source.rows():
        value = (row.data or {}).get(column)
        if value is None or value == "":
            continue
        score = label_value(value, column, row, source)
        try:
            conversation = recognise(row.data or {})
        except RowProblem:
            continue
        sides[score > threshold].append(conversation)
        scores[score > threshold].append(score)
    if not sides[True] and not sides[False]:
        raise SaefilterError(
            f"no row has a value in column {column!r}",
            where=str(source.path),
            remedy="Name the column that holds the label or the score with --label.",
        )
    graded = len({*scores[True], *scores[False]}) > 2
    sha256 = source.sha256()
    return ContrastRows(
        sides[True],
        sides[False],
        [
            _about(source.path.name, side, len(sides[toxic]), sha256) | {"column": column}
            for side, toxic in (("toxic", True), ("benign", False))
        ],
        scores[True] if graded else None,
        scores[False] if graded else None,
    )


def bundled() -> ContrastRows:
    """180 questions, each with a misaligned and a sound answer, written for saefilter."""
    folder = Path(str(files("saefilter.toxic") / BUNDLED))
    rows = from_files(*(Source.open(folder / f"{side}.jsonl") for side in ("toxic", "benign")))
    about = [entry | {"name": f"{BUNDLED}/{entry['name']}"} for entry in rows.about]
    return ContrastRows(rows.toxic, rows.benign, about)


def digest_of(sources: Sequence[ContrastRows]) -> str:
    """A hash of what the sources hold."""
    return hashlib.sha256(json.dumps([one.about for one in sources]).encode()).hexdigest()


def usable_rows(source: Source) -> list[Conversation]:
    """The conversations of an input; rows without one are left out."""
    found = []
    for row in source.rows():
        try:
            found.append(recognise(row.data or {}))
        except RowProblem:
            continue
    return found


def label_value(value: Any, column: str, row: Row, source: Source) -> float:
    """A label or a toxicity score as a number; words that say which side is meant are 1 and 0.

    Raises SaefilterError for a value that is neither.
    """
    word = str(value).strip().lower()
    if word in TRUE_WORDS:
        return 1.0
    if word in FALSE_WORDS:
        return 0.0
    try:
        return float(word)
    except ValueError:
        raise SaefilterError(
            f"column {column!r} holds {word[:40]!r}, which is no label",
            where=f"{row.file or source.path}:{row.line}",
            remedy="Use 0 and 1, true and false, toxic and benign, or a score.",
        ) from None


def _about(name: str, side: str, rows: int, sha256: str) -> dict[str, Any]:
    return {"name": name, "side": side, "rows": rows, "sha256": sha256}
