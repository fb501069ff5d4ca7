"""Inputs that are not one file: folders, patterns, standard input, URLs, hub datasets."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from whole import read_table

from saefilter.errors import SaefilterError
from saefilter.rows.held import hold
from saefilter.rows.inputs import open_input


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two JSONL files and things that are not data."""
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    (data / ".cache").mkdir()
    (data / "b.jsonl").write_text('{"text": "three", "n": 3}\n')
    (data / "sub" / "a.jsonl").write_text('{"text": "four", "n": 4}\n')
    (data / "a.jsonl").write_text('{"text": "one"}\n\n{"text": "two"}\n')
    (data / ".cache" / "old.jsonl").write_text('{"text": "hidden"}\n')
    (data / "README.md").write_text("about")
    return data


def texts(rows: Any) -> list[str]:
    return [row.data["text"] for row in rows]


def test_a_folder_is_its_files_in_order_and_rows_name_theirs(folder: Path) -> None:
    source = open_input(folder)
    rows = list(source.rows())
    assert texts(rows) == ["one", "two", "three", "four"]
    assert [row.index for row in rows] == [0, 1, 2, 3]
    assert [(row.file, row.line) for row in rows] == [
        ("a.jsonl", 1), ("a.jsonl", 3), ("b.jsonl", 1), ("sub/a.jsonl", 1),
    ]  # fmt: skip
    assert source.count_rows() == 4
    assert source.stem == "data"
    assert texts(source.rows({1, 3})) == ["two", "four"]
    before = source.sha256()
    (folder / "b.jsonl").rename(folder / "c.jsonl")
    assert open_input(folder).sha256() != before


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*.jsonl", ["one", "two", "three"]), ("**/a.jsonl", ["one", "two", "four"])],
)
def test_a_pattern_is_the_files_that_match(
    folder: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, expected: list[str]
) -> None:
    assert texts(open_input(f"{folder}/{pattern}").rows()) == expected
    monkeypatch.chdir(folder)
    assert texts(open_input(pattern).rows()) == expected
    assert open_input(f"../data/{pattern}").stem == "data"


def test_one_file_of_a_folder_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "only.jsonl").write_text('{"text": "one"}\n')
    assert open_input(tmp_path).stem == "only"


def test_what_holds_no_data_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SaefilterError, match="holds no file that can be read"):
        open_input(tmp_path)
    with pytest.raises(SaefilterError, match="holds no file that can be read"):
        open_input(f"{tmp_path}/*.jsonl")
    with pytest.raises(SaefilterError, match="there is no file"):
        open_input(tmp_path / "none.jsonl")


def filtered_into(folder: Path, data: str, *names: str, layout: Any = ()) -> None:
    """As `filter` leaves a folder: rows, and a report that says what they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text('{"text": "x"}\n')
    outputs = {"kept": names[0], "dropped": names[1]} if not layout else {"kept": folder.name}
    report = "saefilter.report.json" if layout else "c.report.json"
    (folder / report).write_text(json.dumps({"input": data, "outputs": outputs, "layout": layout}))


def test_dropped_rows_are_no_data_where_none_was_kept(tmp_path: Path) -> None:
    layout = [{"file": "a/1.jsonl", "dropped": {"name": "a/1.dropped.jsonl"}}]
    filtered_into(tmp_path / "out", "data", "a/1.dropped.jsonl", layout=layout)
    for name in (tmp_path / "out", tmp_path / "out" / "a", tmp_path / "out" / "*" / "1.*"):
        with pytest.raises(SaefilterError, match="only what filter dropped or set aside"):
            open_input(name)
    asked = open_input(tmp_path / "out" / "a" / "*.dropped.jsonl")  # by its name it is to be had
    assert asked.path.name == "1.dropped.jsonl"


def test_kept_rows_are_data_in_a_folder_whose_name_is_in_that_of_the_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filtered_into(tmp_path / "d", "data.jsonl", "c.jsonl", "c.dropped.jsonl")
    assert open_input(tmp_path / "d").path.name == "c.jsonl"
    monkeypatch.chdir(tmp_path / "d")  # which has no name then
    assert open_input(".").path.name == "c.jsonl"


def test_outputs_must_not_become_input(folder: Path, tmp_path: Path) -> None:
    for source in (open_input(folder), open_input(f"{folder}/*.jsonl")):
        with pytest.raises(SaefilterError, match="would be read as data"):
            source.refuse_to_join([folder / "out.jsonl"])
        source.refuse_to_join([tmp_path / "out.jsonl", folder / "out.report.html"])
    open_input(f"{folder}/*.jsonl").refuse_to_join([folder / "out.parquet"])


def test_several_jsonl_files_keep_their_lines_and_columns(folder: Path) -> None:
    found = read_table(open_input(folder), [1, 3])
    assert found.table.to_pylist() == [{"text": "two", "n": None}, {"text": "four", "n": 4}]
    assert found.lines == {1: b'{"text": "two"}', 3: b'{"text": "four", "n": 4}'}


def test_several_parquet_files_keep_their_types(tmp_path: Path) -> None:
    first = pa.table({"text": ["a", "b"], "n": pa.array([1, 2], pa.int16())})
    pq.write_table(first, tmp_path / "0.parquet")
    pq.write_table(pa.table({"text": ["c"]}), tmp_path / "1.parquet")
    found = read_table(open_input(tmp_path), [0, 2]).table
    assert found.schema == first.schema
    assert found.to_pylist() == [{"text": "a", "n": 1}, {"text": "c", "n": None}]
    pq.write_table(pa.table({"text": [1.5]}), tmp_path / "2.parquet")
    with pytest.raises(SaefilterError, match="columns of different types"):
        read_table(open_input(tmp_path), [0, 2])


def test_standard_input_is_kept_for_filtering(monkeypatch: pytest.MonkeyPatch) -> None:
    def pipe(content: bytes) -> None:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))

    pipe(b'{"text": "one"}\n{"text": "two"}\n')
    source = open_input("-")
    assert texts(source.rows()) == texts(source.rows()) == ["one", "two"]
    assert source.stem == "stdin"
    pipe(b'[{"text": "of a list"}]')
    assert texts(open_input("-").rows()) == ["of a list"]
    pipe(b"")
    with pytest.raises(SaefilterError, match="nothing came"):
        open_input("-")


def test_a_url_is_fetched_and_fetched_anew_when_it_changed(
    tmp_path: Path, jsonl: Callable[..., Path]
) -> None:
    url = f"file://{jsonl([{'text': 'one'}], 'there.jsonl')}"
    source = open_input(url)
    assert texts(source.rows()) == ["one"]
    assert source.stem == "there"
    assert open_input(url).path == source.path
    jsonl([{"text": "changed"}], "there.jsonl")
    assert texts(open_input(url).rows()) == ["changed"]


def test_a_url_can_be_a_folder_or_a_pattern(folder: Path) -> None:
    assert texts(open_input(f"file://{folder}").rows()) == ["one", "two", "three", "four"]
    source = open_input(f"file://{folder}/*.jsonl")
    assert texts(source.rows()) == ["one", "two", "three"]
    assert [row.file for row in source.rows()] == ["a.jsonl", "a.jsonl", "b.jsonl"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///none/here.jsonl", "cannot be fetched"),
        ("nosuch://bucket/data.jsonl", "cannot be fetched"),
        ("gdrive://bucket/data.jsonl", "needs another package"),
    ],
)
def test_a_url_that_cannot_be_had_is_one_clear_error(url: str, message: str) -> None:
    with pytest.raises(SaefilterError, match=message):
        open_input(url)


def test_a_hub_dataset_and_a_slice_of_it(
    tmp_path: Path, jsonl: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    cache = tmp_path / "cache"
    rows = [{"text": "one", "n": 1}, {"text": "two", "n": 2}]
    datasets.load_dataset("json", data_files=str(jsonl(rows)), cache_dir=str(cache))
    (arrow,) = cache.rglob("*.arrow")
    cached = cache / "org___name" / "default" / "0.0.0" / "0123"
    cached.mkdir(parents=True)
    shutil.move(arrow, cached / "name-train.arrow")
    shutil.move(arrow.with_name("dataset_info.json"), cached / "dataset_info.json")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)

    source = open_input("org/name")
    assert source.kind == "parquet"
    assert [row.data for row in source.rows()] == rows
    assert source.stem == "org--name-train"
    assert [row.data for row in open_input("org/name:train[1:]").rows()] == rows[1:]
    with pytest.raises(SaefilterError, match="neither a file here nor a dataset"):
        open_input("org/other")
    with pytest.raises(SaefilterError, match=r"org/name:train\[:1000\]"):
        open_input("org/name:test")


def test_json_of_a_folder_with_different_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n')
    (tmp_path / "b.csv").write_text("text\ntwo\n")
    (tmp_path / "c.json").write_text(json.dumps([{"text": "three"}]))
    pq.write_table(pa.table({"text": ["four"]}), tmp_path / "d.parquet")
    source = open_input(tmp_path)
    assert texts(source.rows()) == ["one", "two", "three", "four"]
    assert read_table(source, [0, 1, 3]).table["text"].to_pylist() == ["one", "two", "four"]


def test_a_transform_that_would_be_passed_over_is_refused(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list([{"text": "Tea."}])
    shouted = data.with_transform(lambda rows: {"text": [t.upper() for t in rows["text"]]})
    with pytest.raises(SaefilterError, match="a transform, which reading its columns passes over"):
        hold(shouted, tmp_path)
    held = hold(shouted.with_format(None), tmp_path)
    assert [row.data for row in held.source.rows()] == [{"text": "Tea."}]
    assert hold(data.with_format("numpy"), tmp_path).take([0])["text"] == ["Tea."]
