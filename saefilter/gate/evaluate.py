"""From scores and a policy to a verdict. Needs no model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from saefilter.artifacts.scores import SCORED, Scores
from saefilter.errors import SaefilterError
from saefilter.gate.chance import Alike, Harmless, chance, check_set, failing_count, power
from saefilter.gate.policy import Policy
from saefilter.gate.verdict import Power, RuleVerdict, Verdict, WorstRow, number, rounded
from saefilter.rows.read import Source
from saefilter.text import few, ordinal
from saefilter.toxic.toxicset import conformal_p, is_beyond

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
        "min_chance": _chance,
        "max_proximity": _proximity,
        "max_spillover": _spillover,
        "min_scored": _scored,
        "max_quarantined": _quarantined,
    }
    made = scores.provenance
    verdicts = tuple(rules[name](columns, policy, limit) for name, limit in policy.limits().items())
    caught, unknown = _power(columns, policy)
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
        rules=verdicts,
        notes=(made.note,) if made.note else (),
        power=caught,
        power_unknown=unknown,
    )


def _power(columns: _Columns, policy: Policy) -> tuple[tuple[Power, ...], str | None]:
    """What the rules that count rows would catch, or why that is not known."""
    if policy.max_flagged is None and policy.min_chance is None:
        return (), None
    harmless, made = columns.harmless(policy), columns.scores.provenance
    caught = power(made, policy, columns.alike, harmless)
    if caught:
        return caught, None
    if made.reference_name:
        return (
            (),
            f"how many bad rows are closer than the rows of {made.reference_name} was not measured",
        )
    return (), (
        f"the calibration of the toxic set {made.toxic_set!r} has no rates of held-out bad rows at "
        f"--at-fpr {number(policy.at_fpr)}%"
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

    @cached_property
    def alike(self) -> Alike:
        """Which scored rows are alike."""
        return Alike.find(self.source, self.scored)

    @cached_property
    def p(self) -> NDArray[np.float64]:
        """See `conformal_p`; NaN without a percentile."""
        rows = self.scores.provenance.reference_rows
        return conformal_p(self.percentile, rows) if rows else np.full(len(self.percentile), np.nan)

    def harmless(self, policy: Policy) -> Harmless:
        """What harmless data have beyond. Raises SaefilterError where the scores do not tell."""
        complete = not np.isnan(self.percentile[self.scored]).any()
        return Harmless.of(self.scores.provenance, policy.at_fpr, complete=complete)

    def is_beyond(self, policy: Policy) -> NDArray[np.bool_]:
        """Which rows are closer than the reference row that the rate stands for."""
        rows = self.scores.provenance.reference_rows
        return is_beyond(self.percentile, 100 - policy.at_fpr, rows)

    def beyond(self, policy: Policy) -> NDArray[np.int64]:
        """Their ids."""
        return np.flatnonzero(self.is_beyond(policy))

    def worst(self, ids: NDArray[np.int64]) -> tuple[WorstRow, ...]:
        """The closest of some rows, closest first."""
        order = np.argsort(-self.proximity[ids], kind="stable")[:WORST_ROWS]
        return self.rows(ids[order])

    def rows(self, ids: NDArray[np.int64]) -> tuple[WorstRow, ...]:
        """Rows by their ids, in that order."""
        wanted = ids[:WORST_ROWS].tolist()
        evidence = pq.read_table(
            self.scores.path,
            columns=self.scores.having(["row_id", "top_features", "themes", "closest"]),
            filters=[("row_id", "in", wanted or [-1])],
        )  # fmt: skip
        evidence_of = {entry["row_id"]: entry for entry in evidence.to_pylist()}
        entries = self.table.take(pa.array(wanted, pa.int64())).to_pylist()
        return tuple(
            self._row(i, entry, evidence_of.get(i) or {})
            for i, entry in zip(wanted, entries, strict=True)
        )

    def _row(self, row_id: int, entry: dict[str, Any], evidence: dict[str, Any]) -> WorstRow:
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
            reference=self.scores.provenance.reference_name,
            p=None if np.isnan(self.p[row_id]) else float(self.p[row_id]),
            features=tuple(
                feature["label"] for feature in (evidence.get("top_features") or [])[:N_FEATURES]
            ),
            reason=entry["reason"],
            themes=tuple(
                f"{theme['theme']}: {', '.join(theme['words'])}"
                if theme["words"]
                else theme["theme"]
                for theme in evidence.get("themes") or []
            ),
            closest=(evidence.get("closest") or {}).get("text"),
        )

    def _path(self, name: str | None) -> Path:
        for file in self.source.files:
            if name is None or self.source.name_of(file) == name:
                return file.path
        return self.source.path


def _flagged(columns: _Columns, policy: Policy, limit: float) -> RuleVerdict:
    check_set(columns.scores.provenance, "max-flagged")
    harmless, ids = columns.harmless(policy), columns.beyond(policy)
    n = columns.scores.provenance.scored
    return RuleVerdict(
        "max-flagged",
        rounded(100 * len(ids) / n),
        limit,
        "%",
        False,
        f"{_beyond_words(len(ids), n, harmless)}; of harmless ones about "
        f"{few(n * harmless.share)} would be",
        len(ids),
        columns.worst(ids),
    )


def _chance(columns: _Columns, policy: Policy, limit: float) -> RuleVerdict:
    check_set(columns.scores.provenance, "min-chance")
    harmless, ids = columns.harmless(policy), columns.beyond(policy)
    n, alike = columns.scores.provenance.scored, columns.alike
    effective = alike.effective(columns.is_beyond(policy), harmless.alikeness)
    noise = chance(len(ids) / n, effective, harmless)
    least = failing_count(n, effective, harmless, replace(policy, max_flagged=None))
    return RuleVerdict(
        "min-chance",
        rounded(noise),
        limit,
        "",
        True,
        f"{_beyond_words(len(ids), n, harmless)}, {_excess(len(ids) - n * harmless.share)}; as many "
        f"or more come in harmless data {_probability(noise)} (like rows in {alike.groups:,} groups "
        f"count as {effective:,.0f} independent ones, the reference as {harmless.effective:,.0f}); "
        + ("no number fails" if least is None else f"from about {least:,} on the data fail"),
        len(ids),
        () if _over(policy, len(ids), n) else columns.worst(ids),  # max-flagged names them
    )


def _over(policy: Policy, count: int, n: int) -> bool:
    return policy.max_flagged is not None and rounded(100 * count / n) > policy.max_flagged


def _beyond_words(count: int, n: int, harmless: Harmless) -> str:
    return (
        f"{count:,} of {n:,} scored rows are closer to toxic features than the "
        f"{ordinal(harmless.rank)} closest of {harmless.rows:,} "
        + (f"rows of {harmless.name}" if harmless.name else "harmless rows")
    )


def _excess(more: float) -> str:
    return f"{few(abs(more))} {'more' if more >= 0 else 'fewer'} than harmless data have"


def _probability(noise: float) -> str:
    return f"with probability {noise:.2g}" if noise > 1e-9 else "practically never"


def _proximity(columns: _Columns, policy: Policy, limit: float) -> RuleVerdict:
    check_set(columns.scores.provenance, "max-proximity")
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
