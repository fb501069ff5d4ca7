"""Counts of features do not depend on how many rows are read at a time."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import saefilter.artifacts.scores as module
from saefilter.artifacts.provenance import Provenance
from saefilter.artifacts.scores import SCHEMA, Scores
from saefilter.report.data import Evidence

RNG = random.Random(3)
ENTRIES: list[dict[str, Any]] = [
    {
        "row_id": i,
        "truncated": i % 2 == 0,
        "top_words": [f"word {i}"],
        "top_features": None
        if i % 10 == 0
        else [
            {"feature": f, "label": f"{f} of row {i}", "toxic_feature": f + 1,
             "toxic_label": "toxic", "cosine": 0.5, "share": 0.1, "activation": 1.0}
            for f in RNG.sample(range(6), 3)
        ],
    }
    for i in range(40)
]  # fmt: skip
DROPPED = np.array([1, 2, 3, 5, 20, 30, 39])
KEPT = np.array([i for i in range(40) if i not in DROPPED and i % 10 and i != 8])


def write_scores(path: Path) -> Scores:
    made = Provenance(
        version="0", created="2026-01-01", input_path="data.jsonl", input_sha256="x",
        preset="minilm", model="m", sae="s", hook="h", sae_fingerprint="f", toxic_set="t",
        toxic_set_sha256="t", metric="contrast", pool="mean", train_on="assistant",
        max_tokens=1024, dtype="fp32", device="cpu", rows=40, scored=36, quarantined=4,
        truncated=0, duplicates=0, tokens=100, seconds=1.0, reference_rows=50, note=None,
    )  # fmt: skip
    with pq.ParquetWriter(path, SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(ENTRIES, schema=SCHEMA), row_group_size=15)
        writer.add_key_value_metadata(made.to_metadata())
    return Scores.open(path)


@pytest.mark.parametrize("size", [1, 7, 8192])
def test_features_and_details(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", size)
    scores = write_scores(tmp_path / "s.parquet")
    kept, dropped = (np.isin(np.arange(40), ids) for ids in (KEPT, DROPPED))
    found = Evidence.read(scores, [39, 3, 10], kept=kept, dropped=dropped)
    assert found.details.keys() == {3, 10, 39}
    assert found.details[39]["top_words"] == ["word 39"]
    assert found.details[10]["top_features"] is None

    def share(feature: int, ids: Any) -> float:
        having = [f["feature"] for i in ids for f in ENTRIES[i]["top_features"] or []]
        return having.count(feature) / len(ids)

    assert found.features
    for total in found.features:
        assert total.dropped_share == share(total.feature, DROPPED)
        assert total.kept_share == share(total.feature, KEPT)
        first = next(
            f["label"] for e in ENTRIES for f in e["top_features"] or []
            if f["feature"] == total.feature
        )  # fmt: skip
        assert total.label == first
    shares = [total.dropped_share for total in found.features]
    assert shares == sorted(shares, reverse=True)
