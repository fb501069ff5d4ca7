"""What `saefilter geometry` found, and how it is said."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from saefilter import __version__
from saefilter.diagnose.features import LEVEL, Diagnosis
from saefilter.geometry.spillover import Spillover
from saefilter.rows.groups import MIN_GROUPS
from saefilter.stats.moments import holm


@dataclass(frozen=True)
class MapPoint:
    """A feature's place on the 2-D map."""

    x: float
    y: float
    kind: str
    """`toxic`, `data`, `both` or `other`."""
    feature: int
    label: str


@dataclass(frozen=True)
class DataFeature:
    """A feature that marks the data, and the toxic feature it lies next to."""

    feature: int
    label: str
    correlation: float
    cosine: float
    toxic_feature: int
    toxic_label: str
    in_set: bool


@dataclass(frozen=True)
class SampleProximity:
    """The rows' own scores, data against reference."""

    metric: str
    auroc: float
    """Chance that a data row is nearer than a reference row."""
    low: float
    high: float
    """95 % bootstrap interval over groups."""
    data_median: float
    reference_median: float


@dataclass(frozen=True)
class SpaceDiagnosis:
    """The geometry as one SAE shows it."""

    preset: str
    model: str
    sae: str
    hook: str
    toxic_set: str
    d_sae: int
    toxic_features: int
    closer: bool
    decided: bool
    """Whether there are groups enough, and features that mark the data, to say how near they lie."""
    enough: bool
    """Whether there are groups enough for p-values."""
    verdict: str
    significant: int
    apart_p: float | None
    """That features mark the data no more than chance gives."""
    mean: float
    matched: float
    """Mean proximity of features that fire as often."""
    in_set: int
    chance: dict[str, float] | None
    """Of the difference of the two means, rows relabelled by group; None without groups enough."""
    topics: dict[str, float] | None
    """Of the same difference, rows split by topic."""
    p_value: float | None
    """The larger of the two."""
    p_corrected: float | None
    """After Holm, over the SAEs of the report."""
    interval: tuple[float, float] | None
    """95 % of the difference, by resampling groups and choosing the features anew."""
    groups: str
    effective: tuple[float, float]
    """Effective number of independent units of the data and of the reference."""
    data_features: list[DataFeature]
    matched_proximity: list[float]
    spillover: list[Spillover]
    samples: SampleProximity
    map: list[MapPoint]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class GeometryReport:
    """What `saefilter geometry` found; the JSON file is exactly this."""

    input: str
    against: str
    rows: int
    against_rows: int
    left_out: int
    options: dict[str, Any]
    spaces: list[SpaceDiagnosis]
    notes: list[str]
    version: str = __version__
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n"


def said_of(diagnosis: Diagnosis) -> dict[str, Any]:
    """What the diagnosis says, as the fields of `SpaceDiagnosis`; no p-value without groups enough."""
    enough = diagnosis.enough
    return {
        "closer": diagnosis.closer(diagnosis.p_value),
        "decided": diagnosis.told_apart,
        "enough": enough,
        "verdict": verdict(diagnosis),
        "significant": diagnosis.significant,
        "apart_p": diagnosis.apart.p_value if enough else None,
        "mean": diagnosis.mean,
        "matched": diagnosis.matched,
        "in_set": diagnosis.in_set,
        "chance": asdict(diagnosis.chance) if enough else None,
        "topics": asdict(diagnosis.topics) if enough else None,
        "p_value": diagnosis.p_value,
        "p_corrected": diagnosis.p_value,
        "interval": diagnosis.interval,
        "effective": diagnosis.effective,
        "matched_proximity": [round(float(value), 5) for value in diagnosis.matched_proximity],
    }


def corrected(spaces: list[SpaceDiagnosis]) -> list[SpaceDiagnosis]:
    """With p-values corrected for there being several SAEs or layers (Holm 1979)."""
    tested = [space for space in spaces if space.p_value is not None]
    held = iter(holm(np.array([space.p_value for space in tested], dtype=np.float64)).tolist())
    by_space = [None if space.p_value is None else float(next(held)) for space in spaces]
    return [
        replace(space, p_corrected=p, closer=space.closer and p is not None and p < LEVEL)
        for space, p in zip(spaces, by_space, strict=True)
    ]


def verdict(diagnosis: Diagnosis) -> str:
    """The finding in a sentence or two."""
    n = len(diagnosis.data_features)
    if not diagnosis.enough:
        data, reference = diagnosis.effective
        return (
            f"Cannot tell: the rows say as much as {data:.0f} independent groups of data and "
            f"{reference:.0f} of the reference; {MIN_GROUPS} of either are the least for a p-value. "
            "Rows with more prompts are needed, or --group where these are told apart wrongly."
        )
    if not diagnosis.told_apart:
        return (
            f"Features tell the data from the reference no better than chance (p = "
            f"{diagnosis.apart.p_value:.3f}): either the data are like the reference, or more rows "
            "are needed to see how they differ."
        )
    chance, topics = diagnosis.chance.p_value, diagnosis.topics.p_value
    low, high = diagnosis.interval or (0.0, 0.0)
    return (
        f"The {n} features that mark the data ({diagnosis.significant} each by itself) have a mean "
        f"cosine of {diagnosis.mean:.3f} to their nearest toxic feature, features that fire as often "
        f"{diagnosis.matched:.3f} (95 % interval of the difference {low:+.3f} to "
        f"{high:+.3f}). As large a difference arises with p = {chance:.3f} when rows "
        f"are relabelled by group, and with p = {topics:.3f} when the same rows are split by topic"
        f"{_beyond(chance, topics)}."
    )


def _beyond(chance: float, topics: float) -> str:
    """What the two p-values come to."""
    if chance >= LEVEL:
        return ": chance explains it"
    return ": it may be the topic" if topics >= LEVEL else ""
