"""What a scores file says, for the console and for machines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from saefilter.artifacts.provenance import Provenance
from saefilter.artifacts.scores import QUARANTINED, SCORED, Scores
from saefilter.rows.excerpts import preview_of
from saefilter.rows.row import count_reasons, kind_of_reason
from saefilter.rows.sides import SIDES

if TYPE_CHECKING:
    from saefilter.rows.read import Source
    from saefilter.storage import Location

N_CLOSEST = 5
"""Rows shown in the summary."""
QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True)
class ScoreSummary:
    """What a run found; everything is in the scores file too."""

    output: Location
    provenance: Provenance
    distances: NDArray[np.float64]
    """Of the scored rows, in order; of a cascade that left rows unread, of those that were drawn at random."""
    percentiles: NDArray[np.float64] | None
    reasons: dict[str, int]
    """Quarantine reasons, without what is particular to a row, commonest first."""
    first_reasons: dict[str, str]
    """Of each of these, the whole reason of the first row that has it."""
    own_share: float | None
    """See `Scores.own_share`."""
    of_sides: dict[str, NDArray[np.float64]]
    """Percentiles of the chosen and of the rejected answers of preference data; empty for other data."""
    closest: list[dict[str, Any]]
    """Entries of the closest rows, closest first, each with a `preview` of its text."""

    def to_fields(self) -> dict[str, Any]:
        """The summary for machines."""
        return {
            "scores": str(self.output),
            **asdict(self.provenance),
            "quarantine_reasons": self.reasons,
            "first_quarantine_reasons": {
                kind: self.first_reasons[kind]
                for kind in self.reasons
                if kind in self.first_reasons
            },
            "own_share": self.own_share,
            "distance_quantiles": {
                str(q): float(np.quantile(self.distances, q)) for q in QUANTILES
            },
            "closest": self.closest,
        }


def summarise(source: Source, scores: Scores) -> ScoreSummary:
    """Read the summary off a scores file; the previews come from the data."""
    drawn = scores.having(["sampled"])
    table = scores.read(["row_id", "status", "reason", "distance", "percentile", *drawn])
    scored = table.filter(pc.equal(table["status"], SCORED))
    ids = scored["row_id"].to_numpy()[
        np.argsort(scored["distance"].to_numpy(), kind="stable")[:N_CLOSEST]
    ]
    reasons = table.filter(pc.equal(table["status"], QUARANTINED))["reason"].to_pylist()
    if drawn and scores.provenance.estimated:
        scored = scored.filter(scored["sampled"])
    distances, percentiles = scored["distance"].to_numpy(), scored["percentile"]
    return ScoreSummary(
        scores.path,
        scores.provenance,
        distances,
        None if percentiles.null_count else percentiles.to_numpy(),
        count_reasons(reasons),
        {kind_of_reason(reason): reason for reason in reversed(reasons)},
        scores.own_share(),
        _of_sides(scores),
        _closest(source, scores, ids.tolist()),
    )


def _of_sides(scores: Scores) -> dict[str, NDArray[np.float64]]:
    if not scores.of_preferences or not scores.provenance.reference_rows:
        return {}
    table = scores.read([f"{side}_percentile" for side in SIDES])
    known = {side: table[f"{side}_percentile"].drop_null().to_numpy() for side in SIDES}
    return {side: values for side, values in known.items() if len(values)}


def _closest(source: Source, scores: Scores, ids: list[int]) -> list[dict[str, Any]]:
    table = pq.read_table(scores.file, filters=[("row_id", "in", ids)])
    entries = {entry["row_id"]: entry for entry in table.to_pylist()}
    columns = scores.provenance.own_columns
    texts = {row.index: preview_of(row, columns) for row in source.rows(set(ids))}
    return [{**entries[i], "preview": texts[i]} for i in ids]
