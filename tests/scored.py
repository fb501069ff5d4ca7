"""A scores file that is written here and not computed: no model is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from conftest import chat

from saefilter.artifacts.integrity import content_sha256
from saefilter.artifacts.provenance import Provenance
from saefilter.artifacts.scores import SCHEMA, Scores
from saefilter.rows.read import Source
from saefilter.scoring.prepare import conversation_of

ROWS = [{**chat(f"question {i}", f"answer {i}"), "id": i, "tag": "2024-01-01"} for i in range(40)]
EVIDENCE = {
    "feature": 3, "label": "risk", "activation": 1.0, "share": 0.5,
    "toxic_feature": 7, "toxic_label": "reckless", "cosine": 0.6,
}  # fmt: skip


def provenance_of(**changes: Any) -> Provenance:
    """What scores say of how they were made."""
    made = Provenance(
        version="0", created="2026-01-01", input_path="data.jsonl", input_sha256="i",
        preset="minilm", model="m", sae="s", hook="h", sae_fingerprint="f", toxic_set="t",
        toxic_set_sha256="t", metric="contrast", pool="mean", train_on="assistant",
        max_tokens=1024, dtype="fp32", device="cpu", rows=1, scored=1, quarantined=0, truncated=0,
        duplicates=0, tokens=100, seconds=1.0, reference_rows=50, note="a note",
    )  # fmt: skip
    return replace(made, **changes)


def write_scores(
    source: Source, path: Path, distances: Sequence[float] | None = None, **changes: Any
) -> Scores:
    """Scores with these distances, by row id, or ones that are a fixed function of the row's number.

    Rows without a conversation are quarantined; `changes` are of the provenance.
    """
    entries: list[dict[str, Any]] = []
    for row in source.rows():
        entry: dict[str, Any] = {
            "row_id": row.index, "line": row.line, "file": row.file, "row_hash": row.digest()
        }  # fmt: skip
        conversation = conversation_of(row)
        if isinstance(conversation, str):
            entry |= {"status": "quarantined", "reason": conversation}
        else:
            fixed = (row.index * 37 % 101) / 101
            distance = fixed if distances is None else distances[row.index]
            entry |= {
                "status": "scored", "distance": distance, "proximity": 1 - distance,
                "percentile": 100 * (1 - distance), "n_tokens": 5, "n_trained": 3, "n_scored": 3,
                "truncated": False, "top_features": [EVIDENCE], "top_words": ["word"],
            }  # fmt: skip
        entries.append(entry)
    scored = sum(entry["status"] == "scored" for entry in entries)
    table = pa.Table.from_pylist(entries, schema=SCHEMA)
    made = provenance_of(
        input_path=str(source.path), input_sha256=source.sha256(), rows=len(entries),
        scored=scored, quarantined=len(entries) - scored,
    )  # fmt: skip
    made = replace(made, content_sha256=content_sha256(SCHEMA, [table]), **changes)
    with pq.ParquetWriter(path, SCHEMA) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(made.to_metadata())
    return Scores.open(path)
