"""The toxic set: its schema, loading, checking, saving."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter.described import described
from saefilter.errors import SaefilterError
from saefilter.settings import ScoreSettings
from saefilter.toxic.themes import Themes

TOXIC_SET_VERSION = 3
"""2 was in raw activations, not times the decoder's norms: the same where the decoder is of unit rows.
1 had no `largest`, and a calibration by another function of the log-odds."""
RAW_ACTIVATIONS = 2
SIGNS = {"toxic": 1.0, "benign": -1.0}
"""Of what a side's features add to a score, and of their effect."""
SIDES = tuple(SIGNS)


@dataclass(frozen=True)
class ToxicFeature:
    """One feature of the set."""

    index: int
    """Which SAE latent."""
    side: str
    """`toxic`, or `benign` for an anchor that pulls a score back."""
    weight: float
    """How much it counts in the weighted metrics, >= 0. 0: it belongs to the set, but says nothing
    that the weighted features do not say already."""
    label: str
    """A few words for a person: what it fires on."""
    effect_size: float
    """Standardised mean difference of its pooled activation, toxic minus benign."""
    auroc: float
    """How well it alone separates the confirmation half."""
    p_value: float
    """Of its correlation with the label on the confirmation half."""
    source: str = ""
    """Which contrast data it was chosen on."""
    snippets: tuple[str, ...] = ()
    """Texts where it fires most."""
    steering: float | None = None
    """Measured causal effect: by how many nats pushing the model along it makes toxic continuations
    likelier than benign ones; None when not measured."""
    steering_p: float | None = None
    """How often a random direction does as much."""
    keyword: str = ""
    """The one word it tracks, where nearly all of its activation is on one: such a feature may stand
    for a topic more than for what makes a text toxic."""


@dataclass(frozen=True)
class PushReference:
    """The push of harmless reference rows on the strongest toxic features: what a dataset's spillover
    is measured against. One entry per feature."""

    rows: int
    features: tuple[int, ...]
    mean: tuple[float, ...]
    """`sum_i a_i cos(d_i, d_j) / sum_i a_i` for feature j, mean over rows."""
    variance: tuple[float, ...]
    """Over rows."""


@dataclass(frozen=True)
class HeldOut:
    """How many rows of one source and side are flagged by a set that was made without them and theirs:
    the whole curation repeated in folds of groups."""

    source: str
    side: str
    """`benign`: the rate of false alarms; `toxic`: the power."""
    level: float
    """Nominal rate of false alarms, 0 to 1."""
    rate: float
    """Share flagged, 0 to 1."""
    low: float
    high: float
    """95 % interval of the rate, by resampling groups."""
    rows: int
    groups: float
    """Effective number of groups behind it."""


@dataclass(frozen=True)
class Likeness:
    """What reference rows are like besides their scores (geometry/likeness.py)."""

    quantiles: dict[str, tuple[float, ...]]
    """Measure (`tokens`, `active`, `rarity`) -> its value at each level of the calibration."""
    mean: dict[str, float]
    """Measure -> its mean over rows."""
    frequency: tuple[float, ...]
    """Share of the rows that have each feature, `[d_sae]`."""
    limit: float
    """How far from 0.5 the AUROC of alike data lies at most: what 99 of 100 halves of the rows keep."""


@dataclass(frozen=True)
class Calibration:
    """Quantiles of sample proximity on harmless reference data, per metric and pooling."""

    rows: int
    levels: tuple[float, ...]
    """Shares, ascending, 0 to 1."""
    quantiles: dict[str, tuple[float, ...]]
    """`metric/pool` -> the proximity at each level."""
    push: PushReference | None = None
    """With the set's own pooling; None in sets that were calibrated before there was any."""
    own_share: float | None = None
    """How much of the reference rows' scores, by the set's default metric, is of the set's own features;
    the rest is of features that lie next to them. None where it was not measured."""
    groups: float | None = None
    """Effective number of groups of the reference rows (rows/groups.py); None where it is not known."""
    made_with: dict[str, Any] = field(default_factory=dict)
    """Settings that the reference rows were scored with, besides metric and pooling: percentiles hold
    for no others."""
    held_out: tuple[HeldOut, ...] = ()
    auroc: tuple[float, float, float] | None = None
    """Of held-out toxic against benign rows, with the ends of its 95 % interval by group; None where
    it was not measured."""
    likeness: Likeness | None = None
    """None in sets of before it was kept."""

    def differences(self, conditions: dict[str, Any]) -> list[str]:
        """In what settings a run differs from those that percentiles were measured with; empty where
        they hold. Settings that the calibration does not name had their defaults."""
        known = described(ScoreSettings)
        before = (
            {name: known[name].default for name in conditions} | {"neighbours": 1} | self.made_with
        )
        return [
            f"{known[name].flag} {known[name].shown(before[name])}, not {known[name].shown(value)}"
            for name, value in conditions.items()
            if before[name] != value and (name, before[name]) != ("rendering", "auto")
        ]

    def percentile(self, proximity: NDArray[np.float64], key: str) -> NDArray[np.float64] | None:
        """Share of the reference that is less close, 0 to 100, `[n]`; None when not calibrated."""
        if key not in self.quantiles:
            return None
        return np.interp(proximity, self.quantiles[key], np.asarray(self.levels) * 100.0)


LEAST_AUROC = 0.6
"""Of held-out bad against harmless rows: a set below it, or whose interval reaches 0.5, gives no
verdict."""


DOES_NOT_TELL = "The toxic set does not tell bad rows from good ones"
"""How a warning of such a set begins."""


UNLIKE = "The data are unlike the rows that percentiles rest on"
"""How a warning of data begins whose flagged shares do not hold."""


def tells(auroc: Sequence[float] | None) -> bool:
    """Whether a set tells bad from harmless rows that it has not seen, by `Calibration.auroc`; of one that
    was never tried it is not known, and is not denied."""
    return auroc is None or (auroc[0] >= LEAST_AUROC and auroc[1] > 0.5)


def rank_at(rate: float, rows: int) -> int:
    """Which of `rows` reference rows, counted from the closest, a row must be closer than to be among
    the share `rate`, 0 to 1, that is flagged: then a new row like them is flagged with probability
    `rank / (rows + 1)`, at most `rate`. 0 where so few rows cannot tell such a rate."""
    return math.floor(rate * (rows + 1) + 1e-9)


def conformal_p(percentile: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    """`(1 + reference rows at least as close) / (rows + 1)` of rows by their percentile, `[n]`, 0 to 1.

    A row like the reference rows has a value of at most `p` with probability at most `p`, whatever
    the distribution (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005). The
    count is read off the percentile's place among `rows` ordered values; between the quantiles that
    are kept it is interpolated. NaN stays NaN.
    """
    place = percentile / 100 * (rows - 1)  # from 0; the closest reference row is at rows - 1
    as_close = np.where(percentile >= 100, 0, rows - np.ceil(place - 1e-6))
    return np.where(np.isnan(percentile), np.nan, (1 + as_close) / (rows + 1))


def is_beyond(percentile: NDArray[np.float64], level: float, rows: int) -> NDArray[np.bool_]:
    """Which rows are closer than the reference row at `level`, 0 to 100, of `rows`, `[n]`: those whose
    `conformal_p` is at most `1 - level / 100`. None where so few rows cannot tell."""
    rank = rank_at(1 - level / 100, rows)
    return conformal_p(percentile, rows) <= rank / (rows + 1) + 1e-12


@dataclass(frozen=True)
class ToxicSet:
    """A curated list of features of one SAE, with everything needed to score by it."""

    name: str
    model: str
    sae: str
    hook: str
    d_model: int
    d_sae: int
    fingerprint: str
    """SHA-256 of the SAE's decoder; the set is refused for any other."""
    pool: str
    """How activations were pooled when it was made."""
    method: dict[str, Any]
    """How it was made: parameters of the curation."""
    sources: list[dict[str, Any]]
    """Contrast data: name, side, rows and hash of each."""
    features: list[ToxicFeature]
    scale: list[float]
    """Spread of each feature's pooled activation on the contrast data, `[d_sae]`; the weighted
    metrics divide activations by it. A feature with 0 does not count."""
    intercept: float
    """Of the weighted metrics: what is added to the log-odds."""
    direction: list[float]
    """Unit vector of the toxic-minus-benign mean difference of the mean residual, `[d_model]`."""
    direction_mean: list[float]
    """Mean of the mean residual over the contrast, `[d_model]`."""
    largest: list[float]
    """The largest pooled activation of each feature on the contrast data, `[d_sae]`; the weighted
    metrics count no more than that, since the weights say nothing of what lies beyond."""
    calibration: Calibration | None = None
    neighbour_labels: dict[str, str] = field(default_factory=dict)
    """Labels of features outside the set that lie next to it, for explanations; by index."""
    themes: Themes | None = None
    """The toxic features in clusters that a person can follow; None in sets that were made without."""
    history: list[str] = field(default_factory=list)
    revision: str | None = None
    """Commit of the model, where it came from the hub."""
    created: str = ""
    schema: int = TOXIC_SET_VERSION

    def side(self, side: str) -> list[ToxicFeature]:
        """The features of one side."""
        return [feature for feature in self.features if feature.side == side]

    def strongest(self, count: int) -> NDArray[np.int64]:
        """The toxic features with the largest effect, at most `count`, strongest first."""
        ordered = sorted(self.side("toxic"), key=lambda feature: -feature.effect_size)
        return np.array([feature.index for feature in ordered[:count]], dtype=np.int64)

    def labels(self) -> dict[int, str]:
        """Feature -> its label, for the set's features and their neighbours."""
        labels = {int(index): label for index, label in self.neighbour_labels.items()}
        return labels | {feature.index: feature.label for feature in self.features}

    def check_belongs(
        self,
        *,
        fingerprint: str,
        d_model: int,
        d_sae: int,
        model: str,
        sae_name: str,
        unit_decoder: bool,
    ) -> None:
        """Raises SaefilterError when the set was made for another SAE or another model, or in another
        unit; `unit_decoder`: whether the SAE's decoder is of unit rows."""
        remedy = "Use the preset it was made with, or curate a set for this SAE: saefilter features curate"
        if fingerprint != self.fingerprint:
            raise SaefilterError(
                f"the toxic set {self.name!r} belongs to the SAE {self.sae} "
                f"({self.fingerprint[:12]}), not to {sae_name} ({fingerprint[:12]})",
                remedy=remedy,
            )
        for what, own, other in (
            ("d_sae", self.d_sae, d_sae),
            ("d_model", self.d_model, d_model),
        ):
            if own != other:
                raise SaefilterError(
                    f"the toxic set {self.name!r} says {what} {own}, the SAE has {other}",
                    remedy=remedy,
                )
        if self.schema == RAW_ACTIVATIONS and not unit_decoder:
            raise SaefilterError(
                f"the toxic set {self.name!r} was made before activations were multiplied by the length "
                f"of the decoder's rows, which is not 1 in {sae_name}",
                remedy="Curate it again: saefilter features curate",
            )
        # folders are called what their owners like; two names on the hub are two models
        on_hub = not any(Path(name).is_absolute() or Path(name).exists() for name in
                         (model, self.model))  # fmt: skip
        if model != self.model and on_hub:
            raise SaefilterError(
                f"the toxic set {self.name!r} was made with the model {self.model}, not {model}",
                remedy=remedy,
            )

    def to_json(self) -> str:
        """The file's text; long number lists on one line each."""
        lines = []
        for name, value in vars(self).items():
            if name == "features":  # thousands; asdict would copy each in depth
                entries = ",\n  ".join(json.dumps(vars(f), ensure_ascii=False) for f in value)
                lines.append(f'"features": [\n  {entries}\n ]')
            elif name == "themes":  # left out where there are none: such a set keeps its hash
                lines += [_themes_json(value)] if value else []
            else:
                plain = asdict(value) if isinstance(value, Calibration) else value
                lines.append(f"{json.dumps(name)}: {json.dumps(plain, ensure_ascii=False)}")
        return "{\n " + ",\n ".join(lines) + "\n}\n"

    def sha256(self) -> str:
        """Hash of the file's text."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def _themes_json(themes: Themes) -> str:
    """Their entry of the file, a line for each theme."""
    fields = asdict(themes)
    entries = ",\n  ".join(json.dumps(one, ensure_ascii=False) for one in fields.pop("themes"))
    return f'"themes": {{"themes": [\n  {entries}\n ], {json.dumps(fields, ensure_ascii=False)[1:]}'
