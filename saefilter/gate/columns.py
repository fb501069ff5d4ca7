"""The scores of a file as a gate looks at them: a column each, which rows are beyond, and the rows to name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from saefilter.artifacts.scores import QUARANTINED, SCORED, Scores
from saefilter.gate.policy import Policy
from saefilter.gate.share import bad_share
from saefilter.gate.verdict import BadShare, WorstRow, WrongWay
from saefilter.rows.read import Source
from saefilter.rows.sides import LABELLED, PAIRS
from saefilter.scoring.harmless import Alike, Harmless
from saefilter.stats.auroc import clustered_share
from saefilter.toxic.toxicset import conformal_p, is_beyond

WORST_ROWS = 100
"""Rows named per rule, at most; each way of saying shows as many as fit."""
N_FEATURES = 3
LINE_KINDS = ("jsonl", "csv")


@dataclass(frozen=True)
class Columns:
    """The scores, one entry per input row."""

    source: Source
    scores: Scores
    table: pa.Table
    scored: NDArray[np.bool_]
    proximity: NDArray[np.float64]
    percentile: NDArray[np.float64]
    """NaN without a calibration."""
    sampled: NDArray[np.bool_] | None = None
    """Of a cascade that left rows unread: those drawn at random, which stand for all."""
    push: NDArray[np.float64] | None = None
    """Of preference data, what training pushes towards. Proximity and percentile are then of the answers
    that are learnt: the chosen ones of pairs, the desirable ones of KTO rows."""

    @classmethod
    def of(cls, source: Source, scores: Scores) -> Columns:
        names, side = ["line", "file", "row_hash", "status", "reason", "proximity"], ""
        if scores.of_preferences:
            side = "chosen_"
            names.append("chosen_proximity")
        drawn = ["sampled"] if scores.provenance.estimated else []
        table = scores.read([*names, f"{side}percentile", *drawn])

        def column(name: str) -> NDArray[np.float64]:
            values: NDArray[np.float64] = table[name].to_numpy(zero_copy_only=False)
            return values.astype(np.float64)

        return cls(
            source,
            scores,
            table,
            pc.equal(table["status"], SCORED).to_numpy(),
            column(f"{side}proximity"),
            column(f"{side}percentile"),
            table["sampled"].to_numpy() if drawn else None,
            column("proximity") if side else None,
        )

    @cached_property
    def judged(self) -> NDArray[np.bool_]:
        """Which rows have an answer that is learnt, and scored; of a cascade, those that stand for all."""
        if self.sampled is not None:
            return self.scored & self.sampled
        return self.scored if self.push is None else self.scored & ~np.isnan(self.proximity)

    @cached_property
    def quarantined(self) -> NDArray[np.bool_]:
        """Which rows could not be scored."""
        flags: NDArray[np.bool_] = pc.equal(self.table["status"], QUARANTINED).to_numpy()
        return flags

    @property
    def answers(self) -> str:
        """What these are called."""
        if self.sampled is not None:
            return "rows drawn at random"
        kind = (self.scores.provenance.preference or {}).get("kind")
        return {PAIRS: "chosen answers", LABELLED: "desirable answers"}.get(
            kind or "", "scored rows"
        )

    @cached_property
    def alike(self) -> Alike:
        """Which of them are alike."""
        return Alike.find(self.source, self.judged, self.scores.provenance.own_columns)

    @cached_property
    def p(self) -> NDArray[np.float64]:
        """See `conformal_p`; NaN without a percentile."""
        rows = self.scores.provenance.reference_rows
        return conformal_p(self.percentile, rows) if rows else np.full(len(self.percentile), np.nan)

    def harmless(self, policy: Policy) -> Harmless:
        """What harmless data have beyond. Raises SaefilterError where the scores do not tell."""
        complete = not np.isnan(self.percentile[self.judged]).any()
        return Harmless.of(self.scores.provenance, policy.at_fpr, complete=complete)

    def is_beyond(self, policy: Policy) -> NDArray[np.bool_]:
        """Which rows are closer than the reference row that the rate stands for."""
        rows = self.scores.provenance.reference_rows
        return is_beyond(self.percentile, 100 - policy.at_fpr, rows)

    def bad_share(self, policy: Policy) -> BadShare:
        """Raises SaefilterError where the scores have no percentiles."""
        rows = self.scores.provenance.reference_rows
        return bad_share(
            self.scores.provenance,
            self.alike,
            lambda at_fpr: is_beyond(self.percentile, 100 - at_fpr, rows),
            policy.at_fpr,
            not bool(np.isnan(self.percentile[self.judged]).any()),
        )

    def beyond(self, policy: Policy) -> NDArray[np.int64]:
        """Ids of those of them that are judged."""
        return np.flatnonzero(self.is_beyond(policy) & self.judged)

    def worst_beyond(self, policy: Policy) -> tuple[WorstRow, ...]:
        """The closest of them, judged or only read."""
        return self.worst(np.flatnonzero(self.is_beyond(policy)))

    def worst(self, ids: NDArray[np.int64]) -> tuple[WorstRow, ...]:
        """The closest of some rows, closest first."""
        order = np.argsort(-self.proximity[ids], kind="stable")[:WORST_ROWS]
        return self.rows(ids[order])

    def wrong_way(self) -> WrongWay | None:
        """Which rows of preference data push towards toxic, as a share; None of other data."""
        if self.push is None:
            return None
        alike = Alike.find(self.source, self.scored, self.scores.provenance.own_columns)
        towards = self.push > 0
        _, low, high = clustered_share(towards[alike.row], alike.label)
        count, n = int(towards.sum()), int(self.scored.sum())
        kind = str((self.scores.provenance.preference or {})["kind"])
        return WrongWay(kind, count, n, count / n, low, high)

    def pushing(self) -> tuple[WorstRow, ...]:
        """The rows that push most towards toxic."""
        assert self.push is not None
        ids = np.flatnonzero(self.push > 0)
        return self.rows(ids[np.argsort(-self.push[ids], kind="stable")])

    def rows(self, ids: NDArray[np.int64]) -> tuple[WorstRow, ...]:
        """Rows by their ids, in that order."""
        wanted = ids[:WORST_ROWS].tolist()
        evidence = pq.read_table(
            self.scores.file,
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
            proximity=_known(self.proximity[row_id]),
            percentile=_known(self.percentile[row_id]),
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


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
