"""The scores file's rows, built column by column: a dict per row would cost more than its geometry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saefilter.artifacts.scores import QUARANTINED, SCHEMA, SCORED, TOP_FEATURE
from saefilter.rows.excerpts import word_evidence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saefilter.encode.encoder import TokenScore
    from saefilter.geometry.scorer import Scorer, TopFeatures
    from saefilter.scoring.prepare import Prepared


def scores_table(
    prepared: Prepared,
    proximity: NDArray[np.float64],
    percentile: NDArray[np.float64] | None,
    top: TopFeatures,
    top_tokens: Sequence[Sequence[TokenScore]],
    own_share: NDArray[np.float64],
    scorer: Scorer,
) -> pa.Table:
    """One row of a scores file per prepared row, in their order; all arrays have one entry per row.

    Rows with a problem are quarantined: nulls, and the problem as their reason.
    """
    n = len(prepared)
    bad = np.array([problem is not None for problem in prepared.problem], dtype=bool)
    read = [
        (None, None, None, None) if text is None or text.problem is not None
        else (text.n_tokens, text.n_trained, text.n_scored, text.truncated)
        for text in prepared.rendered
    ]  # fmt: skip
    n_tokens, n_trained, n_scored, truncated = zip(*read, strict=True) if n else ((),) * 4
    words = [
        word_evidence(text.text, [(token.start, token.end) for token in tokens])
        if text is not None and text.problem is None
        else None
        for text, tokens in zip(prepared.rendered, top_tokens, strict=True)
    ]
    columns = {
        "row_id": prepared.row_id,
        "line": prepared.line,
        "file": prepared.file,
        "row_hash": prepared.row_hash,
        "status": [QUARANTINED if problem else SCORED for problem in prepared.problem],
        "reason": prepared.problem,
        "distance": pa.array(1.0 - proximity, pa.float64(), mask=bad),
        "proximity": pa.array(proximity, pa.float64(), mask=bad),
        "percentile": pa.nulls(n, pa.float64())
        if percentile is None
        else pa.array(percentile, pa.float64(), mask=bad),
        "n_tokens": n_tokens,
        "n_trained": n_trained,
        "n_scored": n_scored,
        "truncated": truncated,
        "top_features": _top_features(top, bad, scorer),
        "top_words": words,
        "own_share": pa.array(own_share, pa.float32(), mask=bad | np.isnan(own_share)),
    }
    arrays = [
        values if isinstance(values, pa.Array) else pa.array(values, field.type)
        for field, values in zip(SCHEMA, (columns[name] for name in SCHEMA.names), strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _top_features(top: TopFeatures, bad: NDArray[np.bool_], scorer: Scorer) -> pa.Array:
    """A list of evidence per row; null for bad rows."""
    toxic = scorer.nearest.feature[top.feature]
    columns = {
        "feature": top.feature,
        "label": [scorer.label(feature) for feature in top.feature.tolist()],
        "activation": top.activation,
        "share": top.share,
        "toxic_feature": toxic,
        "toxic_label": [scorer.label(feature) for feature in toxic.tolist()],
        "cosine": scorer.nearest.cosine[top.feature],
    }
    evidence = pa.StructArray.from_arrays(
        [pa.array(columns[field.name], field.type) for field in TOP_FEATURE],
        fields=list(TOP_FEATURE),
    )
    ends = np.cumsum(np.where(bad, 0, top.counts))
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    return pa.ListArray.from_arrays(offsets, evidence, pa.list_(TOP_FEATURE), mask=pa.array(bad))
