"""Contrast data as a user has it: two files, one labelled file, or what saefilter brings along. Nothing is
encoded here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from saefilter.artifacts.decisions import DROP, ENOUGH, KEEP, Decisions
from saefilter.columns import Columns
from saefilter.errors import SaefilterError, did_you_mean
from saefilter.rows.formats import Conversation, RowProblem, recognise
from saefilter.rows.groups import NONE
from saefilter.rows.read import Source
from saefilter.rows.row import Row
from saefilter.text import rows_of
from saefilter.toxic.learnt import ROW_HASHES

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
    group: list[Any] | None = None
    """What tells the groups of `conversations()` apart, where the data say."""

    def conversations(self) -> list[Conversation]:
        return [*self.toxic, *self.benign]


ColumnsOf = Callable[[Source], Columns | None]
"""Which columns of an input hold what, where they are not called as usual."""


def _as_named(source: Source) -> None:
    return None


def from_files(
    toxic: Source, benign: Source, group: str | None = None, columns_of: ColumnsOf = _as_named
) -> ContrastRows:
    """Two inputs, one for each side; rows without a conversation are left out. `group`: the column that
    tells groups apart. Raises SaefilterError when it is not there."""
    sides = {"toxic": toxic, "benign": benign}
    of_side, of_group = {}, []
    for side, source in sides.items():
        of_side[side], values = with_groups(source, group, columns_of(source))
        of_group += values
    about = [
        _about(source.path.name, side, len(of_side[side]), source.sha256())
        for side, source in sides.items()
    ]
    return ContrastRows(
        of_side["toxic"], of_side["benign"], about, group=of_group if group else None
    )


def from_column(
    source: Source,
    column: str,
    threshold: float = 0.5,
    group: str | None = None,
    columns_of: ColumnsOf = _as_named,
) -> ContrastRows:
    """One input with a label or a toxicity score in `column`; rows without one are left out.

    Numbers above `threshold` are toxic. `group`: the column that tells groups apart. Raises
    SaefilterError for a value that is neither a number nor a word that says which side is meant.
    """
    sides: dict[bool, list[Conversation]] = {True: [], False: []}
    scores: dict[bool, list[float]] = {True: [], False: []}
    groups: dict[bool, list[Any]] = {True: [], False: []}
    names: dict[str, None] = {}
    columns = columns_of(source)
    for row in source.rows():
        names |= dict.fromkeys(row.data or {})
        value = (row.data or {}).get(column)
        if value is None or value == "":
            continue
        score = label_value(value, column, row, source)
        try:
            conversation = recognise(row.data or {}, columns)
        except RowProblem:
            continue
        sides[score > threshold].append(conversation)
        scores[score > threshold].append(score)
        groups[score > threshold].append(group_value(row, group, source))
    if not sides[True] and not sides[False]:
        raise SaefilterError(
            f"no row has a value in column {column!r}",
            where=str(source.path),
            remedy=f"{did_you_mean(column, names, 'There are')} Name the column that holds the label or the "
            "score with --label.",
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
        [*groups[True], *groups[False]] if group else None,
    )


def from_decisions(
    source: Source,
    decisions: Decisions,
    group: str | None = None,
    columns_of: ColumnsOf = _as_named,
) -> ContrastRows:
    """The rows that a review dropped against those that it kept, equal ones once.

    Raises SaefilterError for decisions on other data, and where a side has fewer rows than can be learnt from.
    """
    decisions.check_belongs(source.sha256(), str(source.path))
    left = {one.row_hash: one for one in decisions.decisions}
    sides: dict[bool, list[Conversation]] = {True: [], False: []}
    groups: dict[bool, list[Any]] = {True: [], False: []}
    hashes: dict[bool, list[str]] = {True: [], False: []}
    unread: list[str] = []
    columns = columns_of(source)
    for row in source.rows():
        if (one := left.pop(row.digest(), None)) is None:
            continue
        try:
            sides[one.drops].append(recognise(row.data or {}, columns))
        except RowProblem as problem:
            unread.append(str(problem))
            continue
        hashes[one.drops].append(one.row_hash)
        groups[one.drops].append(group_value(row, group, source))
    if min(map(len, sides.values())) < ENOUGH:
        lost = f" ({rows_of(len(unread))} cannot be learnt from: {unread[0]})" if unread else ""
        raise SaefilterError(
            f"the decisions drop {len(sides[True])} usable rows and keep {len(sides[False])}{lost}; a set is learnt "
            f"from at least {ENOUGH} of either",
            where=str(decisions.path),
            remedy="Review more: saefilter review SCORES shows the closest rows, with --order random also "
            "some to keep.",
        )
    name = decisions.path.name if decisions.path is not None else "decisions"
    about = [
        _about(name, side, len(sides[toxic]), decisions.sha256)
        | {
            "decision": decision,
            "data": source.path.name,
            "data_sha256": decisions.input_sha256,
            ROW_HASHES: hashes[toxic],
        }
        for side, toxic, decision in (("toxic", True, DROP), ("benign", False, KEEP))
    ]
    return ContrastRows(
        sides[True], sides[False], about, group=[*groups[True], *groups[False]] if group else None
    )


def bundled() -> ContrastRows:
    """Questions of twelve topics, each with a misaligned and a sound answer that are alike in length, tone
    and form, written for saefilter. Topics are its groups: what is learnt is tried on topics left out."""
    folder = Path(str(files("saefilter.toxic") / BUNDLED))
    toxic, benign = (Source.open(folder / f"{side}.jsonl") for side in ("toxic", "benign"))
    rows = from_files(toxic, benign, "topic")
    about = [entry | {"name": f"{BUNDLED}/{entry['name']}"} for entry in rows.about]
    return replace(rows, about=about)


def contrast_digest(sources: Sequence[ContrastRows]) -> str:
    """A hash of what the sources hold."""
    return hashlib.sha256(json.dumps([one.about for one in sources]).encode()).hexdigest()


def usable_rows(source: Source, columns: Columns | None = None) -> list[Conversation]:
    """The conversations of an input; rows without one are left out."""
    return with_groups(source, None, columns)[0]


def columns_held(source: Source, columns: Columns) -> Columns:
    """The columns that a user named for the data, where another file has them too; a reference may be
    written as any known format."""
    first = next(source.rows(), None)
    held = first is not None and set(first.data or {}) & set(filter(None, columns.named.values()))
    return columns if held else Columns()


def with_groups(
    source: Source, column: str | None, columns: Columns | None = None
) -> tuple[list[Conversation], list[Any]]:
    """The conversations of an input, and what `column` says of each; rows without one are left out.

    Raises SaefilterError for a row that lacks the column.
    """
    conversations, values = [], []
    for row in source.rows():
        try:
            conversations.append(recognise(row.data or {}, columns))
        except RowProblem:
            continue
        values.append(group_value(row, column, source))
    return conversations, values


def group_value(row: Row, column: str | None, source: Source) -> Any:
    """What `column` says of a row; None without a column. Raises SaefilterError where it is not there."""
    if column is None or column == NONE:
        return None
    if column not in (row.data or {}):
        raise SaefilterError(
            f"there is no column {column!r}", where=f"{row.file or source.path}:{row.line}",
            remedy=f"{did_you_mean(column, row.data or {}, 'There are')} Name the column that tells groups "
            "apart, or leave --group out.",
        )  # fmt: skip
    value = (row.data or {})[column]
    return value if isinstance(value, (str, int, type(None))) else json.dumps(value, default=str)


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
