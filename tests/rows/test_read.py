from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saefilter.errors import SaefilterError
from saefilter.rows.parse import parse_line
from saefilter.rows.read import Source


def test_jsonl_rows_carry_their_line_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "one"}\r\n\n  \n{"text": "two"}')
    source = Source.open(path)
    rows = list(source.rows())
    assert [(row.index, row.line, row.data) for row in rows] == [
        (0, 1, {"text": "one"}),
        (1, 4, {"text": "two"}),
    ]
    assert source.count_rows() == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "cut', "not readable JSON"),
        (b'{"text": "\xff"}', "not UTF-8 (byte 11 of the line is 0xff)"),
        (b'["a list"]', "a JSON object was expected, this is a list"),
        (b"null", "this is null"),
        (b"{}", "the row is empty"),
        (b'{"text": "\\ud800"}', "surrogate"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
    ],
)
def test_a_damaged_line_is_a_row_with_its_reason(
    jsonl: Callable[..., Path], line: bytes, reason: str
) -> None:
    rows = list(Source.open(jsonl([{"text": "fine"}, line, {"text": "too"}])).rows())
    assert [row.line for row in rows] == [1, 2, 3]
    assert rows[1].data is None
    assert reason in (rows[1].error or "")
    assert rows[1].raw == line
    assert rows[0].error is None
    assert rows[2].data == {"text": "too"}


@given(st.binary(max_size=200))
def test_no_line_raises(line: bytes) -> None:
    data, error = parse_line(line)
    assert (data is None) != (error is None)


def test_all_formats_give_the_same_rows(tmp_path: Path, jsonl: Callable[..., Path]) -> None:
    rows = [{"text": "one, two"}, {"text": 'with "quotes"\nand a line'}]
    plain = jsonl(rows)
    (tmp_path / "zipped.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    with pa.output_stream(tmp_path / "zipped.json.zst", compression="zstd") as file:
        file.write(plain.read_bytes())
    (tmp_path / "array.json").write_text(json.dumps(rows))
    (tmp_path / "lines.json").write_bytes(plain.read_bytes())
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "table.parquet")
    with pa.ipc.new_file(tmp_path / "file.arrow", table.schema) as writer:
        writer.write(table)
    with pa.ipc.new_stream(tmp_path / "stream.arrow", table.schema) as writer:
        writer.write(table)
    (tmp_path / "table.csv").write_text('text\n"one, two"\n"with ""quotes""\nand a line"\n')
    for name in (
        "data.jsonl",
        "zipped.jsonl.gz",
        "zipped.json.zst",
        "file.arrow",
        "stream.arrow",
        "array.json",
        "lines.json",
        "table.parquet",
        "table.csv",
    ):
        source = Source.open(tmp_path / name)
        assert [row.data for row in source.rows()] == rows, name
        assert source.count_rows() == 2, name
    assert Source.open(tmp_path / "zipped.jsonl.gz").stem == "zipped"


def test_csv_rows_that_do_not_fit_the_header_are_quarantined(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(b'id,text\n1,fine\n2,one,too many\n3\n4,"two\nlines"\n5,bad \xff byte\n')
    rows = list(Source.open(path).rows())
    assert [(row.line, row.error) for row in rows] == [
        (2, None),
        (3, "3 fields where the header has 2"),
        (4, "1 fields where the header has 2"),
        (5, None),
        (7, "not UTF-8"),
    ]
    assert rows[3].data == {"id": "4", "text": "two\nlines"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.xyz", b"", "not a kind of file"),
        ("data.parquet", b"PAR1 not really", "not a readable Parquet file"),
        (
            "data.jsonl.gz",
            gzip.compress(b'{"text": "x"}\n' * 1000, mtime=0)[:60],
            "compressed data is damaged",
        ),
        ("data.jsonl.gz", b"not gzip", "compressed data is damaged"),
        ("data.jsonl.zst", b"not zstd", "cannot be read"),
        ("data.arrow", b"ARROW1 not really", "not a readable Arrow file"),
        ("data.jsonl", "\ufeff{}".encode("utf-16-le"), "UTF-16"),
        ("data.json", b"[1, 2", "not readable JSON"),
        ("data.csv", b"a,a\n1,2\n", "same name"),
    ],
)
def test_an_unreadable_file_is_one_clear_error(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SaefilterError, match=message):
        list(Source.open(path).rows())


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(SaefilterError, match="there is no file"):
        Source.open(tmp_path / "none.jsonl")
    with pytest.raises(SaefilterError, match="is a folder"):
        Source.open(tmp_path)


def test_equal_rows_have_equal_digests(jsonl: Callable[..., Path]) -> None:
    first, second, third = Source.open(jsonl([{"a": 1}, {"a": 1}, {"a": 2}])).rows()
    assert first.digest() == second.digest() != third.digest()


def test_a_window_too_long_to_read_names_what_decompresses_it(tmp_path: Path) -> None:
    """As `zstd --long=31` writes it."""
    line = b'{"text": "Tea."}\n'
    window = bytes([(31 - 10) << 3])  # RFC 8878, 3.1.1.1.2: the exponent over 2^10
    block = (len(line) << 3 | 1).to_bytes(3, "little") + line
    path = tmp_path / "long.jsonl.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd\x00" + window + block)
    with pytest.raises(SaefilterError, match=r"zstd -d --long=31 long\.jsonl\.zst"):
        list(Source.open(path).rows())
    window = bytes([(20 - 10) << 3])
    path.write_bytes(b"\x28\xb5\x2f\xfd\x00" + window + block)
    assert [row.data for row in Source.open(path).rows()] == [{"text": "Tea."}]
