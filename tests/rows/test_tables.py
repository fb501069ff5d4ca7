from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from whole import InputTable, read_table

from saefilter.errors import SaefilterError
from saefilter.rows.read import Source
from saefilter.rows.write import ParquetRows


def read(path: Path, n: int) -> InputTable:
    return read_table(Source.open(path), list(range(n)))


def test_jsonl_keeps_columns_order_and_types(jsonl: Callable[..., Path]) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "q"}], "n": 1, "x": 0.5, "ok": True, "s": "a"},
        {"messages": [], "n": 2, "x": 2.0, "ok": None, "s": "2024-05-01"},
    ]
    result = read(jsonl(rows), 2)
    assert result.table.column_names == ["messages", "n", "x", "ok", "s"]
    assert result.table.to_pylist() == rows
    assert result.conflicts == {}


def test_texts_that_look_like_dates_stay_texts(jsonl: Callable[..., Path]) -> None:
    rows = [{"text": "2024-05-01", "in": {"at": ["2024-05-01T10:00:00Z"]}}]
    assert read(jsonl(rows), 1).table.to_pylist() == rows


def test_long_integers_are_not_rounded(jsonl: Callable[..., Path]) -> None:
    rows = [{"id": 9007199254740993}, {"id": 1}]
    assert read(jsonl(rows), 2).table.to_pylist() == rows


def test_a_row_of_another_type_is_named_not_bent(jsonl: Callable[..., Path]) -> None:
    rows = [{"id": 1}, {"id": 2}, {"id": "three"}, {"id": 10**30}]
    result = read(jsonl(rows), 4)
    assert result.row_ids == [0, 1]
    assert result.table.to_pylist() == rows[:2]
    assert set(result.conflicts) == {2, 3}
    assert (
        "column 'id' is a string where the rows in the table have a number" in result.conflicts[2]
    )


def test_a_long_integer_among_floats_is_named_not_rounded(jsonl: Callable[..., Path]) -> None:
    rows = [{"x": 0.5}, {"x": 1.5}, {"x": 9007199254740993}, {"x": 3}, {"x": 2.5}]
    result = read(jsonl(rows), 5)
    assert result.row_ids == [0, 1, 4]
    assert set(result.conflicts) == {2, 3}


def test_nested_conflicts_are_named(jsonl: Callable[..., Path]) -> None:
    rows = [{"m": [{"c": "a"}]}, {"m": [{"c": "b", "extra": 1}]}, {"m": [{"c": ["parts"]}]}]
    result = read(jsonl(rows), 3)
    assert result.row_ids == [0, 1]
    assert "inner types" in result.conflicts[2]


def test_parquet_schema_and_metadata_are_untouched(tmp_path: Path) -> None:
    schema = pa.schema(
        [("id", pa.int16()), ("day", pa.date32()), ("text", pa.large_string())],
        metadata={b"huggingface": b"{}"},
    )
    table = pa.Table.from_pydict({"id": [1, 2], "day": [None, None], "text": ["a", "b"]}, schema)
    pq.write_table(table, tmp_path / "in.parquet")
    result = read_table(Source.open(tmp_path / "in.parquet"), [1])
    assert result.table.schema.equals(schema, check_metadata=True)
    assert result.table.to_pylist() == [{"id": 2, "day": None, "text": "b"}]


def test_csv_cells_stay_texts(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,text\n007,a\n")
    assert read(tmp_path / "in.csv", 1).table.to_pylist() == [{"id": "007", "text": "a"}]


def test_what_parquet_cannot_hold_is_an_error_with_the_remedy(
    tmp_path: Path, jsonl: Callable[..., Path]
) -> None:
    table = read(jsonl([{"text": "a", "empty": {}}]), 1).table
    with pytest.raises(SaefilterError, match=r"Write JSONL"):
        ParquetRows(tmp_path / "out.parquet", table.schema)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False)
)
ROWS = st.lists(
    st.dictionaries(
        st.sampled_from("abc"),
        SCALARS
        | st.lists(SCALARS, max_size=2)
        | st.dictionaries(st.sampled_from("xy"), SCALARS, min_size=1),
        min_size=1,
    ),
    min_size=1,
    max_size=6,
)


@given(ROWS)
@settings(deadline=None, max_examples=200)
def test_no_value_changes_and_no_row_is_lost(
    tmp_path_factory: Any, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("p") / "data.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    result = read(path, len(rows))
    assert sorted([*result.row_ids, *result.conflicts]) == list(range(len(rows)))
    for row_id, written in zip(result.row_ids, result.table.to_pylist(), strict=True):
        for name, value in written.items():
            assert without_nulls(value) == without_nulls(rows[row_id].get(name)), name


def without_nulls(value: Any) -> Any:
    """Columns of structs gain null fields; nothing else may differ."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value
