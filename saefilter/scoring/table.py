"""The scores file's rows, built column by column: a dict per row would cost more than its geometry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saefilter.artifacts.scores import QUARANTINED, SCHEMA, SCORED, TOP_FEATURE
from saefilter.rows.excerpts import content_evidence, word_evidence

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from saefilter.encode.encoded import TokenScore
    from saefilter.geometry.reasons import Reasons, ThemeReader
    from saefilter.geometry.scorer import Scorer, TopFeatures
    from saefilter.scoring.prepare import Prepared

SHOWN_TOKENS = 5
"""Of the tokens that add most to a row's score, those whose words are kept."""
SHOWN_WORDS = 4
"""That carry a theme."""


def scores_table(
    prepared: Prepared,
    proximity: NDArray[np.float64],
    percentile: NDArray[np.float64] | None,
    top: TopFeatures,
    top_tokens: Sequence[Sequence[Sequence[TokenScore]]],
    own_share: NDArray[np.float64],
    scorer: Scorer,
    why: tuple[ThemeReader, Reasons] | None = None,
) -> pa.Table:
    """One row of a scores file per prepared row, in their order; all arrays have one entry per row.

    `top_tokens` are of the whole score first, then of each theme that `why` reads, where the toxic set has
    themes. Rows with a problem are quarantined: nulls, and the problem as their reason.
    """
    n = len(prepared)
    bad = np.array([problem is not None for problem in prepared.problem], dtype=bool)
    texts = [
        text if problem is None else None
        for text, problem in zip(prepared.rendered, prepared.problem, strict=True)
    ]
    read = [
        (None, None, None, None) if text is None
        else (text.n_tokens, text.n_trained, text.n_scored, text.truncated)
        for text in texts
    ]  # fmt: skip
    n_tokens, n_trained, n_scored, truncated = zip(*read, strict=True) if n else ((),) * 4
    words = [
        None
        if text is None
        else word_evidence(text.text, _spans(tokens[0][:SHOWN_TOKENS] if tokens else ()))
        for text, tokens in zip(texts, top_tokens, strict=True)
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
        **_why(prepared, top_tokens, bad, why),
        "read_as": [None] * n,
    }
    arrays = [
        values if isinstance(values, pa.Array) else pa.array(values, field.type)
        for field, values in zip(SCHEMA, (columns[name] for name in SCHEMA.names), strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def with_read_as(table: pa.Table, row_id: Sequence[int], read_as: Sequence[int | None]) -> pa.Table:
    """The table with the ids of the rows that others were read as; `read_as` has their positions."""
    ids = [None if place is None else row_id[place] for place in read_as]
    column = table.schema.get_field_index("read_as")
    return table.set_column(column, SCHEMA.field("read_as"), pa.array(ids, pa.int64()))


def _spans(tokens: Sequence[TokenScore]) -> list[tuple[int, int]]:
    return [(token.start, token.end) for token in tokens]


def _why(
    prepared: Prepared,
    top_tokens: Sequence[Sequence[Sequence[TokenScore]]],
    bad: NDArray[np.bool_],
    why: tuple[ThemeReader, Reasons] | None,
) -> dict[str, Any]:
    """The columns `themes` and `closest`; nulls for bad rows, and where the toxic set has no themes."""
    themes: list[Any] = [None] * len(bad)
    closest: list[Any] = [None] * len(bad)
    if why is None:
        return {"themes": themes, "closest": closest}
    reader, reasons = why
    for row in np.flatnonzero(~bad).tolist():
        reason, tokens, text = reasons.rows[row], top_tokens[row], prepared.rendered[row]
        themes[row] = [
            {
                "theme": reader.themes[place].name,
                "share": float(reasons.shares[row, place]),
                "usual": reader.themes[place].usual,
                "words": content_evidence(text.text, _spans(tokens[1 + place]))[:SHOWN_WORDS]
                if text is not None and tokens
                else [],
            }
            for place in reason.themes
        ]
        if reason.example >= 0:
            place, example = reader.examples[reason.example]
            closest[row] = {
                "text": example.text, "prompt": example.prompt,
                "theme": reader.themes[place].name, "cosine": reason.cosine,
            }  # fmt: skip
    return {"themes": themes, "closest": closest}


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
