"""A column that is not held gives what an array of it would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saefilter.artifacts.column import Groups
from saefilter.artifacts.provenance import Provenance
from saefilter.artifacts.scores import SCHEMA, Scores
from saefilter.errors import SaefilterError

N_ROWS = 53
DISTANCES = [None if i % 7 == 0 else i / 100 for i in range(N_ROWS)]


@pytest.fixture
def scores(tmp_path: Path) -> Scores:
    entries = [
        {"row_id": i, "row_hash": f"{i * 2**57:016x}", "distance": DISTANCES[i]}
        for i in range(N_ROWS)
    ]
    made = Provenance(
        version="0", created="2026-01-01", input_path="data.jsonl", input_sha256="x",
        preset="minilm", model="m", sae="s", hook="h", sae_fingerprint="f", toxic_set="t",
        toxic_set_sha256="t", metric="contrast", pool="mean", train_on="assistant",
        max_tokens=1024, dtype="fp32", device="cpu", rows=N_ROWS, scored=N_ROWS, quarantined=0,
        truncated=0, duplicates=0, tokens=100, seconds=1.0, reference_rows=50, note=None,
    )  # fmt: skip
    with pq.ParquetWriter(tmp_path / "s.parquet", SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(entries, schema=SCHEMA), row_group_size=6)
        writer.add_key_value_metadata(made.to_metadata())
    return Scores.open(tmp_path / "s.parquet")


@pytest.mark.parametrize("window", [1, 10, 32_768])
def test_rows_are_those_of_an_array(scores: Scores, window: int) -> None:
    held = np.array(DISTANCES, dtype=np.float64)
    column = scores.column("distance", Groups(scores, window))
    parts = [values for _, values in column.blocks()]
    assert len(parts) == {1: 9, 10: 5, 32_768: 1}[window]
    np.testing.assert_array_equal(np.concatenate(parts), held)
    for rows in (slice(None), slice(5, 13), slice(40, 99), slice(9, 9), slice(12, 3)):
        np.testing.assert_array_equal(column[rows], held[rows])
    for ids in ([], [0, 5, 6, 30, 52], [17]):
        np.testing.assert_array_equal(column[np.array(ids, np.int64)], held[ids])
    assert [column[i] for i in (51, 1, 30)] == [held[i] for i in (51, 1, 30)]
    with pytest.raises(IndexError):
        column[N_ROWS]
    part = column.part(11, 31)
    assert len(part) == 20
    np.testing.assert_array_equal(part[3:9], held[14:20])
    assert next(part.blocks())[0] == 0
    np.testing.assert_array_equal(np.concatenate([v for _, v in part.blocks()]), held[11:31])
    assert scores.row_hashes().tolist() == [i * 2**57 for i in range(N_ROWS)]


def test_what_is_damaged_is_one_clear_error(scores: Scores) -> None:
    column = scores.column("distance")
    raw = bytearray(scores.file.read_bytes())
    raw[4:-4000] = bytes(len(raw) - 4004)
    with open(scores.file, "r+b") as file:
        file.write(raw)
    with pytest.raises(SaefilterError, match="cannot be read"):
        column[:]
