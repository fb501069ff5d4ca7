"""The columns of JSON rows with their types, found while rows are added some at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from saefilter.rows import limits
from saefilter.rows.types import common, field_paths, inferred, type_of


class Survey:
    """The columns of rows that are added some at a time.

        add([{"n": 1, "tags": []}])                   n: int32, tags: [null]
        add([{"n": 2.5, "tags": ["x"], "to": "a"}])   n: double, tags: [string], to: string
        add([{"to": 7}])                              the same, and misfits == {"to"}

    Each add returned {}: none brought too many names. Which of the rows are set aside, those with "a" or
    those with 7, is not known here: `Kinds` counts them.
    """

    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        """Of the columns, in the order in which they came."""
        self.types: dict[str, pa.DataType] = {}
        """Marked; see types.py."""
        self.misfits: set[str] = set()
        """Columns whose values do not have one type."""
        self._seen: dict[str, None] = {}
        """Names that count for the limit: also those of rows that brought too many fields."""
        self._paths: dict[str, set[str]] = {}
        self._inferred: dict[str, pa.DataType | None] = {}
        """The last types whose fields are among the paths."""

    def add(self, rows: Sequence[dict[str, Any]]) -> dict[int, str]:
        """Take in rows. Returns those that bring more names than one table should have: position
        -> reason; they change nothing."""
        refused: dict[int, str] = {}
        # a piece of one row may be a very large one, which is not shown to Arrow unseen
        kinds = self._take_names(rows) if len(rows) > 1 else None
        if kinds is None:
            refused = self._sprawling(rows)
            rows = [row for i, row in enumerate(rows) if i not in refused]
            kinds = {name: inferred([row.get(name) for row in rows]) for name in _names(rows)}
        for name, kind in kinds.items():
            self.names[name] = None
            narrow = None if kind is None else type_of([row.get(name) for row in rows], kind)
            merged = None if narrow is None else common(self.types.get(name, pa.null()), narrow)
            if merged is None:
                self.misfits.add(name)
            else:
                self.types[name] = merged
        return refused

    def _take_names(self, rows: Sequence[dict[str, Any]]) -> dict[str, pa.DataType | None] | None:
        """Note all columns and fields, and infer their types; None, with nothing noted, where some
        of the rows may have brought too many."""
        names = _names(rows)
        if len({*self._seen, *names}) > limits.COLUMNS:
            return None
        kinds = {}
        grown = {}
        for name in names:
            kinds[name] = kind = inferred([row.get(name) for row in rows])
            if kind is None:
                new_paths = set().union(*(_paths(row[name]) for row in rows if name in row))
            elif kind == self._inferred.get(name) or not pa.types.is_nested(kind):
                continue
            else:
                new_paths = field_paths(kind)
            grown[name] = self._paths.get(name, set()) | new_paths
            if len(grown[name]) > limits.COLUMNS:
                return None
        self._seen |= names
        self._paths |= grown
        self._inferred |= kinds
        return kinds

    def _sprawling(self, rows: Sequence[dict[str, Any]]) -> dict[int, str]:
        refused = {}
        for i, row in enumerate(rows):
            if not row.keys() <= self._seen.keys():
                if len(self._seen.keys() | row.keys()) > limits.COLUMNS:
                    refused[i] = f"with it there would be more than {limits.COLUMNS:,} columns"
                    continue
                self._seen |= dict.fromkeys(row)
            for name, value in row.items():
                if not isinstance(value, (dict, list)):
                    continue
                known = self._paths.setdefault(name, set())
                new = _paths(value) - known
                if len(known) + len(new) > limits.COLUMNS:
                    refused[i] = (
                        f"with it column {name[:40]!r} would have more than {limits.COLUMNS:,} fields"
                    )
                    break
                known |= new
        return refused


def _names(rows: Sequence[dict[str, Any]]) -> dict[str, None]:
    """Of the columns, in the order in which they come."""
    return dict.fromkeys(name for row in rows for name in row)


def _paths(value: Any, path: str = "") -> set[str]:
    """Where the fields of the objects in a value lie."""
    if isinstance(value, list):
        return {paths for item in value if item for paths in _paths(item, path)}
    if not isinstance(value, dict):
        return set()
    paths = set()
    for name, item in value.items():
        here = f"{path}/{name}"
        paths.add(here)
        if isinstance(item, (dict, list)):
            paths |= _paths(item, here)
    return paths
