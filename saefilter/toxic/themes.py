"""Themes of a toxic set: its toxic features in a handful of clusters, each with a name, words and examples, so
that a person can follow why a row is close. How they are found: curate/themes.py; how a row is read by
them: geometry/reasons.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from saefilter.errors import SaefilterError

if TYPE_CHECKING:
    from saefilter.toxic.toxicset import ToxicFeature

KEPT_OVERLAP = 0.5
"""Of the weight of a theme that a person named; a new one that shares more of it keeps the name."""


@dataclass(frozen=True)
class ThemeExample:
    """A toxic text on which a theme is strong, and what is needed to tell which rows are like it."""

    text: str
    """Of the answer, or of the text that is trained on; cut at words."""
    prompt: str
    """What it answers; empty where it answers nothing."""
    features: tuple[int, ...]
    """Toxic features of which it has most more, or less, than harmless rows."""
    values: tuple[float, ...]
    """How much: contributions minus `Themes.usual`, scaled to length 1 over all toxic features."""


@dataclass(frozen=True)
class Theme:
    """Toxic features that point the same way or fire in the same texts."""

    name: str
    features: tuple[int, ...]
    share: float
    """Of the toxic weight of the set, 0 to 1."""
    usual: float
    """Of the toxic evidence of harmless contrast rows, mean over rows, 0 to 1."""
    words: tuple[str, ...]
    """That carry it in the toxic texts, most telling first; no function words."""
    examples: tuple[ThemeExample, ...] = ()
    """Strongest first."""
    by_hand: bool = False
    """Whether a person gave the name; it is then kept when themes are made anew."""


@dataclass(frozen=True)
class Themes:
    """All themes of a set, the one of most weight first; every toxic feature was in one of them when they
    were made."""

    themes: tuple[Theme, ...]
    features: tuple[int, ...]
    """The toxic features, ascending, `[n]`."""
    usual: tuple[float, ...]
    """Contribution of each in harmless contrast rows, mean over rows, `[n]`."""
    measured_on: str
    """The rows that themes, `usual` and shares are of, in words."""
    examples_of: str
    """Where the words and examples are from."""


def masses(features: Sequence[ToxicFeature]) -> dict[int, float]:
    """How much each toxic feature counts in its theme: its weight; where none has a weight, all alike."""
    toxic = [feature for feature in features if feature.side == "toxic"]
    weighted = any(feature.weight > 0 for feature in toxic)
    return {feature.index: feature.weight if weighted else 1.0 for feature in toxic}


def labels_in_themes(labels: Mapping[int, str], themes: Themes | None) -> dict[int, str]:
    """Labels by feature, those of features that are in a theme with its name behind them."""
    theme_of = (
        {index: theme.name for theme in themes.themes for index in theme.features} if themes else {}
    )
    return {
        index: f"{label}: {theme_of[index]}" if index in theme_of else label
        for index, label in labels.items()
    }


def fitting(themes: Themes | None, features: Sequence[ToxicFeature]) -> Themes | None:
    """The themes after a change by hand of the set's features: those that left are left out, and shares
    are of the weights as they are now. A feature that came is in no theme until themes are made anew."""
    if themes is None:
        return None
    mass = masses(features)
    total = sum(mass.values())
    kept = []
    for theme in themes.themes:
        if members := tuple(index for index in theme.features if index in mass):
            share = sum(mass[index] for index in members) / total if total else 0.0
            kept.append(replace(theme, features=members, share=share))
    known = [
        (index, value)
        for index, value in zip(themes.features, themes.usual, strict=True)
        if index in mass
    ]
    return replace(
        themes,
        themes=tuple(kept),
        features=tuple(index for index, _ in known),
        usual=tuple(value for _, value in known),
    )


def with_name(themes: Themes, number: int, name: str) -> Themes:
    """With another name for theme `number`, from 1. Raises SaefilterError for none of that number, or a name
    that says nothing or is another theme's."""
    name = " ".join(name.split())
    if not 1 <= number <= len(themes.themes):
        raise SaefilterError(
            f"there is no theme {number}; the set has {len(themes.themes)}",
            remedy="See their numbers with: saefilter features show SET",
        )
    others = [theme.name for place, theme in enumerate(themes.themes, 1) if place != number]
    if not name or name in others:
        raise SaefilterError(
            f"theme {number} cannot be called {name!r}: "
            + ("another one is" if name else "that is no name"),
            remedy="Give a few words of its own.",
        )
    changed = [
        replace(theme, name=name, by_hand=True) if place == number else theme
        for place, theme in enumerate(themes.themes, 1)
    ]
    return replace(themes, themes=tuple(changed))


def without_examples(themes: Themes) -> Themes:
    """Names and words alone, so that a set can be shared without any text; rows then have no closest
    example."""
    kept = tuple(replace(theme, examples=()) for theme in themes.themes)
    return replace(themes, themes=kept, examples_of=f"{themes.examples_of}, no examples kept")


def names_kept(before: Themes | None, after: Themes, mass: Mapping[int, float]) -> Themes:
    """The themes made anew, with the names that a person gave to what are largely the same features."""
    named = [theme for theme in before.themes if theme.by_hand] if before else []
    result = []
    for theme in after.themes:
        same = [one for one in named if _overlap(one.features, theme.features, mass) > KEPT_OVERLAP]
        if same:
            theme = replace(theme, name=same[0].name, by_hand=True)
        result.append(theme)
    return replace(after, themes=tuple(result))


def _overlap(one: Collection[int], other: Collection[int], mass: Mapping[int, float]) -> float:
    """Weight that both have, of what either has; more than half with one theme of a partition at most."""
    both, either = set(one) & set(other), set(one) | set(other)
    total = sum(mass.get(index, 0.0) for index in either)
    return sum(mass.get(index, 0.0) for index in both) / total if total else 0.0
