"""Types found piece by piece are those that Arrow infers from all rows at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from in_memory import fit_columns

from saefilter.rows import limits
from saefilter.rows.pieces import LinePiece, Piece
from saefilter.rows.read import Source
from saefilter.rows.tables import TypedRows, column_types

LIMITS = [0, 1, -1, 2**53, 2**53 + 1, -(2**53), -(2**53) - 1, 2**63 - 1, -(2**63), 2**63, 10**30]
SCALARS = (
    st.none()
    | st.booleans()
    | st.sampled_from(LIMITS)
    | st.integers()
    | st.sampled_from([0.5, -0.0, 1e300])
    | st.text(max_size=2)
    | st.sampled_from(["2024-05-01", "1"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3)
    ),
    max_leaves=5,
)
LIKE = st.sampled_from(
    [1, 2.5, None, "a", 2**53 + 1, [1], [2.5], [], [None], {"x": 1}, {"y": 0.5}, {"y": 2**60}, {}]
)
"""Values that often go together, so that not every dataset is one of conflicts."""


def datasets(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    row = st.dictionaries(st.sampled_from("abcd"), values, min_size=1)
    return st.lists(row, min_size=1, max_size=12)


def in_pieces(rows: list[dict[str, Any]], size: int) -> Iterator[Piece]:
    raw = [json.dumps(row).encode() for row in rows]
    for start in range(0, len(raw), size):
        part = raw[start : start + size]
        yield LinePiece(start, None, list(range(start + 1, start + 1 + len(part))), part)


def check_same(rows: list[dict[str, Any]], size: int, wanted: set[int] | None = None) -> None:
    """The streaming reader and the simple one agree in everything."""
    mask = np.array([wanted is None or i in wanted for i in range(len(rows))])
    chosen = {i: row for i, row in enumerate(rows) if mask[i]}
    expected, conflicts = fit_columns(chosen)
    found = TypedRows(
        Source(Path("rows.jsonl"), "jsonl"), *column_types(lambda: in_pieces(rows, size), mask)
    )
    assert {int(i): found.why(int(i)) for i in np.flatnonzero(found.conflict)} == conflicts
    assert found.schema == expected.schema
    fits = mask & (found.conflict == 0)
    tables = [found.schema.empty_table()]
    for piece in in_pieces(rows, size):
        positions = np.flatnonzero(fits[piece.first : piece.first + len(piece)]).tolist()
        tables.append(found.table(piece, positions))
    assert pa.concat_tables(tables).equals(expected.combine_chunks()) or len(expected) == 0


@given(datasets(LIKE) | datasets(VALUES) | datasets(SCALARS), st.integers(1, 5))
@settings(deadline=None, max_examples=250)
@example([{"a": [1]}, {"a": "x"}, {"a": [2**53 + 1]}, {"a": [0.5]}, {"a": [1.5]}], 1)
@example([{"a": 1, "b": 1}, {"a": 2, "b": 2}, {"a": "x", "b": 0.5}], 1)
@example([{"a": {"y": 1}}, {"a": {"x": 1}}, {"a": {"z": None, "x": 2.5}}], 2)
@example([{"a": True}, {"a": 1}, {"a": False}], 1)
@example([{"a": None}, {"a": [0.5]}, {"a": [0.5, False]}], 1)  # Arrow makes 0.0 of the last
def test_pieces_have_the_types_of_the_whole(rows: list[dict[str, Any]], size: int) -> None:
    check_same(rows, size)


@given(datasets(LIKE), st.integers(1, 5), st.sets(st.integers(0, 11), min_size=1))
@settings(deadline=None, max_examples=60)
def test_rows_that_are_not_wanted_say_nothing(
    rows: list[dict[str, Any]], size: int, wanted: set[int]
) -> None:
    if chosen := wanted & set(range(len(rows))):
        check_same(rows, size, chosen)


@given(
    st.lists(
        st.dictionaries(st.sampled_from("abcdefgh"), LIKE, min_size=1, max_size=4)
        | st.fixed_dictionaries(
            {"m": st.lists(st.dictionaries(st.sampled_from("stuvwxyz"), LIKE), max_size=2)}
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 5),
)
@settings(deadline=None, max_examples=100)
def test_rows_that_bring_too_many_names_are_the_same(rows: list[dict[str, Any]], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "COLUMNS", 5)
        check_same(rows, size)


def test_more_types_than_are_tried() -> None:
    rows: list[dict[str, Any]] = [{"a": {f"k{i}": i}} for i in range(80)]
    rows += [{"a": 1}, {"a": None}, *rows[5:70]]
    for size in (1, 7, 200):
        check_same(rows, size)


def test_a_column_of_nothing_but_conflicts() -> None:
    for size in (1, 3):
        check_same([{"a": 10**30}, {"a": 2**64, "b": 1}, {"b": 2}], size)
        check_same([{"a": 10**30}], size)
