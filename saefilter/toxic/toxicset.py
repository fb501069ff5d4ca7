"""The toxic set: its schema, loading, checking, saving."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter.errors import SaefilterError

TOXIC_SET_VERSION = 2
"""1 had no `largest`, and a calibration by another function of the log-odds."""
SIDES = ("toxic", "benign")


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
class Calibration:
    """Quantiles of sample proximity on harmless reference data, per metric and pooling."""

    rows: int
    levels: tuple[float, ...]
    """Shares, ascending, 0 to 1."""
    quantiles: dict[str, tuple[float, ...]]
    """`metric/pool` -> the proximity at each level."""
    push: PushReference | None = None
    """With the set's own pooling; None in sets that were calibrated before there was any."""

    def percentile(self, proximity: NDArray[np.float64], key: str) -> NDArray[np.float64] | None:
        """Share of the reference that is less close, 0 to 100, `[n]`; None when not calibrated."""
        if key not in self.quantiles:
            return None
        return np.interp(proximity, self.quantiles[key], np.asarray(self.levels) * 100.0)


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
    history: list[str] = field(default_factory=list)
    revision: str | None = None
    """Commit of the model, where it came from the hub."""
    created: str = ""
    schema: int = TOXIC_SET_VERSION

    @property
    def reading(self) -> dict[str, Any]:
        """`train_on`, `trainer` and `read`: which tokens its rows were read at; those of sets from
        before this was kept."""
        usual = {"train_on": "assistant", "trainer": None, "read": "at"}
        return {name: self.method.get(name, value) for name, value in usual.items()}

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
        self, *, fingerprint: str, d_model: int, d_sae: int, model: str, sae_name: str
    ) -> None:
        """Raises SaefilterError when the set was made for another SAE or another model."""
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
            else:
                plain = asdict(value) if isinstance(value, Calibration) else value
                lines.append(f"{json.dumps(name)}: {json.dumps(plain, ensure_ascii=False)}")
        return "{\n " + ",\n ".join(lines) + "\n}\n"

    def sha256(self) -> str:
        """Hash of the file's text."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()
