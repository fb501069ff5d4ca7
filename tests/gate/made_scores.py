"""Scores files with chosen numbers, written as scoring writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from saefilter.artifacts.integrity import ContentHash
from saefilter.artifacts.provenance import Provenance
from saefilter.artifacts.scores import QUARANTINED, SCHEMA, SCORED, Scores
from saefilter.rows.read import Source


def made_scores(
    source: Source,
    path: Path,
    percentiles: list[float | None],
    *,
    label: str = "insults",
    calibrated: bool = True,
    spillover: list[dict[str, Any]] | None = None,
) -> Scores:
    """Scores of `source` with these percentiles, one per row; None is a quarantined row.

    A row's proximity is its percentile over 100.
    """
    entries: list[dict[str, Any]] = []
    feature = {
        "feature": 7, "label": label, "activation": 1.0, "share": 1.0, "toxic_feature": 7,
        "toxic_label": label, "cosine": 1.0,
    }  # fmt: skip
    for row, percentile in zip(source.rows(), percentiles, strict=True):
        entry = {
            "row_id": row.index, "line": row.line, "file": row.file, "row_hash": row.digest()
        }  # fmt: skip
        if percentile is None:
            entry |= {"status": QUARANTINED, "reason": f"odd: {label}"}
        else:
            entry |= {
                "status": SCORED, "distance": 1 - percentile / 100, "proximity": percentile / 100,
                "percentile": percentile if calibrated else None, "top_features": [feature],
                "n_tokens": 3, "n_trained": 3, "n_scored": 3, "truncated": False, "top_words": [],
            }  # fmt: skip
        entries.append(entry)
    table = pa.Table.from_pylist(entries, schema=SCHEMA)
    content = ContentHash(SCHEMA)
    content.update(table)
    n_scored = sum(percentile is not None for percentile in percentiles)
    made = Provenance(
        version="0", created="2026-01-01T00:00:00+00:00", input_path=str(source.path),
        input_sha256=source.sha256(), preset="minilm", model="m", sae="s", hook="h",
        sae_fingerprint="f", toxic_set="t", toxic_set_sha256="x", metric="contrast", pool="mean",
        train_on="assistant", max_tokens=1024, dtype="fp32", device="cpu", rows=len(percentiles),
        scored=n_scored, quarantined=len(percentiles) - n_scored, truncated=0, duplicates=0,
        tokens=3 * n_scored, seconds=1.0, reference_rows=1000 if calibrated else 0, note=None,
        spillover=spillover, content_sha256=content.hexdigest(),
    )  # fmt: skip
    pq.write_table(table.replace_schema_metadata(made.to_metadata()), path)
    return Scores.open(path)
