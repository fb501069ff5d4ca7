"""The hash of a table's content: what it must not depend on, and what it must."""

from __future__ import annotations

import copy
import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saefilter.artifacts.integrity import ContentHash, content_sha256, parquet_content
from saefilter.errors import SaefilterError

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("text", pa.string()),
        ("flag", pa.bool_()),
        ("number", pa.float64()),
        (
            "items",
            pa.list_(pa.struct([("name", pa.string()), ("values", pa.list_(pa.float32()))])),
        ),
    ]
)
FLOATS = st.floats(width=32, allow_nan=False)
ITEM = st.fixed_dictionaries(
    {"name": st.none() | st.text(max_size=3), "values": st.none() | st.lists(FLOATS, max_size=2)}
)
ROW = st.fixed_dictionaries(
    {
        "id": st.none() | st.integers(-5, 5),
        "text": st.none() | st.text(max_size=4),
        "flag": st.none() | st.booleans(),
        "number": st.none() | FLOATS,
        "items": st.none() | st.lists(st.none() | ITEM, max_size=3),
    }
)


def digest(rows: list[dict[str, Any]], size: int = 100) -> str:
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    return content_sha256(SCHEMA, table.to_batches(max_chunksize=size))


@given(st.lists(ROW, max_size=9), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_chunks_and_slices_leave_no_trace(rows: list[dict[str, Any]], size: int) -> None:
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    apart = [table.slice(i, 1).combine_chunks() for i in range(len(rows))]  # buffers of their own
    assert digest(rows) == digest(rows, size) == content_sha256(SCHEMA, apart)


@given(st.lists(ROW, min_size=1, max_size=6), st.data())
@settings(max_examples=150, deadline=None)
def test_any_other_value_order_or_number_of_rows_shows(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    changed = copy.deepcopy(rows)
    place = data.draw(st.integers(0, len(rows) - 1))
    kind = data.draw(st.sampled_from(["value", "missing", "twice", "swapped"]))
    if kind == "value":
        changed[place] = data.draw(ROW)
    elif kind == "missing":
        del changed[place]
    elif kind == "twice":
        changed.insert(place, rows[place])
    else:
        other = data.draw(st.integers(0, len(rows) - 1))
        changed[place], changed[other] = changed[other], changed[place]
    # as text, which tells 0.0 from -0.0, as the hash does
    same = json.dumps(changed, sort_keys=True) == json.dumps(rows, sort_keys=True)
    assert (digest(changed) == digest(rows)) == same


def test_neighbouring_lengths_do_not_run_together() -> None:
    def texts(*values: Any) -> str:
        table = pa.table({"a": pa.array(values, pa.string())})
        return content_sha256(table.schema, [table])

    assert (
        len({texts("ab", ""), texts("a", "b"), texts("", "ab"), texts("ab"), texts("ab", None)})
        == 5
    )


def test_columns_count_with_name_order_and_kind() -> None:
    tables = [
        pa.table({"a": [1], "b": [2]}), pa.table({"b": [2], "a": [1]}),
        pa.table({"a": [1], "c": [2]}), pa.table({"a": [1.0], "b": [2]}),
        pa.table({"a": pa.array([1], pa.int32()), "b": [2]}), pa.table({"a": [1]}),
    ]  # fmt: skip
    assert len({content_sha256(table.schema, [table]) for table in tables}) == len(tables)
    with pytest.raises(ValueError, match="columns"):
        ContentHash(tables[0].schema).update(tables[1])
    empty = tables[0].slice(0, 0)
    assert content_sha256(empty.schema, []) == content_sha256(empty.schema, [empty])


def every_type() -> pa.Table:
    day = datetime.date(2024, 5, 6)
    moment = datetime.datetime(2024, 5, 6, 7, 8, 9)
    return pa.table(
        {
            "dictionary": pa.array(["a", None, "b"]).dictionary_encode(),
            "large": pa.array(["é", None, ""], pa.large_string()),
            "bytes": pa.array([b"\x00", None, b""]),
            "fixed": pa.array([b"ab", None, b"cd"], pa.binary(2)),
            "decimal": pa.array([Decimal("1.50"), None, Decimal("2.25")]),
            "day": pa.array([day, None, day], pa.date32()),
            "day64": pa.array([day, None, day], pa.date64()),
            "second": pa.array([moment, None, moment], pa.timestamp("s")),
            "nano": pa.array([moment, None, moment], pa.timestamp("ns", "UTC")),
            "time": pa.array([moment.time(), None, moment.time()], pa.time32("s")),
            "duration": pa.array([1, None, 2], pa.duration("us")),
            "half": pa.array([1.5, None, 2.5], pa.float16()),
            "tiny": pa.array([1, None, 255], pa.uint8()),
            "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int32())),
            "pair": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int16(), 2)),
            "nothing": pa.nulls(3),
        }
    )


@pytest.mark.parametrize("options", [{}, {"compression": "none", "row_group_size": 1}])
def test_parquet_gives_the_hash_back_for_every_type(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    table = every_type()
    pq.write_table(table, tmp_path / "t.parquet", **options)
    found = parquet_content(tmp_path / "t.parquet")
    assert found.hexdigest() == content_sha256(table.schema, [table])
    assert found.rows == 3
    sliced = pa.concat_tables([table, table]).slice(3, 3)
    assert content_sha256(table.schema, [sliced]) == found.hexdigest()
    for name in table.column_names[:-1]:
        other = table.set_column(
            table.column_names.index(name), table.schema.field(name), table[name].take([1, 0, 2])
        )
        assert content_sha256(table.schema, [other]) != found.hexdigest(), name


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": list(range(5000))}), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(SaefilterError, match="damaged or cut off"):
        parquet_content(path)
