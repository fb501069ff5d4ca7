"""Which rows a reviewer is shown, in what order, and what is shown of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from saefilter.artifacts.scores import SCORED, Scores
from saefilter.errors import SaefilterError
from saefilter.report.build import view_of
from saefilter.report.data import SampleView
from saefilter.review.order import RANDOM, ReviewOrder
from saefilter.rows.read import Source
from saefilter.select.strategies import Selection, count_of

SHOWN_COLUMNS = (
    "row_id", "distance", "percentile", "truncated", "top_features", "top_words", "themes", "closest",
)  # fmt: skip


@dataclass(frozen=True)
class Queued:
    """A row to decide on."""

    row_id: int
    row_hash: str
    copies: int
    """Rows with the same content, this one among them; a decision is of all of them."""


def queue_of(scores: Scores, asked: ReviewOrder) -> list[Queued]:
    """Every scored row in the order asked for, equal ones once; rows of a cascade that were only estimated
    have no distance and are left out. Raises SaefilterError where no row was scored."""
    table = scores.read(["row_id", "status", "row_hash", "distance"])
    table = table.filter(pc.equal(table["status"], SCORED))
    if not len(table):
        raise SaefilterError("there is no scored row to review", where=str(scores.path))
    ids = table["row_id"].to_numpy()
    hashes = table["row_hash"].to_pylist()
    first: dict[str, int] = {}
    copies: dict[str, int] = {}
    for position in _ordered(table["distance"].to_numpy(), asked).tolist():
        one = hashes[position]
        first.setdefault(one, position)
        copies[one] = copies.get(one, 0) + 1
    return [Queued(int(ids[position]), one, copies[one]) for one, position in first.items()]


def _ordered(distance: NDArray[np.float64], asked: ReviewOrder) -> NDArray[np.int64]:
    """Positions of the rows, first to be shown first."""
    if asked.around_cut is None and asked.order == RANDOM:
        return np.random.default_rng(asked.seed or 0).permutation(len(distance))
    closest = np.argsort(distance, kind="stable")
    if asked.around_cut is None:
        return closest
    cut = count_of(Selection(drop_frac=asked.around_cut), len(distance)) or 0
    # the last that goes and the first that stays are alike
    away = np.abs(np.arange(len(distance)) + 0.5 - cut)
    return closest[np.argsort(away, kind="stable")]


def views_of(source: Source, scores: Scores, queue: Sequence[Queued]) -> dict[int, SampleView]:
    """What is shown of some rows, by row id. Raises SaefilterError for one that is no longer there."""
    ids = {one.row_id for one in queue}
    with scores.reading():
        table = pq.read_table(
            scores.file, columns=scores.having(SHOWN_COLUMNS), filters=[("row_id", "in", ids)]
        )
    details = {entry["row_id"]: entry for entry in table.to_pylist()}
    views = {}
    for row in source.rows(ids):
        detail = details[row.index]
        share = detail["percentile"]
        views[row.index] = view_of(
            row,
            scores.provenance,
            detail,
            detail["distance"],
            float("nan") if share is None else share,
        )
    if len(views) < len(ids):
        raise SaefilterError(
            f"{source.path} has {len(views):,} of the {len(ids):,} rows that are to be shown",
            remedy="Score it again.",
        )
    return views
