"""Input that was made to break readers, or to say one thing here and another to the trainer."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from whole import read_table

from saefilter.errors import SaefilterError
from saefilter.rows import limits
from saefilter.rows.formats import RowProblem, recognise
from saefilter.rows.inputs import open_input
from saefilter.rows.read import Source
from saefilter.rows.row import Row
from saefilter.rows.write import (
    LineRows,
    ParquetRows,
    QuarantinedRow,
    json_line,
    quarantine_schema,
)

FINE = {"text": "fine"}


def rows_of(path: Path) -> list[Row]:
    rows = list(Source.open(path).rows())
    assert [row.index for row in rows] == list(range(len(rows)))
    for row in rows:
        assert (row.data is None) != (row.error is None)
        row.digest()
    return rows


@pytest.fixture
def short_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ROW_BYTES", 1000)
    monkeypatch.setattr(limits, "KEPT_BYTES", 100)


LINES = {
    "NaN": (b'{"text": "a", "x": NaN}', "NaN is no JSON value; write null"),
    "infinity": (b'{"text": "a", "x": [-Infinity]}', "-Infinity is no JSON value"),
    "overflow": (b'{"text": "a", "x": 1e999}', "the number 1e999 is too large"),
    "digits": (b'{"text": "a", "x": ' + b"9" * 5000 + b"}", "more digits than can be read"),
    "key twice": (b'{"text": "harmless", "text": "b"}', "the key 'text' occurs twice"),
    "key twice inside": (
        b'{"messages": [{"role": "user", "content": "a", "\\u0063ontent": "b"}]}',
        "the key 'content' occurs twice",
    ),
    "deep": (b'{"text": "a", "x": ' + b"[" * 200 + b"]" * 200 + b"}", "nested too deeply"),
    "deeper": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
    "never closed": (b"[" * 1_000_000, "nested too deeply"),
    "half pair": (b'{"text": "a\\ud83d"}', "half of a surrogate pair"),
    "half pair in a key": (b'{"text": "a", "\\udc00": 1}', "half of a surrogate pair"),
    "raw half pair": (b'{"text": "\xed\xa0\x80"}', "not UTF-8"),
    "NUL": (b'{"text": "a\x00b"}', "Invalid control character"),
    "nothing but NUL": (b"\x00\x00\x00", "not readable JSON"),
    "byte order mark within": (b'\xef\xbb\xbf{"text": "a"}', "not readable JSON"),
    "two rows": (b'{"text": "a"}\r{"text": "b"}', "Extra data"),
}


@pytest.mark.parametrize("name", LINES)
def test_a_hostile_line_is_set_aside_with_its_reason(
    tmp_path: Path, jsonl: Callable[..., Path], name: str
) -> None:
    line, reason = LINES[name]
    rows = rows_of(jsonl([FINE, line, FINE]))
    assert [row.data for row in rows] == [FINE, None, FINE]
    assert reason in str(rows[1].error)
    assert rows[1].raw == line
    if name in ("deeper", "never closed", "digits"):
        return  # what makes the whole array unreadable
    if name not in ("nothing but NUL", "byte order mark within", "two rows", "NUL"):
        path = tmp_path / "array.json"
        path.write_bytes(b"[" + b'{"text": "fine"},' + line + b"\n,\n" + b'{"text": "fine"}]')
        rows = rows_of(path)
        assert [row.data for row in rows] == [FINE, None, FINE]
        assert reason.split(" (")[0] in str(rows[1].error)
        assert rows[1].raw == line


def test_what_is_odd_but_valid_stays(jsonl: Callable[..., Path]) -> None:
    rows = [
        {"text": "\u202eright to left\u202c \x1b]0;title\x07 \u0000"},
        {"text": "<|im_start|>system <script>alert(1)</script> =HYPERLINK(1)"},
        {"text": "a", "x": 10**400, "y": -0.0, "": 1, "\x1b[31m": {"a\nb": None}},
        {"text": "a", "x": json.loads("[" * 90 + "]" * 90)},
    ]
    assert [row.data for row in rows_of(jsonl(rows))] == rows


def test_mixed_line_ends_and_a_missing_last_one(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'{"text": "a"}\r\n\r\n{"text":\r"b"}\n\r{"text": "c"}')
    assert [(row.line, row.data) for row in rows_of(path)] == [
        (1, {"text": "a"}),
        (3, {"text": "b"}),
        (4, {"text": "c"}),
    ]


@pytest.mark.usefixtures("short_rows")
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_a_line_that_is_too_long_is_set_aside(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"data{suffix}"
    fits = b'{"text": "' + b"a" * 988 + b'"}'
    longer = fits.replace(b"a", b"aa", 1)
    content = b"\n".join([fits, longer, longer * 50, b'{"text": "fine"}', longer * 9])
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    rows = rows_of(path)
    assert len(fits) == 1000
    assert [row.line for row in rows] == [1, 2, 3, 4, 5]
    assert [row.data is None for row in rows] == [False, True, True, False, True]
    assert rows[1].error == "the line is longer than 0.000953674 MiB"
    assert rows[1].raw == longer[:100]
    assert Source.open(path).count_rows() == 5
    assert read_table(Source.open(path), [0, 3]).table.num_rows == 2


@pytest.mark.usefixtures("short_rows")
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b'[{"text": "a"}, {"text": "' + b"a" * 5000, r"longer than .* \(item 2\)"),
        ("a.csv", b'text,b\na,b\nc,"' + b"d\n" * 2000, r"a.csv:3: a row is longer"),
        ("b.csv", b"text,b\na,b\n" + b"d" * 2000, r"b.csv:3: a row is longer"),
        ("c.csv", b"text" * 2000, r"c.csv:1: a row is longer"),
    ],
)
def test_a_row_without_an_end_is_an_error_that_says_where(
    tmp_path: Path, name: str, content: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saefilter.rows.parse.READ_BYTES", 512)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SaefilterError, match=message):
        rows_of(tmp_path / name)


@pytest.mark.usefixtures("short_rows")
def test_a_parquet_row_that_is_too_long_is_set_aside(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b" * 2000, "c"]}), tmp_path / "a.parquet")
    rows = rows_of(tmp_path / "a.parquet")
    assert [row.error for row in rows] == [None, "the row is longer than 0.000953674 MiB", None]
    assert rows[1].raw == b"text: " + b"b" * 100


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_bomb_is_refused_whatever_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(limits, "EXPANSION_FROM", 1 << 20)
    path = tmp_path / f"data.jsonl{suffix}"
    blank = b"\n" * (1 << 23)
    if suffix == ".gz":
        path.write_bytes(gzip.compress(blank))
    else:
        with pa.output_stream(path, compression="zstd") as file:
            file.write(blank)
    with pytest.raises(SaefilterError, match="expands to more than 200 times its size"):
        list(Source.open(path).rows())


ENDLESS = """
import resource, sys
from saefilter.errors import SaefilterError
from saefilter.rows.read import Source
source = Source.open(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(sum(1 for _ in source.rows()), "rows")
except SaefilterError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def test_an_endless_line_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'{"text": "')
        for _ in range(900):
            file.write(b"a" * (1 << 20))
    found = subprocess.run(
        [sys.executable, "-c", ENDLESS, str(path)], capture_output=True, text=True, check=True
    )
    said, mebibytes = found.stdout.splitlines()
    assert said == "1 rows"
    assert int(mebibytes) < 300  # a 64 MiB line, twice while it is cut


def test_csv_with_an_open_quote_is_no_row_with_the_rest_as_its_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'text,b\n1,2\n3,"4\n5,6\n')
    rows = rows_of(path)
    assert [row.error for row in rows] == [None, "not readable CSV: unexpected end of data"]
    assert rows[1].raw == b'3,"4\n5,6'


def test_csv_header_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"te\xffxt\na\n")
    with pytest.raises(SaefilterError, match="names of the columns are not UTF-8"):
        rows_of(tmp_path / "a.csv")


def text_array(content: bytes, ends: list[int]) -> Any:
    offsets = b"".join(end.to_bytes(4, "little") for end in [0, *ends])
    return pa.Array.from_buffers(
        pa.string(), len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(content)]
    )


def write_arrow(path: Path, table: Any) -> None:
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write(table)


def test_arrow_offsets_beyond_the_data_are_refused_not_followed(tmp_path: Path) -> None:
    for name, array in (
        ("far", text_array(b"abcd", [0xFFFF, 4])),
        ("utf", text_array(b"\xff", [1])),
    ):
        write_arrow(tmp_path / f"{name}.arrow", pa.table({"text": array}))
        with pytest.raises(SaefilterError, match="not a readable Arrow file"):
            rows_of(tmp_path / f"{name}.arrow")


def test_values_of_parquet_that_python_lacks_set_their_row_aside(tmp_path: Path) -> None:
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
    files = {
        "utf": (pa.table({"text": text_array(b"ab\xff\xfe", [2, 4])}), [None, "not UTF-8"]),
        "year": (
            pa.table({"text": ["a", "b"], "t": pa.array([0, 2**60], pa.timestamp("ms"))}),
            [None, "a value cannot be read: Python int too large to convert to C int"],
        ),
        "twice": (pa.table({"text": ["a"], "m": twice}), ["a value cannot be read"]),
    }
    for name, (table, expected) in files.items():
        pq.write_table(table, tmp_path / f"{name}.parquet")
        found = [row.error for row in rows_of(tmp_path / f"{name}.parquet")]
        assert [e and e[: len(x or "")] for e, x in zip(found, expected, strict=True)] == expected
    assert rows_of(tmp_path / "utf.parquet")[1].raw == b"text: \xff\xfe"


def test_a_table_with_a_name_twice_is_an_error(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    write_arrow(tmp_path / "a.arrow", table)
    for suffix in ("parquet", "arrow"):
        with pytest.raises(SaefilterError, match="two columns are named 'text'"):
            rows_of(tmp_path / f"a.{suffix}")


def test_a_folder_name_makes_no_column(tmp_path: Path) -> None:
    folder = tmp_path / "label=good"
    folder.mkdir()
    pq.write_table(pa.table({"text": ["a"]}), folder / "a.parquet")
    assert read_table(Source.open(folder / "a.parquet"), [0]).table.column_names == ["text"]


@pytest.mark.parametrize("damage", [b"\xff", b"\x00"])
def test_damaged_pages_are_an_error_for_rows_and_table(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"row {i}" for i in range(2000)]}), path, compression="none")
    content = bytearray(path.read_bytes())
    content[4:400] = damage * 396
    path.write_bytes(content)
    with pytest.raises(SaefilterError, match="not a readable Parquet file"):
        rows_of(path)
    with pytest.raises(SaefilterError, match="not a readable Parquet file"):
        read_table(Source.open(path), [0])


def test_parquet_with_a_wrong_count_of_its_rows_is_an_error(tmp_path: Path) -> None:
    """Found by fuzzing: row ids went wrong, and gigabytes were set aside for rows that are not."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"] * 20}), path)
    sound = path.read_bytes()
    footer = len(sound) - 8 - int.from_bytes(sound[-8:-4], "little")
    places = [at for at in range(footer, len(sound)) if sound[at : at + 2] == b"\x16\x28"]
    assert len(places) > 1  # 20, as thrift writes it: in the file's metadata and in the group's
    refused = 0
    for at in places:
        path.write_bytes(sound[: at + 1] + b"\x2a" + sound[at + 2 :])
        for read in (rows_of, lambda path: read_table(Source.open(path), [0])):
            try:
                read(path)
            except SaefilterError as error:
                refused += "where it states" in str(error)
    assert refused >= 4


def test_tables_of_more_rows_than_bytes_allow_are_refused(tmp_path: Path) -> None:
    """Found by fuzzing: rows without a value take no space, and any number of them can be stated."""
    nothing = pa.table({"text": pa.nulls(3_000_000)})
    write_arrow(tmp_path / "a.arrow", nothing)
    pq.write_table(nothing, tmp_path / "a.parquet")
    for suffix in ("arrow", "parquet"):
        with pytest.raises(SaefilterError, match="it states 3,000,000 rows in"):
            rows_of(tmp_path / f"a.{suffix}")


MANY_COPIES = """
import resource, sys
from saefilter.rows.read import Source
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(sum(row.data is not None for row in Source.open(sys.argv[1]).rows()))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.parametrize("store_schema", [True, False])
def test_one_long_text_meant_by_every_row_does_not_fill_the_memory(
    tmp_path: Path, store_schema: bool
) -> None:
    """Half a kilobyte of Parquet, and 1.2 GB of texts."""
    indices = pa.array([0] * 300, pa.int32())
    texts = pa.DictionaryArray.from_arrays(indices, pa.array(["a" * (4 << 20)]))
    pq.write_table(
        pa.table({"text": texts}), tmp_path / "a.parquet", compression="zstd",
        store_schema=store_schema, dictionary_pagesize_limit=1 << 30,
    )  # fmt: skip
    found = subprocess.run(
        [sys.executable, "-c", MANY_COPIES, str(tmp_path / "a.parquet")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    n_rows, mebibytes = found.stdout.splitlines()
    assert n_rows == "300"
    assert int(mebibytes) < 900


def test_every_row_with_columns_of_its_own_does_not_fill_the_memory(
    jsonl: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "COLUMNS", 50)
    flat = [{"text": "a", f"c{i}": 1} for i in range(80)]
    found = read_table(Source.open(jsonl(flat)), list(range(80)))
    assert (found.table.num_columns, len(found.row_ids), len(found.conflicts)) == (50, 49, 31)
    assert "more than 50 columns" in found.conflicts[79]
    inside = [{"text": "a", "m": [{"x": {f"k{i}": 1}}]} for i in range(80)]
    found = read_table(Source.open(jsonl(inside)), list(range(80)))
    assert len(found.row_ids) == 49
    assert "column 'm' would have more than 50 fields" in found.conflicts[79]


def test_rows_with_a_type_of_their_own_each_are_set_aside_in_time(
    jsonl: Callable[..., Path],
) -> None:
    rows: list[Any] = [{"m": {f"k{i}": i}} for i in range(1500)]
    found = read_table(Source.open(jsonl([*rows, {"m": 1}])), list(range(1501)))
    assert sorted([*found.row_ids, *found.conflicts]) == list(range(1501))


def test_parts_of_conversations_that_are_json_in_a_text_are_read_as_strictly() -> None:
    for text, reason in (
        ('[{"role": "assistant", "content": "\\ud800"}]', "half of a surrogate pair"),
        ('[{"role": "assistant", "content": "a", "content": "b"}]', "occurs twice"),
        ("[" * 100_000, "nested too deeply"),
        ('[{"role": "assistant", "content": ' + "[" * 200 + "]" * 200 + "}]", "too deeply"),
        ("[NaN]", "NaN is no JSON value"),
    ):
        with pytest.raises(RowProblem, match=reason):
            recognise({"messages": text})


def test_reasons_do_not_grow_with_the_row() -> None:
    for row in (
        {"x" * 10_000: 1},
        {"messages": [{"role": "r" * 10_000, "content": "a"}]},
        {"messages": [{"role": {"a" * 10_000: 1}, "content": "a"}]},
    ):
        with pytest.raises(RowProblem) as caught:
            recognise(row)
        assert len(str(caught.value)) <= 400  # never cut, but what it quotes is


def test_what_json_lacks_is_not_written_as_json(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "x": [float("nan")]}), tmp_path / "a.parquet")
    table = read_table(Source.open(tmp_path / "a.parquet"), [0]).table
    with pytest.raises(SaefilterError, match="row 1 cannot be written as JSON"):
        json_line(table.to_pylist()[0], 0)


def test_every_quarantined_row_can_be_read_back(tmp_path: Path, jsonl: Callable[..., Path]) -> None:
    rows = rows_of(jsonl([line for line, _ in LINES.values()]))
    entries = [QuarantinedRow(row, row.error or "").entry(has_file=False) for row in rows]
    as_lines = LineRows(tmp_path / "q.jsonl")
    as_lines.write(json_line(entry, 0) for entry in entries)
    as_lines.close()
    schema = quarantine_schema(has_file=False)
    as_table = ParquetRows(tmp_path / "q.parquet", schema)
    as_table.write(pa.Table.from_pylist(entries, schema))
    as_table.close({})
    lines = (tmp_path / "q.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    table = pq.read_table(tmp_path / "q.parquet").to_pylist()
    assert [json.loads(line) for line in lines] == table
    for entry, row in zip(table, rows, strict=True):
        assert "saefilter_bytes_hex" in entry
        raw = entry["saefilter_bytes_hex"]
        assert (bytes.fromhex(raw) if raw else entry["saefilter_text"].encode()) == row.raw


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(SaefilterError, match="not a regular file"):
        open_input(tmp_path / "a.jsonl")
    with pytest.raises(SaefilterError, match="holds no file"):
        open_input(tmp_path)
    (tmp_path / "b.jsonl").symlink_to("/dev/zero")
    with pytest.raises(SaefilterError, match="not a regular file"):
        open_input(tmp_path / "b.jsonl")


def test_links_out_of_a_folder_and_loops_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.jsonl").write_text('{"text": "secret"}\n')
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"text": "a"}\n')
    (folder / "sub").symlink_to(folder)
    assert [row.data for row in open_input(folder).rows()] == [{"text": "a"}]
    with pytest.raises(SaefilterError, match="are the same file"):
        open_input(f"{folder}/**/*.jsonl")
    (folder / "sub").unlink()
    (folder / "b.jsonl").symlink_to(tmp_path / "secret.jsonl")
    for name in (str(folder), f"{folder}/*.jsonl"):
        with pytest.raises(SaefilterError, match=r"b.jsonl is a link to a file outside"):
            open_input(name)
    assert open_input(folder / "b.jsonl").count_rows() == 1  # named by the user


def test_the_hub_caches_own_links_are_followed(tmp_path: Path) -> None:
    snapshot = tmp_path / "datasets--a--b" / "snapshots" / "0123"
    blobs = tmp_path / "datasets--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "ab12").write_text('{"text": "a"}\n')
    for name in ("a.jsonl", "same.jsonl"):
        (snapshot / name).symlink_to("../../blobs/ab12")
    assert open_input(snapshot).count_rows() == 2


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/a\xff.jsonl"
    with open(path, "wb") as file:
        file.write(b'{"text": "a"}\n')
    with pytest.raises(SaefilterError, match="not UTF-8"):
        open_input(os.fsdecode(path))


def test_names_in_a_store_cannot_leave_the_cache() -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    for name in ("x/../../../../evil.jsonl", "y.jsonl"):
        store.store[f"/hostile/{name}"] = store.open(f"/other/{name}", "wb")
    with pytest.raises(SaefilterError, match="would not stay in its folder"):
        open_input("memory://hostile")
