"""Rows that no table holds as they are: `filter` writes them as they stand, and says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import chat
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from saefilter.cli import app, commands
from saefilter.errors import SaefilterError
from saefilter.rows.read import Source
from saefilter.rows.tables import typed_rows, why_no_table

commands()


def calling(arguments: Any) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "find", "arguments": arguments}}
    row = chat("Where is the ferry?", "In Emden.")
    row["messages"].insert(1, {"role": "assistant", "content": "", "tool_calls": [call]})
    row["messages"].insert(2, {"role": "tool", "content": "Emden"})
    return row


def of_types(value: Any) -> dict[str, Any]:
    return {**chat("q", "An answer."), "n": value}


KINDS = {
    "fields": [calling({"harbour": "Emden"}), calling({"time": "06:00"}), chat("q", "Good day.")],
    "types": [calling({"limit": 5}), calling({"limit": "five"}), calling({"limit": [5]})],
    "columns": [of_types(1), of_types("one"), of_types({"a": None})],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def filtered(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["filter", "d.jsonl", "--drop-count", "1", *arguments])


@pytest.mark.parametrize("kind", KINDS)
def test_lines_are_copied_and_no_row_is_set_aside_for_its_types(folder: Path, kind: str) -> None:
    lines = [json.dumps(row) for row in KINDS[kind]]
    (folder / "d.jsonl").write_text("\n".join(lines) + "\n")
    done = filtered()
    assert done.exit_code == 0, done.output
    kept = (folder / "d.filtered.jsonl").read_text().splitlines()
    (dropped,) = map(json.loads, (folder / "d.filtered.dropped.jsonl").read_text().splitlines())
    assert len(kept) == 2
    assert set(kept) < set(lines)
    own = {name: value for name, value in dropped.items() if not name.startswith("saefilter_")}
    assert own in KINDS[kind]
    assert (folder / "d.filtered.quarantined.jsonl").read_bytes() == b""


def test_a_json_array_keeps_its_values_too(folder: Path) -> None:
    (folder / "d.json").write_text(json.dumps(KINDS["fields"]))
    done = CliRunner().invoke(app, ["filter", "d.json", "--drop-count", "1"])
    assert done.exit_code == 0, done.output
    kept = [json.loads(line) for line in (folder / "d.filtered.jsonl").read_text().splitlines()]
    assert len(kept) == 2
    assert all(row in KINDS["fields"] for row in kept)


def test_a_table_that_is_asked_for_is_written_and_its_cost_told(folder: Path) -> None:
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in KINDS["fields"]))
    done = filtered("-o", "x.parquet")
    assert done.exit_code == 0, done.output
    assert "missing fields become nulls" in " ".join(done.stderr.split())
    assert pq.read_table(folder / "x.parquet").num_rows == 2


def test_a_table_that_would_hold_nothing_is_refused_before_anything_is_written(
    folder: Path,
) -> None:
    rows = [calling({"items": [1, "two"]}) for _ in range(3)]
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused = filtered("-o", "x.parquet").exception
    assert isinstance(refused, SaefilterError)
    assert "none of the 3 scored rows fits into one table: column 'messages'" in str(refused)
    assert "of more than one type" in str(refused)
    assert not list(folder.glob("x.*"))


def test_reasons_are_true_where_no_type_is_most_rows(folder: Path) -> None:
    """Five types of two rows each: none of them is what most rows have."""
    rows = [calling({"limit": value}) for value in (5, "five", [5], True, {"at": "five"}) * 2]
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert filtered("-o", "x.parquet").exit_code == 0
    reasons = pq.read_table(folder / "x.quarantined.parquet")["saefilter_reason"].to_pylist()
    assert set(reasons) == {
        "column 'messages' is a list whose inner types differ from those of the rows in the table, "
        "which one table cannot hold"
    }


def test_one_number_that_no_column_holds_has_a_true_reason(folder: Path) -> None:
    rows = [{**chat("q", f"Answer {i}."), "n": 10**22} for i in range(3)]
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = filtered()
    assert done.exit_code == 0, done.output
    assert str(10**22) in (folder / "d.filtered.jsonl").read_text()


ARGUMENTS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 3) | st.text("xy", max_size=2))


@settings(max_examples=60, deadline=None)
@given(st.lists(ARGUMENTS, min_size=1, max_size=5))
def test_what_a_table_is_said_to_hold_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, every: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "d.jsonl"
    rows = [{"call": {"arguments": one}} for one in every]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = Source.open(path)
    if why_no_table(source) is not None:
        return
    from saefilter.rows.pieces import pieces

    typed = typed_rows(source, np.ones(len(rows), dtype=bool))
    back = [
        row for piece in pieces(source) for row in typed.table(piece, range(len(piece))).to_pylist()
    ]
    assert back == rows
