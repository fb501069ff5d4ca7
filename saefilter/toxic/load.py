"""Load a toxic set and say precisely what is wrong with one that cannot be used."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from saefilter.errors import SaefilterError, did_you_mean
from saefilter.toxic.themes import Theme, ThemeExample, Themes
from saefilter.toxic.toxicset import (
    RAW_ACTIVATIONS,
    SIDES,
    TOXIC_SET_VERSION,
    Calibration,
    HeldOut,
    Likeness,
    PushReference,
    ToxicFeature,
    ToxicSet,
)

PIN = "#sha256="
"""In the name of a set on the hub, before the hash of its bytes."""
SHIPPED = Path(str(files("saefilter.toxic") / "sets"))
TEXTS = ("name", "model", "sae", "hook", "fingerprint", "pool", "created")
COUNTS = ("d_model", "d_sae")
VECTORS = {
    "scale": "d_sae", "largest": "d_sae", "direction": "d_model", "direction_mean": "d_model"
}  # fmt: skip
NUMBERS = ("weight", "effect_size", "auroc", "p_value")


def shipped_sets() -> list[str]:
    """Names of the sets that come with saefilter."""
    return sorted(path.stem for path in SHIPPED.glob("*.json"))


def find_toxic_set(reference: str) -> Path:
    """The file of a set: a JSON file, a shipped one by its name, or one of the hub by its pin (hub.py), which is
    fetched where the cache does not have it. Raises SaefilterError."""
    path = Path(reference)
    if PIN in reference and not path.exists():
        from saefilter.toxic.hub import cached

        return cached(reference)
    if path.suffix or path.is_file():
        return path
    shipped = SHIPPED / f"{path.name}.json"
    if not shipped.exists():
        raise SaefilterError(
            f"there is no toxic set {reference!r}",
            remedy=f"{did_you_mean(reference, shipped_sets(), 'Shipped sets')} Or name a JSON file.",
        )
    return shipped


def refuse_in_place(reference: str) -> None:
    """Raises SaefilterError for a set whose file is not the user's own."""
    origin = "is of the hub" if PIN in reference else "came with saefilter"
    if PIN in reference or reference in shipped_sets():
        raise SaefilterError(
            f"{reference} {origin} and is not changed in place",
            remedy="Name a file for the changed set with -o.",
        )


def load_toxic_set(reference: str) -> ToxicSet:
    """A set by what `find_toxic_set` takes.

    Raises SaefilterError when there is none, or it is not a valid toxic set.
    """
    path = find_toxic_set(reference)
    try:
        return read_toxic_set(path.read_bytes(), str(path))
    except FileNotFoundError as error:
        raise SaefilterError(
            f"there is no file {path}", remedy="Make one with: saefilter features curate"
        ) from error
    except OSError as error:
        raise SaefilterError(f"not a readable toxic set ({error})", where=str(path)) from error


def read_toxic_set(text: bytes, where: str) -> ToxicSet:
    """A set from its JSON. Raises SaefilterError, which says `where`, when it is not a valid one."""
    try:
        fields = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise SaefilterError(f"not a readable toxic set ({error})", where=where) from error
    try:
        return _from_fields(fields)
    except _Wrong as error:
        raise SaefilterError(
            str(error), where=where, remedy="Mend the file or curate it again."
        ) from error


class _Wrong(Exception):
    """What is wrong with a file."""


def _from_fields(fields: Any) -> ToxicSet:
    if not isinstance(fields, dict) or not isinstance(fields.get("features"), list):
        raise _Wrong("not a toxic set: it has no list of features")
    if fields.get("schema") not in (RAW_ACTIVATIONS, TOXIC_SET_VERSION):
        raise _Wrong(
            f"toxic set of schema {fields.get('schema')!r}; this saefilter reads {RAW_ACTIVATIONS} "
            f"and {TOXIC_SET_VERSION}"
        )
    _check_names(fields, ToxicSet, "the set")
    for name in TEXTS:
        _expect(fields, name, str, "a text")
    for name in COUNTS:
        _expect(fields, name, int, "a whole number")
        if fields[name] < 1:
            raise _Wrong(f"{name} is {fields[name]}")
    for name, length in VECTORS.items():
        values = fields[name]
        if not isinstance(values, list) or not all(_is_number(value) for value in values):
            raise _Wrong(f"{name} is not a list of numbers")
        if len(values) != fields[length]:
            raise _Wrong(f"{name} has {len(values)} numbers; {length} is {fields[length]}")
    if not _is_number(fields["intercept"]):
        raise _Wrong("intercept is not a number")
    for name, kind, words in (
        ("method", dict, "an object"), ("sources", list, "a list"), ("history", list, "a list"),
        ("neighbour_labels", dict, "an object"),
    ):  # fmt: skip
        if name in fields:
            _expect(fields, name, kind, words)
    features = [_feature(entry, fields["d_sae"]) for entry in fields["features"]]
    seen: set[int] = set()
    for feature in features:
        if feature.index in seen:
            raise _Wrong(f"feature {feature.index} is listed twice")
        seen.add(feature.index)
    if not any(feature.side == "toxic" for feature in features):
        raise _Wrong("the set has no toxic feature")
    for index in fields.get("neighbour_labels", {}):
        if not index.isdecimal() or int(index) >= fields["d_sae"]:
            raise _Wrong(f"neighbour_labels names feature {index!r}, which the SAE does not have")
    calibration = fields.get("calibration")
    return ToxicSet(
        **{
            **fields,
            "features": features,
            "themes": _themes(fields.get("themes"), features),
            "calibration": None
            if calibration is None
            else _calibration(calibration, fields["d_sae"]),
        }
    )


def _feature(entry: Any, d_sae: int) -> ToxicFeature:
    if not isinstance(entry, dict):
        raise _Wrong("an entry of features is not an object")
    _check_names(entry, ToxicFeature, f"feature {entry.get('index', '?')}")
    index = entry["index"]
    if not isinstance(index, int) or isinstance(index, bool):
        raise _Wrong(f"a feature has the index {index!r}; a whole number is needed")
    if not 0 <= index < d_sae:
        raise _Wrong(f"feature {index} is outside 0..{d_sae - 1}")
    if entry["side"] not in SIDES:
        raise _Wrong(f"feature {index} has the unknown side {entry['side']!r}")
    for name in NUMBERS:
        if not _is_number(entry[name]):
            raise _Wrong(f"feature {index} has the {name} {entry[name]!r}; a number is needed")
    if entry["weight"] < 0:
        raise _Wrong(f"feature {index} has the weight {entry['weight']}; 0 or more is needed")
    for name in ("label", "source", "keyword"):
        if not isinstance(entry.get(name, ""), str):
            raise _Wrong(f"feature {index} has a {name} that is not a text")
    for name in ("steering", "steering_p"):
        if entry.get(name) is not None and not _is_number(entry[name]):
            raise _Wrong(f"feature {index} has the {name} {entry[name]!r}; a number is needed")
    snippets = entry.get("snippets", [])
    if not isinstance(snippets, list) or not all(isinstance(text, str) for text in snippets):
        raise _Wrong(f"feature {index} has snippets that are not texts")
    return ToxicFeature(**{**entry, "snippets": tuple(snippets)})


def _calibration(entry: Any, d_sae: int) -> Calibration:
    try:
        levels = tuple(float(level) for level in entry["levels"])
        quantiles = {
            str(key): tuple(float(value) for value in values)
            for key, values in entry["quantiles"].items()
        }
        rows = int(entry["rows"])
        own_share = None if entry.get("own_share") is None else float(entry["own_share"])
        more = _measured_by_groups(entry)
        more["likeness"] = likeness = _likeness(entry.get("likeness"))
        push = entry.get("push")
        if push is not None:
            push = PushReference(
                int(push["rows"]),
                tuple(int(index) for index in push["features"]),
                tuple(float(value) for value in push["mean"]),
                tuple(float(value) for value in push["variance"]),
            )
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise _Wrong(f"the calibration cannot be read ({error})") from error
    if any(len(values) != len(levels) for values in quantiles.values()):
        raise _Wrong("the calibration has not one quantile for each level")
    if list(levels) != sorted(levels):
        raise _Wrong("the calibration's levels do not ascend")
    if push is not None and not len(push.features) == len(push.mean) == len(push.variance):
        raise _Wrong("the calibration's push has not one mean and variance for each feature")
    if push is not None and not all(0 <= index < d_sae for index in push.features):
        raise _Wrong(f"the calibration's push names a feature outside 0..{d_sae - 1}")
    if own_share is not None and not 0 <= own_share <= 1:
        raise _Wrong(f"the calibration's own_share is {own_share}")
    if likeness is not None and len(likeness.frequency) != d_sae:
        raise _Wrong(
            f"the calibration's likeness has not one frequency for each of {d_sae} features"
        )
    if likeness is not None and any(len(v) != len(levels) for v in likeness.quantiles.values()):
        raise _Wrong("the calibration's likeness has not one quantile for each level")
    return Calibration(rows, levels, quantiles, push, own_share=own_share, **more)


def _themes(entry: Any, features: list[ToxicFeature]) -> Themes | None:
    if entry is None:
        return None
    try:
        _check_names(entry, Themes, "themes")
        themes = tuple(_theme(one) for one in entry["themes"])
        known = tuple(int(index) for index in entry["features"])
        usual = tuple(float(value) for value in entry["usual"])
        sources = {name: str(entry[name]) for name in ("measured_on", "examples_of")}
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise _Wrong(f"the themes cannot be read ({error})") from error
    if len(known) != len(usual) or not all(_is_number(value) for value in usual):
        raise _Wrong("the themes have not one usual contribution for each feature")
    toxic = {feature.index for feature in features if feature.side == "toxic"}
    members = [index for theme in themes for index in theme.features]
    if len(set(members)) < len(members):
        raise _Wrong("a feature is in two themes")
    if strange := sorted({*members, *known} - toxic):
        raise _Wrong(f"the themes name feature {strange[0]}, which is not on the toxic side")
    if len({theme.name for theme in themes}) < len(themes):
        raise _Wrong("two themes have one name")
    return Themes(themes, known, usual, **sources)


def _theme(entry: Any) -> Theme:
    _check_names(entry, Theme, "a theme")
    examples = []
    for one in entry.get("examples", []):
        _check_names(one, ThemeExample, "an example of a theme")
        indices = tuple(int(index) for index in one["features"])
        values = tuple(float(value) for value in one["values"])
        if len(indices) != len(values) or not all(_is_number(value) for value in values):
            raise _Wrong("an example of a theme has not one value for each feature")
        examples.append(ThemeExample(str(one["text"]), str(one["prompt"]), indices, values))
    shares = {name: float(entry[name]) for name in ("share", "usual")}
    if not all(0 <= share <= 1 + 1e-6 for share in shares.values()):
        raise _Wrong(f"the theme {entry['name']!r} has a share outside 0..1")
    return Theme(
        name=str(entry["name"]), features=tuple(int(index) for index in entry["features"]),
        words=tuple(str(word) for word in entry["words"]), examples=tuple(examples),
        by_hand=bool(entry.get("by_hand", False)), **shares,
    )  # fmt: skip


def _likeness(entry: Any) -> Likeness | None:
    if entry is None:
        return None
    return Likeness(
        {str(key): tuple(map(float, values)) for key, values in entry["quantiles"].items()},
        {str(key): float(value) for key, value in entry["mean"].items()},
        tuple(map(float, entry["frequency"])),
        float(entry["limit"]),
    )


def _measured_by_groups(entry: dict[str, Any]) -> dict[str, Any]:
    """What a calibration says of groups, settings and held-out rows; older sets say nothing."""
    more: dict[str, Any] = {}
    if entry.get("groups") is not None:
        more["groups"] = float(entry["groups"])
    if entry.get("auroc") is not None:
        value, low, high = entry["auroc"]
        more["auroc"] = (float(value), float(low), float(high))
    more["made_with"] = dict(entry.get("made_with", {}))
    more["held_out"] = tuple(HeldOut(**one) for one in entry.get("held_out", []))
    return more


def _check_names(entry: dict[str, Any], made: type, what: str) -> None:
    known = {field.name: field for field in fields(made)}
    for name in entry:
        if name not in known:
            raise _Wrong(f"{what} has the unknown entry {name!r}")
    for name, field in known.items():
        optional = field.default is not MISSING or field.default_factory is not MISSING
        if name not in entry and not optional:
            raise _Wrong(f"{what} lacks {name!r}")


def _expect(entry: dict[str, Any], name: str, kind: type, words: str) -> None:
    if name in entry and (not isinstance(entry[name], kind) or isinstance(entry[name], bool)):
        raise _Wrong(f"{name} is not {words}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
