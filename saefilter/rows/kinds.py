"""Which kinds of values a column has whose rows disagree, and which of them are kept together."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from saefilter.rows.parse import json_type
from saefilter.rows.types import EXACT, column, common, inferred, marked

UNFIT = "unfit"
SHAPES = 10_000
"""Whose kind is remembered."""
MOST_TYPES = 64
"""Types of one column that are tried with each other: no hostile file shall have more."""


class _Kind(NamedTuple):
    """What values of one inferred type have in common."""

    name: str
    """Arrow's type of one such value alone, or UNFIT."""
    said: str
    """In the words of JSON."""


class Kinds:
    """The inferred types of one column's values: how many of each, and which row has which.

    Values of one inferred type stand or fall together, and the commonest types choose first.
    """

    def __init__(self) -> None:
        self.codes = array("i")
        """Of each value, in order."""
        self._code_of: dict[_Kind, int] = {}
        self._types: list[pa.DataType] = []
        """By code: marked; a long integer fits beside integers, not beside floats."""
        self._counts: dict[str, int] = {}
        """By name of the kind, in the order in which they came."""
        self._known: dict[Hashable, tuple[_Kind, pa.DataType]] = {}
        """By shape, for the latest shapes."""

    def _kind_of(self, value: Any) -> tuple[_Kind, pa.DataType]:
        shape = _shape(value)
        known = self._known.get(shape)
        if known is None:
            if len(self._known) >= SHAPES:
                self._known.clear()
            known = self._known[shape] = _kind_of(value)
        return known

    def add(self, values: Sequence[Any]) -> None:
        for value in values:
            kind, narrow = self._kind_of(value)
            code = self._code_of.setdefault(kind, len(self._types))
            if code == len(self._types):
                self._types.append(narrow)
            elif self._types[code] is not narrow:
                self._types[code] = common(self._types[code], narrow)
            self._counts[kind.name] = self._counts.get(kind.name, 0) + 1
            self.codes.append(code)

    def refused(self, column: str) -> list[str | None]:
        """By code: why values of that kind do not fit, or None."""
        code_of = {kind.name: code for kind, code in self._code_of.items()}
        said_of = {kind.name: kind.said for kind in self._code_of}
        accepted: pa.DataType = pa.null()
        usual = json_type(None)
        refused = set()
        for rank, name in enumerate(sorted(self._counts, key=lambda name: -self._counts[name])):
            merged = None
            if name != UNFIT and rank < MOST_TYPES:
                merged = common(accepted, self._types[code_of[name]])
            if merged is None:
                refused.add(name)
                continue
            if pa.types.is_null(accepted):
                usual = said_of[name]
            accepted = merged
        return [
            _reason(column, kind.said, usual) if kind.name in refused else None
            for kind in self._code_of
        ]


def _reason(column: str, here: str, usual: str) -> str:
    if here != usual:
        detail = f"{here} where most rows have {usual}"
    else:
        detail = f"{here} whose inner types differ from those of most rows"
    return f"column {column[:40]!r} is {detail}, which one table cannot hold"


def _kind_of(value: Any) -> tuple[_Kind, pa.DataType]:
    """The kind of a value and its marked type."""
    kind = inferred([value])
    alone = None if kind is None else column([value], kind)
    if alone is None:
        return _Kind(UNFIT, json_type(value)), pa.null()
    return _Kind(str(alone.type), json_type(value)), marked(alone)


def _shape(value: Any) -> Hashable:
    """What decides a value's kind: values of one shape have one kind. Cheaper than to ask Arrow."""
    kind = type(value)
    if kind is int:
        if -EXACT <= value <= EXACT:
            return "short"
        return "long" if -(1 << 63) <= value < 1 << 63 else UNFIT
    if kind is dict:
        return (dict, *((name, _shape(item)) for name, item in value.items()))
    if kind is list:
        return (list, *dict.fromkeys(map(_shape, value)))
    return (kind,) if kind in (str, float, bool, type(None)) else (kind, repr(value))
