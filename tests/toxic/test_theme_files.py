"""Themes in the file of a toxic set: read, refused, renamed, and what becomes of them when a set changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toxic_sets import made

from saefilter.curate.sources import bundled
from saefilter.errors import SaefilterError
from saefilter.toxic.edit import add, merge, name_theme, remove, reweight
from saefilter.toxic.load import load_toxic_set, shipped_sets
from saefilter.toxic.themes import Theme, ThemeExample, Themes, labels_in_themes
from saefilter.toxic.toxicset import ToxicSet


def themed() -> ToxicSet:
    """Toxic features 1, 2 and 3 in two themes."""
    plain = made((1, "toxic", 1.0), (2, "toxic", 2.0), (3, "toxic", 1.0), (4, "benign", 1.0))
    example = ThemeExample("Skip the doctor.", "It hurts.", (1, 2), (0.6, 0.8))
    themes = Themes(
        (
            Theme("doctor, pills", (1, 2), 0.75, 0.6, ("doctor", "pills"), (example,)),
            Theme("money", (3,), 0.25, 0.4, ("money",)),
        ),
        (1, 2, 3), (0.1, 0.2, 0.3), "2 toxic and 2 benign rows of a", "a",
    )  # fmt: skip
    return replace(plain, themes=themes)


def test_a_set_is_read_back_with_its_themes_and_one_without_has_the_hash_it_had(
    tmp_path: Path,
) -> None:
    path = tmp_path / "set.json"
    path.write_text(themed().to_json())
    assert load_toxic_set(str(path)) == themed()
    without = replace(themed(), themes=None)
    assert "themes" not in json.loads(without.to_json())
    path.write_text(without.to_json())
    assert load_toxic_set(str(path)) == without


DAMAGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "unknown entry": lambda themes: themes.update(extra=1),
    "in two themes": lambda themes: themes["themes"][1]["features"].append(1),
    "not on the toxic side": lambda themes: themes["themes"][1]["features"].append(4),
    "one usual contribution": lambda themes: themes["usual"].pop(),
    "one value for each": lambda themes: themes["themes"][0]["examples"][0]["values"].pop(),
    "share outside": lambda themes: themes["themes"][0].update(share=3),
    "two themes have one name": lambda themes: themes["themes"][0].update(name="money"),
    "cannot be read": lambda themes: themes.update(themes=[3]),
    "lacks 'name'": lambda themes: themes["themes"][0].pop("name"),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_themes_edited_into_nonsense_are_refused(tmp_path: Path, message: str) -> None:
    fields = json.loads(themed().to_json())
    DAMAGES[message](fields["themes"])
    path = tmp_path / "set.json"
    path.write_text(json.dumps(fields))
    with pytest.raises(SaefilterError, match=message):
        load_toxic_set(str(path))


def test_a_person_names_a_theme() -> None:
    named = name_theme(themed(), 1, "dismisses  danger", "read it")
    assert named.themes is not None
    assert named.themes.themes[0].name == "dismisses danger"
    assert named.themes.themes[0].by_hand
    assert "theme 1 called 'dismisses danger'" in named.history[-1]
    for number, name in ((3, "x"), (0, "x"), (1, " "), (1, "money")):
        with pytest.raises(SaefilterError, match="theme"):
            name_theme(themed(), number, name, "x")
    with pytest.raises(SaefilterError, match="no themes"):
        name_theme(replace(themed(), themes=None), 1, "x", "x")


def test_labels_say_which_theme_a_feature_is_in() -> None:
    labels = {1: "pain", 4: "calm"}
    assert labels_in_themes(labels, themed().themes) == {1: "pain: doctor, pills", 4: "calm"}
    assert labels_in_themes(labels, None) == labels


def test_themes_follow_the_features_of_a_changed_set() -> None:
    without = remove(themed(), [2], "a topic").themes
    assert without is not None
    assert [theme.features for theme in without.themes] == [(1,), (3,)]
    assert [theme.share for theme in without.themes] == [0.5, 0.5]
    assert (without.features, without.usual) == ((1, 3), (0.1, 0.3))
    gone = remove(themed(), [3], "a topic").themes
    assert gone is not None
    assert [theme.name for theme in gone.themes] == ["doctor, pills"]
    heavier = reweight(themed(), {3: 7.0}, "too quiet").themes
    assert heavier is not None
    assert [theme.share for theme in heavier.themes] == [0.3, 0.7]
    more = add(themed(), 0, "toxic", 1.0, "x", "x").themes
    assert more is not None
    assert sum(theme.share for theme in more.themes) == pytest.approx(0.8)
    assert merge([themed(), themed()], "both", "x").themes is None


@pytest.mark.parametrize("name", shipped_sets())
def test_shipped_sets_have_themes_with_texts_of_our_own_alone(name: str) -> None:
    """Texts of other data must not be in the package."""
    toxic_set = load_toxic_set(name)
    themes = toxic_set.themes
    assert themes is not None
    members = sorted(index for theme in themes.themes for index in theme.features)
    assert members == sorted(feature.index for feature in toxic_set.side("toxic"))
    assert 3 <= len(themes.themes) <= 8
    assert sum(theme.share for theme in themes.themes) == pytest.approx(1, abs=2e-3)
    ours = [" ".join(turn.content.split()) for rows in bundled().conversations() for turn in rows]
    everything = "\n".join(ours)
    # hate is shown by texts of others alone, which are not ours to ship
    assert all(bool(theme.examples) == (name != "minilm-hate") for theme in themes.themes)
    for theme in themes.themes:
        for example in theme.examples:
            assert example.text.strip("…") in everything
            assert example.prompt.strip("…") in everything
