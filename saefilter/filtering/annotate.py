"""What the scores say of each row, and the columns that are added to dropped or labelled rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saefilter.artifacts.column import Column, Groups
from saefilter.artifacts.scores import Scores
from saefilter.filtering.soft import Notes
from saefilter.rows.pieces import Piece
from saefilter.rows.read import Source
from saefilter.rows.write import Annotations, added_columns
from saefilter.select.ranking import Ranked


@dataclass(frozen=True)
class ScoreColumns:
    """The scores that selection and report need, of every row of the input. One byte a row is held: whether it
    was scored."""

    row_hash: Column[np.uint64]
    scored: NDArray[np.bool_]
    """Those of a cascade that were only estimated among them; these have no distance."""
    distance: Column[np.float64]
    percentile: Column[np.float64]

    @classmethod
    def of(cls, scores: Scores) -> ScoreColumns:
        scored = np.zeros(scores.provenance.rows, dtype=np.bool_)
        first = 0
        for batch in scores.batches(["status"]):
            scored[first : first + batch.num_rows] = scores.fit(batch["status"])
            first += batch.num_rows
        groups = Groups(scores)
        distance, percentile = (scores.column(name, groups) for name in ("distance", "percentile"))
        return cls(scores.row_hash_column(groups), scored, distance, percentile)


def notes_on(
    source: Source,
    chosen: NDArray[np.bool_],
    columns: ScoreColumns,
    ranked: Ranked,
    labels: NDArray[np.object_] | None = None,
) -> Notes | None:
    """What is added to the rows that are `chosen`, `[n_rows]`; nothing where there are none. `labels`: what
    would be done with each of all rows, where that is told and not done."""
    if not chosen.any():
        return None
    has_percentile = any(
        (chosen[first : first + len(values)] & ~np.isnan(values)).any()
        for first, values in columns.percentile.blocks()
    )
    types = added_columns(
        has_percentile=has_percentile,
        has_file=has_files(source),
        has_score=ranked.ranking.score is not None,
        has_label=labels is not None,
        more=ranked.ranking.columns,
    )
    return Notes(
        types,
        lambda piece, positions: _annotations(piece, positions, columns, ranked, labels).columns(),
    )


def _annotations(
    piece: Piece,
    positions: Sequence[int],
    columns: ScoreColumns,
    ranked: Ranked,
    labels: NDArray[np.object_] | None,
) -> Annotations:
    ids = np.asarray(positions, dtype=np.int64) + piece.first
    percentile = [None if np.isnan(p) else float(p) for p in columns.percentile[ids]]
    reasons: list[str | None] = [*ranked.reasons(ids)]
    label = None
    if labels is not None:
        label = labels[ids].tolist()
        reasons = [None if one == "keep" else why for why, one in zip(reasons, label, strict=True)]
    return Annotations(
        distance=[None if np.isnan(one) else float(one) for one in columns.distance[ids]],
        percentile=percentile,
        reason=reasons,
        row_id=ids.tolist(),
        line=[piece.line(i) for i in positions],
        file=None if piece.file is None else [piece.file] * len(ids),
        score=ranked.scores(ids),
        label=label,
        more=ranked.columns(ids),
    )


def has_files(source: Source) -> bool:
    """Whether rows say which file they are of."""
    return any(source.name_of(file) is not None for file in source.files)
