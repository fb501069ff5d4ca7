"""Change a toxic set by hand; every change leaves its reason in the set's history. Labels may come from
elsewhere: Neuronpedia's explanation exports, and tables of index and label.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from saefilter.errors import SaefilterError
from saefilter.rows.read import Source
from saefilter.toxic.themes import fitting, with_name
from saefilter.toxic.toxicset import SIGNS, ToxicFeature, ToxicSet

INDEX_NAMES = ("index", "feature", "feature_index", "latent")
LABEL_NAMES = ("description", "label", "explanation")


def noted(toxic_set: ToxicSet, change: str, reason: str) -> ToxicSet:
    """With a line of history. Raises SaefilterError without a reason."""
    if not reason.strip():
        raise SaefilterError("a change needs its reason", remedy='Give one: --reason "..."')
    when = datetime.now(UTC).isoformat(timespec="seconds")
    line = f"{when} {change}: {' '.join(reason.split())}"
    return replace(toxic_set, history=[*toxic_set.history, line])


def rescored(toxic_set: ToxicSet) -> ToxicSet:
    """Without its calibration: what is scored has changed, so that percentiles would be wrong. Its themes
    are of the features that it has now."""
    themes = fitting(toxic_set.themes, toxic_set.features)
    return replace(toxic_set, calibration=None, themes=themes)


def add(
    toxic_set: ToxicSet, index: int, side: str, weight: float, label: str, reason: str
) -> ToxicSet:
    """With a feature more, unmeasured. Raises SaefilterError for one that is in it or cannot be."""
    if not 0 <= index < toxic_set.d_sae:
        raise SaefilterError(f"feature {index} is outside 0..{toxic_set.d_sae - 1}")
    if index in _by_index(toxic_set):
        raise SaefilterError(
            f"feature {index} is in the set already", remedy="Use: saefilter features reweight"
        )
    known = toxic_set.neighbour_labels.get(str(index))
    feature = ToxicFeature(
        index, side, weight, label or known or f"feature {index}", 0.0, 0.5, 1.0, source="by hand"
    )
    neighbours = {k: v for k, v in toxic_set.neighbour_labels.items() if k != str(index)}
    changed = replace(
        toxic_set, features=[*toxic_set.features, feature], neighbour_labels=neighbours
    )
    return noted(rescored(changed), f"added feature {index} ({side}, weight {weight:g})", reason)


def remove(toxic_set: ToxicSet, indices: Collection[int], reason: str) -> ToxicSet:
    """Without some features. Raises SaefilterError when one is not in it, or no toxic one is left."""
    _check_members(toxic_set, indices)
    kept = [feature for feature in toxic_set.features if feature.index not in indices]
    if not any(feature.side == "toxic" for feature in kept):
        raise SaefilterError("no toxic feature would be left")
    what = ", ".join(str(index) for index in sorted(indices))
    return noted(rescored(replace(toxic_set, features=kept)), f"removed {what}", reason)


def reweight(toxic_set: ToxicSet, weights: Mapping[int, float], reason: str) -> ToxicSet:
    """With other weights, by feature. Raises SaefilterError when one is not in it."""
    _check_members(toxic_set, weights)
    if min(weights.values()) < 0:
        raise SaefilterError("a weight is negative", remedy="Use 0 or more; the side is the sign.")
    features = [
        replace(feature, weight=weights.get(feature.index, feature.weight))
        for feature in toxic_set.features
    ]
    what = ", ".join(f"{index} to {weight:g}" for index, weight in weights.items())
    return noted(rescored(replace(toxic_set, features=features)), f"reweighted {what}", reason)


def relabel(toxic_set: ToxicSet, labels: Mapping[int, str], reason: str) -> tuple[ToxicSet, int]:
    """With other labels, for its features and those it knows next to them; and how many changed."""
    features, changed = [], 0
    for feature in toxic_set.features:
        label = labels.get(feature.index, feature.label)
        changed += label != feature.label
        features.append(replace(feature, label=label))
    neighbours = {}
    for index, label in toxic_set.neighbour_labels.items():
        neighbours[index] = labels.get(int(index), label)
        changed += neighbours[index] != label
    relabelled = replace(toxic_set, features=features, neighbour_labels=neighbours)
    return noted(relabelled, f"labelled {changed} features", reason), changed


def name_theme(toxic_set: ToxicSet, number: int, name: str, reason: str) -> ToxicSet:
    """With another name for a theme, by its number from 1. Raises SaefilterError when it has none such, or
    the name is none or another theme's."""
    if toxic_set.themes is None:
        raise SaefilterError(
            f"the set {toxic_set.name!r} has no themes",
            remedy="Make them: saefilter features themes",
        )
    themes = with_name(toxic_set.themes, number, name)
    before, after = (one.themes[number - 1].name for one in (toxic_set.themes, themes))
    changed = replace(toxic_set, themes=themes)
    return noted(changed, f"theme {number} called {after!r}, not {before!r}", reason)


def merge(sets: Sequence[ToxicSet], name: str, reason: str) -> ToxicSet:
    """The features of several sets of one SAE; weights are averaged, signed, a set that lacks a
    feature giving it 0; themes are to be made anew. Raises SaefilterError for sets of different SAEs, models
    or poolings."""
    first = sets[0]
    for other in sets[1:]:
        other.check_belongs(
            fingerprint=first.fingerprint, d_model=first.d_model, d_sae=first.d_sae,
            model=first.model, sae_name=f"{first.sae} of {first.name!r}", unit_decoder=True,
        )  # fmt: skip
        if other.pool != first.pool:
            raise SaefilterError(
                f"{first.name!r} was made with --pool {first.pool}, {other.name!r} with {other.pool}"
            )
    scale = np.max([one.scale for one in sets], axis=0)
    signed = np.zeros(first.d_sae)
    for one in sets:
        own = np.asarray(one.scale)
        for feature in one.features:
            # a weight is of the activation over its set's spread
            gain = scale[feature.index] / own[feature.index] if own[feature.index] > 0 else 1.0
            signed[feature.index] += SIGNS[feature.side] * feature.weight * gain / len(sets)
    strongest = _strongest(sets, signed)
    features = [
        replace(
            feature,
            weight=float(abs(signed[index])),
            side=("toxic" if signed[index] > 0 else "benign") if signed[index] else feature.side,
        )
        for index, feature in strongest.items()
    ]
    features.sort(key=lambda f: (f.side != "toxic", -f.weight, -abs(f.effect_size)))
    direction = np.mean([one.direction for one in sets], axis=0)
    merged = replace(
        first,
        name=name,
        features=features,
        scale=scale.tolist(),
        largest=np.max([one.largest for one in sets], axis=0).tolist(),
        intercept=float(np.mean([one.intercept for one in sets])),
        direction=(direction / max(float(np.linalg.norm(direction)), 1e-12)).tolist(),
        direction_mean=np.mean([one.direction_mean for one in sets], axis=0).tolist(),
        sources=[entry for one in sets for entry in one.sources],
        method={"name": "merged", "of": [one.name for one in sets]},
        neighbour_labels={
            index: label
            for one in reversed(sets)
            for index, label in one.neighbour_labels.items()
            if int(index) not in strongest
        },
        history=[line for one in sets for line in one.history],
        schema=min(one.schema for one in sets),
    )
    names = " and ".join(one.name for one in sets)
    return noted(replace(rescored(merged), themes=None), f"merged {names}", reason)


def _strongest(sets: Sequence[ToxicSet], signed: NDArray[np.float64]) -> dict[int, ToxicFeature]:
    """Each feature with the figures of the set in which its effect is largest; `signed`: the merged
    weights, negative for the benign side, `[d_sae]`."""
    strongest: dict[int, ToxicFeature] = {}
    for one in sets:
        for feature in one.features:
            if SIGNS[feature.side] * signed[feature.index] < 0:
                continue  # it counts on the other side, where another set's figures are its own
            known = strongest.get(feature.index)
            if known is None or abs(feature.effect_size) > abs(known.effect_size):
                strongest[feature.index] = feature
    return strongest


@dataclass(frozen=True)
class Difference:
    """How one set differs from another; features by their index, ascending."""

    only_first: list[ToxicFeature]
    only_second: list[ToxicFeature]
    other_side: list[tuple[ToxicFeature, ToxicFeature]]
    reweighted: list[tuple[ToxicFeature, ToxicFeature]]
    same: int


def diff(first: ToxicSet, second: ToxicSet) -> Difference:
    """What differs. Raises SaefilterError for sets of different SAEs: their indices do not mean
    the same features."""
    if first.fingerprint != second.fingerprint:
        raise SaefilterError(
            f"{first.name!r} is of {first.sae}, {second.name!r} of {second.sae}: their features "
            "cannot be compared"
        )
    one, other = _by_index(first), _by_index(second)
    both = [(one[index], other[index]) for index in sorted(one.keys() & other.keys())]
    moved = [(a, b) for a, b in both if a.side != b.side]
    reweighted = [
        (a, b)
        for a, b in both
        if a.side == b.side and not np.isclose(a.weight, b.weight, rtol=1e-3)
    ]
    return Difference(
        [one[index] for index in sorted(one.keys() - other.keys())],
        [other[index] for index in sorted(other.keys() - one.keys())],
        moved,
        reweighted,
        len(both) - len(moved) - len(reweighted),
    )


def _by_index(toxic_set: ToxicSet) -> dict[int, ToxicFeature]:
    return {feature.index: feature for feature in toxic_set.features}


def _check_members(toxic_set: ToxicSet, indices: Collection[int]) -> None:
    missing = sorted(set(indices) - _by_index(toxic_set).keys())
    if missing:
        raise SaefilterError(
            f"the set {toxic_set.name!r} has no feature {', '.join(map(str, missing))}",
            remedy="Find features with: saefilter features search",
        )


def read_labels(source: Source) -> dict[int, str]:
    """Feature -> label, from JSON, JSONL (also compressed), CSV or Parquet with a column of indices
    and one of labels, as in Neuronpedia's exports (`index`, `description`).

    Of several labels for one feature the first counts. Raises SaefilterError when a row has neither.
    """
    labels: dict[int, str] = {}
    for row in source.rows():
        where = f"{row.file or source.path}:{row.line}"
        if row.data is None:
            raise SaefilterError(row.error or "unreadable", where=where)
        index = next((row.data[name] for name in INDEX_NAMES if name in row.data), None)
        label = next((row.data[name] for name in LABEL_NAMES if name in row.data), None)
        if index is None or label is None:
            raise SaefilterError(
                f"the columns are {', '.join(list(row.data)[:8])}",
                where=where,
                remedy=f"One of {', '.join(INDEX_NAMES)} and one of {', '.join(LABEL_NAMES)} "
                "is needed.",
            )
        try:
            number = int(str(index))
        except ValueError as error:
            raise SaefilterError(f"{index!r} is no feature index", where=where) from error
        if text := " ".join(str(label).split()):
            labels.setdefault(number, text)
    if not labels:
        raise SaefilterError("no labels in it", where=str(source.path))
    return labels
