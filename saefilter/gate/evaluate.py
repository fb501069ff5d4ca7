"""From scores and a policy to a verdict. Needs no model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from saefilter.artifacts.scores import SCORED, Scores
from saefilter.errors import SaefilterError
from saefilter.gate.policy import Policy
from saefilter.gate.verdict import RuleVerdict, Verdict, WorstRow, number, rounded
from saefilter.rows.read import Source

WORST_ROWS = 100
"""Rows named per rule, at most; each way of saying shows as many as fit."""
N_FEATURES = 3
LINE_KINDS = ("jsonl", "csv")


def evaluate(source: Source, scores: Scores, policy: Policy) -> Verdict:
    """The verdict on `source` by its scores.

    Raises SaefilterError when the scores are of other data, or lack what a rule needs.
    """
    scores.check_belongs(source)
    scores.verify()
    columns = _Columns.of(source, scores)
    rules = {
        "max_flagged": _flagged,
        "max_proximity": _proximity,
        "max_spillover": _spillover,
        "min_scored": _scored,
        "max_quarantined": _quarantined,
    }
    made = scores.provenance
    return Verdict(
        input=str(source.path),
        rows=made.rows,
        scored=made.scored,
        quarantined=made.quarantined,
        preset=made.preset,
        model=made.model,
        toxic_set=made.toxic_set,
        metric=made.metric,
        policy=policy.origin,
        rules=tuple(rules[name](columns, policy, limit) for name, limit in policy.limits().items()),
        notes=(made.note,) if made.note else (),
    )


@dataclass(frozen=True)
class _Columns:
    """The scores, one entry per input row."""

    source: Source
    scores: Scores
    table: pa.Table
    scored: NDArray[np.bool_]
    proximity: NDArray[np.float64]
    percentile: NDArray[np.float64]
    """NaN without a calibration."""

    @classmethod
    def of(cls, source: Source, scores: Scores) -> _Columns:
        names = ["line", "file", "row_hash", "status", "reason", "proximity", "percentile"]
        table = scores.read(names)
        return cls(
            source,
            scores,
            table,
            pc.equal(table["status"], SCORED).to_numpy(),
            table["proximity"].to_numpy(zero_copy_only=False),
            table["percentile"].to_numpy(zero_copy_only=False).astype(np.float64),
        )

    def worst(self, ids: NDArray[np.int64]) -> tuple[WorstRow, ...]:
        """The closest of some rows, closest first."""
        order = np.argsort(-self.proximity[ids], kind="stable")[:WORST_ROWS]
        return self.rows(ids[order])

    def rows(self, ids: NDArray[np.int64]) -> tuple[WorstRow, ...]:
        """Rows by their ids, in that order."""
        wanted = ids[:WORST_ROWS].tolist()
        evidence = pq.read_table(
            self.scores.path, columns=["row_id", "top_features"],
            filters=[("row_id", "in", wanted or [-1])],
        )  # fmt: skip
        features = {entry["row_id"]: entry["top_features"] for entry in evidence.to_pylist()}
        entries = self.table.take(pa.array(wanted, pa.int64())).to_pylist()
        return tuple(
            self._row(i, entry, features.get(i) or [])
            for i, entry in zip(wanted, entries, strict=True)
        )

    def _row(self, row_id: int, entry: dict[str, Any], features: list[dict[str, Any]]) -> WorstRow:
        kinds = {file.path: file.kind for file in self.source.files}
        path = self._path(entry["file"])
        return WorstRow(
            row_id=row_id,
            row_hash=entry["row_hash"],
            file=str(path),
            line=entry["line"],
            has_lines=kinds.get(path) in LINE_KINDS,
            proximity=entry["proximity"],
            percentile=entry["percentile"],
            features=tuple(feature["label"] for feature in features[:N_FEATURES]),
            reason=entry["reason"],
        )

    def _path(self, name: str | None) -> Path:
        for file in self.source.files:
            if name is None or self.source.name_of(file) == name:
                return file.path
        return self.source.path


def _flagged(columns: _Columns, policy: Policy, limit: float) -> RuleVerdict:
    made = columns.scores.provenance
    calibrate = (
        "Calibrate the toxic set (saefilter features calibrate) and score again, or drop the rule."
    )
    if not made.reference_rows or np.isnan(columns.percentile[columns.scored]).any():
        raise SaefilterError(
            f"max-flagged needs percentiles, and the toxic set {made.toxic_set!r} has no calibration "
            f"for metric {made.metric!r} and pooling {made.pool!r}",
            remedy=calibrate,
        )
    if policy.at_fpr / 100 * made.reference_rows < 1:
        raise SaefilterError(
            f"a false-positive rate of {number(policy.at_fpr)}% cannot be told from the "
            f"{made.reference_rows:,} harmless rows of the calibration",
            remedy="Use a larger --at-fpr, or calibrate on more harmless rows.",
        )
    level = 100 - policy.at_fpr
    ids = np.flatnonzero(columns.percentile >= level)
    chance = _chance(len(ids), made.scored, policy.at_fpr / 100)
    return RuleVerdict(
        "max-flagged",
        rounded(100 * len(ids) / made.scored),
        limit,
        "%",
        False,
        f"{len(ids):,} of {made.scored:,} scored rows are closer to toxic features than "
        f"{number(level)}% of harmless ones; as many or more would be in harmless data of this size "
        f"{_probability(chance)}",
        len(ids),
        columns.worst(ids),
    )


def _probability(chance: float) -> str:
    return f"with probability {chance:.2g}" if chance > 1e-9 else "practically never"


def _chance(count: int, n: int, rate: float) -> float:
    """Probability of `count` or more hits in `n` draws at `rate`, from the binomial law."""
    if count <= 0:
        return 1.0
    below = 0.0
    for k in range(min(count, n + 1)):
        log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        below += math.exp(log + k * math.log(rate) + (n - k) * math.log1p(-rate))
    return max(0.0, 1 - below)


def _proximity(columns: _Columns, policy: Policy, limit: float) -> RuleVerdict:
    ids = np.flatnonzero(columns.scored)
    values = np.array([rounded(value) for value in columns.proximity[ids]])
    beyond = ids[values > limit]
    nearest = ids[np.argmax(values)][None]
    return RuleVerdict(
        "max-proximity",
        float(values.max()),
        limit,
        "",
        False,
        f"largest proximity of a row to toxic features (metric {columns.scores.provenance.metric}); "
        f"{len(beyond):,} rows are beyond the limit",
        len(beyond),
        columns.worst(beyond if len(beyond) else nearest),
    )


def _spillover(columns: _Columns, policy: Policy, limit: float) -> RuleVerdict:
    made = columns.scores.provenance
    if not made.spillover:
        raise SaefilterError(
            f"max-spillover needs the push of harmless rows, which the calibration of the toxic set "
            f"{made.toxic_set!r} does not hold for pooling {made.pool!r}",
            remedy="Calibrate the set (saefilter features calibrate) and score again, or drop the rule.",
        )
    largest = made.spillover[0]
    ids = np.flatnonzero(columns.scored)
    return RuleVerdict(
        "max-spillover",
        rounded(largest["push"]),
        limit,
        "",
        False,
        f"predicted push on toxic feature {largest['feature']} ({largest['label']}), more than "
        f"harmless rows give; 95% interval {rounded(largest['low']):g} to {rounded(largest['high']):g}",
        0,
        columns.worst(ids)[:10],
    )


def _scored(columns: _Columns, policy: Policy, limit: float) -> RuleVerdict:
    made = columns.scores.provenance
    ids = np.flatnonzero(~columns.scored)
    return RuleVerdict(
        "min-scored",
        # what is missing is rounded, so that one row in a million is not lost to 100 %
        round(100 - rounded(100 * made.quarantined / made.rows), 10),
        limit,
        "%",
        True,
        f"{made.scored:,} of {made.rows:,} rows could be scored",
        len(ids),
        columns.rows(ids),
    )


def _quarantined(columns: _Columns, policy: Policy, limit: float) -> RuleVerdict:
    made = columns.scores.provenance
    ids = np.flatnonzero(~columns.scored)
    return RuleVerdict(
        "max-quarantined",
        rounded(100 * made.quarantined / made.rows),
        limit,
        "%",
        False,
        f"{made.quarantined:,} of {made.rows:,} rows could not be scored",
        len(ids),
        columns.rows(ids),
    )
