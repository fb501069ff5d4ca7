"""The rows of a page, one by one: their short values, their turns, and the evidence that the scores have of them.
What many rows share, such as themes and examples, is written once and referred to by number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saefilter.report.explore_text import cut_row, value_words
from saefilter.rows.excerpts import turns_of
from saefilter.text import clean, is_function_word

if TYPE_CHECKING:
    from saefilter.artifacts.scores import Scores
    from saefilter.rows.row import Row


class _Numbered:
    """Values that are written once and referred to by their numbers."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}

    def of(self, *value: Any) -> int:
        """The number of a value."""
        return self._numbers.setdefault(value, len(self._numbers))

    def values(self) -> list[Any]:
        """Those that were asked for, in the order of their numbers."""
        return [value[0] if len(value) == 1 else list(value) for value in self._numbers]


class Listed:
    """Rows as they are added, in their order."""

    def __init__(self, scores: Scores) -> None:
        self._columns, self._by = scores.provenance.own_columns, scores.provenance.scored_by
        self._themes, self._files, self._examples, self._features, self._reasons = (
            _Numbered() for _ in range(5)
        )
        self.rows: dict[str, list[Any]] = {
            name: [] for name in ("line", "file", "hash", "tokens", "group")
        }
        self.details: list[dict[str, Any]] = []
        self.data: list[dict[str, str]] = []
        """Of each row, the columns that it might be filtered by."""
        self._first_of: dict[str, int] = {}

    def add(self, row: Row, entry: dict[str, Any]) -> None:
        """A row of the data, and what the scores say of it."""
        turns = [
            [clean(turn.role), int(turn.scored), clean(turn.text)]
            for turn in turns_of(row, self._columns, self._by)
        ]
        cut_row(turns)
        same_as = entry.get("read_as")
        group = self._first_of.setdefault(entry["row_hash"], row.index)
        for name, value in (
            ("line", row.line), ("hash", entry["row_hash"]), ("tokens", entry["n_tokens"]),
            ("file", -1 if row.file is None else self._files.of(clean(row.file))),
            ("group", group if same_as is None else same_as),
        ):  # fmt: skip
            self.rows[name].append(value)
        self.data.append(value_words(row.data or {}))
        self.details.append({"turns": turns, **self._evidence(entry)})

    def _evidence(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Themes, features, words and the closest example, without those that there are none of."""
        closest, words = entry.get("closest"), _cleaned(entry["top_words"])
        said = {
            "cut": int(bool(entry["truncated"])),
            "words": words,
            "marked": closest and [word for word in words if not is_function_word(word)],
            "themes": [
                [self._themes.of(clean(one["theme"])), _short(one["share"]), _short(one["usual"]),
                 _cleaned(one["words"])]
                for one in entry.get("themes") or []
            ],
            "features": [
                [self._features.of(one["feature"], clean(one["label"]), one["toxic_feature"],
                                   clean(one["toxic_label"]), _short(one["cosine"])),
                 _short(one["share"])]
                for one in entry["top_features"] or []
            ],
            "closest": closest and [
                self._examples.of(*(clean(closest[name] or "") for name in ("text", "prompt", "theme"))),
                _short(closest["cosine"]),
            ],
        }  # fmt: skip
        if said["marked"] == words:
            said["marked"] = None
        return {name: value for name, value in said.items() if value}

    def explain(self, gone: NDArray[np.bool_], reasons: Sequence[str]) -> None:
        """Why the strategy dropped those of the rows that are `gone`, `[n_shown]`."""
        for row in np.flatnonzero(gone).tolist():
            self.details[row]["reason"] = self._reasons.of(clean(reasons[row]))

    def names(self) -> dict[str, list[Any]]:
        """What rows refer to by number."""
        named = {"themes": self._themes, "files": self._files, "examples": self._examples,
                 "features": self._features, "reasons": self._reasons}  # fmt: skip
        return {name: numbered.values() for name, numbered in named.items()}


def _cleaned(words: Sequence[str] | None) -> list[str]:
    return [clean(word) for word in words or []]


def _short(value: float) -> float:
    return round(float(value), 4)
