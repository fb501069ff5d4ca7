from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saefilter.errors import SaefilterError
from saefilter.rows import write as module
from saefilter.rows.write import LineRows, ParquetRows, json_line

TABLE = pa.table(
    {
        "day": pa.array(["a", "b", "a"]).dictionary_encode(),
        "long": pa.array(["x", None, "z"], pa.large_string()),
        "none": pa.nulls(3),
        "at": pa.array([1, 2, 3], pa.timestamp("s", "UTC")),
    }
).replace_schema_metadata({b"huggingface": b"{}"})


def test_a_parquet_file_is_what_pyarrow_writes_at_once(tmp_path: Path) -> None:
    file = ParquetRows(tmp_path / "ours.parquet", TABLE.schema)
    for start in range(3):
        file.write(TABLE.slice(start, 1))
    file.close({b"made by": b"us"})
    whole = TABLE.replace_schema_metadata({**TABLE.schema.metadata, b"made by": b"us"})
    pq.write_table(whole, tmp_path / "theirs.parquet", compression="zstd")
    ours = (tmp_path / "ours.parquet").read_bytes()
    assert pq.read_table(tmp_path / "ours.parquet").equals(
        pq.read_table(tmp_path / "theirs.parquet"), check_metadata=True
    )
    assert pq.read_metadata(tmp_path / "ours.parquet").metadata[b"made by"] == b"us"
    assert len(ours) > 0


@pytest.mark.parametrize(("name", "most"), [("GROUP_ROWS", 4), ("GROUP_BYTES", 300)])
def test_row_groups_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    monkeypatch.setattr(module, name, most)
    table = pa.table({"text": ["x" * 50] * 20})
    file = ParquetRows(tmp_path / "a.parquet", table.schema)
    for start in range(0, 20, 2):
        file.write(table.slice(start, 2).combine_chunks())
    file.close({})
    found = pq.ParquetFile(tmp_path / "a.parquet")
    assert found.num_row_groups > 3
    assert found.read().equals(table)


def test_a_file_without_rows_has_its_columns(tmp_path: Path) -> None:
    ParquetRows(tmp_path / "a.parquet", TABLE.schema).close({b"made by": b"us"})
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 0
    assert pq.read_schema(tmp_path / "a.parquet").names == TABLE.column_names


def test_lines_end_and_what_json_lacks_is_an_error(tmp_path: Path) -> None:
    file = LineRows(tmp_path / "a.jsonl")
    file.write([b"{}", json_line({"a": "é"}, 0)])
    file.close()
    assert (tmp_path / "a.jsonl").read_text(encoding="utf-8") == '{}\n{"a": "é"}\n'
    with pytest.raises(SaefilterError, match="row 8 cannot be written as JSON"):
        json_line({"a": float("inf")}, 7)
