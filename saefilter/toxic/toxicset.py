"""The toxic set: its schema, loading, checking, saving."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter.errors import SaefilterError

TOXIC_SET_VERSION = 1
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
    keyword: str = ""
    """The one word it tracks, where nearly all of its activation is on one: such a feature may stand
    for a topic more than for what makes a text toxic."""


@dataclass(frozen=True)
class Calibration:
    """Quantiles of sample proximity on harmless reference data, per metric and pooling."""

    rows: int
    levels: tuple[float, ...]
    """Shares, ascending, 0 to 1."""
    quantiles: dict[str, tuple[float, ...]]
    """`metric/pool` -> the proximity at each level."""

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
    """Of the weighted metrics: what is added before the logistic function."""
    direction: list[float]
    """Unit vector of the toxic-minus-benign mean difference of the mean residual, `[d_model]`."""
    direction_mean: list[float]
    """Mean of the mean residual over the contrast, `[d_model]`."""
    calibration: Calibration | None = None
    neighbour_labels: dict[str, str] = field(default_factory=dict)
    """Labels of features outside the set that lie next to it, for explanations; by index."""
    history: list[str] = field(default_factory=list)
    revision: str | None = None
    """Commit of the model, where it came from the hub."""
    created: str = ""
    schema: int = TOXIC_SET_VERSION

    def side(self, side: str) -> list[ToxicFeature]:
        """The features of one side."""
        return [feature for feature in self.features if feature.side == side]

    def labels(self) -> dict[int, str]:
        """Feature -> its label, for the set's features and their neighbours."""
        labels = {int(index): label for index, label in self.neighbour_labels.items()}
        return labels | {feature.index: feature.label for feature in self.features}

    def check_sae(self, fingerprint: str, sae_name: str) -> None:
        """Raises SaefilterError when the set was made for another SAE."""
        if fingerprint != self.fingerprint:
            raise SaefilterError(
                f"the toxic set {self.name!r} belongs to the SAE {self.sae} "
                f"({self.fingerprint[:12]}), not to {sae_name} ({fingerprint[:12]})",
                remedy="Use the preset it was made with, or curate a set for this SAE: "
                "saefilter features curate",
            )

    def to_json(self) -> str:
        """The file's text; long number lists on one line each."""
        fields = asdict(self)
        lines = []
        for name, value in fields.items():
            if name == "features":
                entries = ",\n  ".join(json.dumps(entry, ensure_ascii=False) for entry in value)
                lines.append(f'"features": [\n  {entries}\n ]')
            else:
                lines.append(f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}")
        return "{\n " + ",\n ".join(lines) + "\n}\n"

    def sha256(self) -> str:
        """Hash of the file's text."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def load_toxic_set(reference: str) -> ToxicSet:
    """A set from a JSON file, or a shipped one by its name.

    Raises SaefilterError when there is none, or it is not a valid toxic set.
    """
    path = Path(reference)
    if not path.suffix and not path.exists():
        path = Path(str(files("saefilter.toxic") / "sets" / f"{reference}.json"))
        if not path.exists():
            names = sorted(p.stem for p in path.parent.glob("*.json"))
            raise SaefilterError(
                f"there is no toxic set {reference!r}",
                remedy=f"Name a JSON file, or one of: {', '.join(names)}.",
            )
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SaefilterError(
            f"there is no file {path}", remedy="Make one with: saefilter features curate"
        ) from error
    except (OSError, ValueError) as error:
        raise SaefilterError(f"not a readable toxic set ({error})", where=str(path)) from error
    return _from_fields(fields, str(path))


def _from_fields(fields: Any, where: str) -> ToxicSet:
    def wrong(problem: str) -> SaefilterError:
        return SaefilterError(problem, where=where, remedy="Mend the file or curate it again.")

    if not isinstance(fields, dict) or "features" not in fields:
        raise wrong("not a toxic set: it has no list of features")
    if fields.get("schema") != TOXIC_SET_VERSION:
        raise wrong(
            f"toxic set of schema {fields.get('schema')!r}; this saefilter reads {TOXIC_SET_VERSION}"
        )
    try:
        features = [
            ToxicFeature(**{**entry, "snippets": tuple(entry.get("snippets", ()))})
            for entry in fields["features"]
        ]
        calibration = fields.get("calibration")
        if calibration is not None:
            calibration = Calibration(
                rows=calibration["rows"],
                levels=tuple(calibration["levels"]),
                quantiles={key: tuple(values) for key, values in calibration["quantiles"].items()},
            )
        toxic_set = ToxicSet(**{**fields, "features": features, "calibration": calibration})
    except (TypeError, KeyError, AttributeError) as error:
        raise wrong(f"not a toxic set: {error}") from error
    for feature in toxic_set.features:
        if not 0 <= feature.index < toxic_set.d_sae:
            raise wrong(f"feature {feature.index} is outside 0..{toxic_set.d_sae - 1}")
        if feature.side not in SIDES:
            raise wrong(f"feature {feature.index} has the unknown side {feature.side!r}")
        if not 0 <= feature.weight < math.inf:
            raise wrong(
                f"feature {feature.index} has the weight {feature.weight}; 0 or more is needed"
            )
    if not toxic_set.side("toxic"):
        raise wrong("the set has no toxic feature")
    for name, values, length in (
        ("scale", toxic_set.scale, toxic_set.d_sae),
        ("direction", toxic_set.direction, toxic_set.d_model),
        ("direction_mean", toxic_set.direction_mean, toxic_set.d_model),
    ):
        if len(values) != length:
            raise wrong(f"{name} has {len(values)} numbers; {length} are needed")
    return toxic_set
