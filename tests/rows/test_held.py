"""Data frames and tables in and out: every row as it came, with its type, its dtypes and its index."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from conftest import chat
from pandas.testing import assert_frame_equal
from polars.testing import assert_frame_equal as assert_polars_equal

from saefilter import SaefilterError
from saefilter.rows.held import hold

CHATS = [chat(f"Question {i}?", f"Answer {i}, with ä and 🎉.")["messages"] for i in range(5)]
IDS = [0, 2, 3]


def rows_of(data: Any, folder: Path) -> list[Any]:
    return [row.data for row in hold(data, folder).source.rows()]


def pandas_frame() -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "messages": CHATS,
            "lang": pd.Categorical(list("abbab"), categories=["b", "a", "unused"], ordered=True),
            "score": pd.array([1, None, 3, 4, 5], dtype="Int64"),
            "share": [0.5, None, 1.5, 2.5, 3.5],
            "note": pd.array(["x", None, "z", "ä", ""], dtype="string[pyarrow]"),
            "large": pd.array(list("vwxyz"), dtype=pd.ArrowDtype(pa.large_string())),
            "at": pd.date_range("2026-01-01", periods=5, tz="Europe/Berlin"),
            "span": pd.to_timedelta([1, 2, 3, 4, 5], unit="s"),
            "month": pd.period_range("2026-01", periods=5, freq="M"),
            "bin": pd.interval_range(0, 5),
            "sparse": pd.arrays.SparseArray([0, 0, 1, 0, 2]),
            "mixed": [1, "two", [3], {"four": 4}, None],
            7: [True, False, True, False, True],
        },
        index=pd.MultiIndex.from_tuples([(i, f"r{i}") for i in (9, 9, 4, 3, 1)], names=["n", None]),
    )
    frame.attrs["made"] = "by hand"
    return frame


def polars_frame() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "messages": CHATS,
            "lang": pl.Series(list("abbab"), dtype=pl.Categorical),
            "grade": pl.Series(list("xyyxx"), dtype=pl.Enum(["y", "x", "z"])),
            "span": [dt.timedelta(seconds=i) for i in range(5)],
            "clock": [dt.time(i) for i in range(5)],
            "bytes": [b"a", None, b"c", b"d", b"e"],
            "nothing": [None] * 5,
            "pair": pl.Series([[i, i] for i in range(5)], dtype=pl.Array(pl.Int8, 2)),
        }
    )


def test_pandas_comes_back_with_its_dtypes_and_its_index(tmp_path: Path) -> None:
    frame = pandas_frame()
    held = hold(frame, tmp_path)
    for ids in (IDS, []):
        taken = held.take(ids)
        assert_frame_equal(taken, frame.iloc[ids])
        assert (list(taken.dtypes), taken.attrs) == (list(frame.dtypes), frame.attrs)
    rows = [row.data for row in held.source.rows()]
    assert [row["messages"] for row in rows if row] == CHATS
    first = rows[0]
    assert first is not None
    assert set(first) == {str(name) for name in frame.columns}  # the index is none of them
    assert [row["mixed"] for row in rows if row] == [1, "two", [3], {"four": 4}, None]
    assert [row["sparse"] for row in rows if row] == [0, 0, 1, 0, 2]
    assert (first["lang"], first["score"], first["note"], first["7"]) == ("a", 1, "x", True)
    assert held.look is not None
    assert [row["mixed"] for row in held.look(IDS)] == [1, [3], {"four": 4}]

    class Frame(pd.DataFrame):
        @property
        def _constructor(self) -> Callable[..., Any]:
            return Frame

    own = hold(Frame({"text": ["a", "b"]}), tmp_path).take([1])
    assert (type(own), own["text"].tolist()) == (Frame, ["b"])


def test_polars_comes_back_with_its_dtypes(tmp_path: Path) -> None:
    frame = polars_frame()
    held = hold(frame, tmp_path)
    for ids in (IDS, []):
        taken = held.take(ids)
        assert taken.schema == frame.schema
        assert_polars_equal(taken, frame[ids])
    rows = [row.data for row in held.source.rows()]
    assert [row["messages"] for row in rows if row] == CHATS
    assert [(row["lang"], row["grade"]) for row in rows if row][:2] == [("a", "x"), ("b", "y")]
    assert held.look is not None
    assert [row["lang"] for row in held.look(IDS)] == ["a", "b", "a"]


def test_tables_batches_and_streams_come_back_as_arrow(tmp_path: Path) -> None:
    view = pa.list_(pa.struct([("role", pa.string_view()), ("content", pa.large_string())]))
    table = pa.table({"messages": pa.array(CHATS, view), "n": pa.array(range(5), pa.int8())})
    table = table.replace_schema_metadata({"made": "by hand"})
    expected = pa.concat_tables([table.slice(0, 1), table.slice(2, 2)])
    taken = hold(table, tmp_path).take(IDS)
    assert taken.equals(expected, check_metadata=True)
    assert hold(table, tmp_path).take([]).schema == table.schema
    batch = table.to_batches()[0]
    back = hold(batch, tmp_path).take(IDS)
    assert isinstance(back, pa.RecordBatch)
    assert back.to_pylist() == expected.to_pylist()
    assert hold(batch, tmp_path).take([]).schema == batch.schema
    stream = hold(table.to_reader(), tmp_path)  # can be read once
    assert [row.data for row in stream.source.rows()] == table.to_pylist()
    assert stream.take(IDS).equals(expected)


def test_a_dataset_comes_back_with_its_features_and_format(tmp_path: Path) -> None:
    label = datasets.ClassLabel(names=["good", "bad"])
    data = datasets.Dataset.from_list([{"messages": one, "label": "bad"} for one in CHATS])
    data = data.cast_column("label", label)
    for made in (data, data.with_format("pandas"), data.with_format("polars")):
        held = hold(made, tmp_path)
        taken = held.take(IDS)
        assert taken.features == data.features
        assert taken.format["type"] == made.format["type"]
        assert taken.with_format(None).to_list() == data.select(IDS).to_list()
        assert held.look is not None
        assert held.look(IDS) == data.select(IDS).to_list()


def test_equal_rows_have_one_hash_however_they_lie_in_memory(tmp_path: Path) -> None:
    frame = polars_frame()
    parts = pl.concat([frame[:2], frame[2:]], rechunk=False)
    table = pa.table({"messages": CHATS})
    in_parts = pa.concat_tables([table.slice(0, 3), table.slice(3)])
    words = pa.table(
        {"text": pa.chunked_array([pa.array(s).dictionary_encode() for s in ("ab", "cb")])}
    )
    assert [row["text"] for row in rows_of(words, tmp_path)] == list("abcb")
    apart = pl.DataFrame({"lang": pl.Series(["z", "a"], dtype=pl.Categorical)})[1:]
    for one, same in (
        (frame[:1].select("lang"), apart),
        (frame, parts),
        (table, in_parts),
        (pandas_frame(), pandas_frame().copy()),
    ):
        hashes = [hold(data, tmp_path).source.sha256() for data in (one, same)]
        assert hashes[0] == hashes[1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pl.LazyFrame({"text": ["a"]}), r"no rows yet\. Give its frame\.collect\(\)"),
        (pl.Series(["a"]), r"a Series is one column, .* series\.to_frame\('text'\)"),
        (pd.Series(["a"]), "a Series is one column"),
        (
            pa.table({"text": pa.RunEndEncodedArray.from_arrays([2], ["v"])}),
            "the rows of a Table cannot be had .*array_take",
        ),
        (pl.DataFrame({"o": [object()]}), "column 'o' holds Python objects"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns of the frame are named 'a'"),
        (datasets.DatasetDict(), "a DatasetDict is not a dataset"),
    ],
)  # fmt: skip
def test_what_has_no_rows_is_refused_with_what_to_do(
    data: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(SaefilterError, match=message):
        hold(data, tmp_path)
