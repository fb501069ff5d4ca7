"""How toxic features are put into themes: as mathematics on made activations, and whole with `minilm`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saefilter.curate.curate import made_themes
from saefilter.curate.sources import ContrastRows, bundled
from saefilter.curate.themes import LEAST_MASS, MOST_THEMES, clusters
from saefilter.encode.encoder import Encoder
from saefilter.geometry.space import unit_rows
from saefilter.rows.formats import Conversation
from saefilter.settings import ScoreSettings
from saefilter.text import is_function_word
from saefilter.toxic.edit import name_theme
from saefilter.toxic.load import load_toxic_set
from saefilter.toxic.toxicset import ToxicSet

ROWS = 60


def made(seed: int, n: int, rows: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Directions, activity and mass of features without any order to find."""
    rng = np.random.default_rng(seed)
    directions = unit_rows(rng.normal(size=(n, 16)).astype(np.float32))
    activity = rng.exponential(size=(rows, n)) * (rng.random((rows, n)) < 0.3)
    return directions, activity, rng.random(n)


def parts(label: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(label == one).tolist()) for one in np.unique(label)}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_heaps_are_few_none_is_tiny_and_the_heaviest_comes_first(seed: int, n: int) -> None:
    directions, activity, mass = made(seed, n)
    label = clusters(directions, activity, mass)
    assert label.shape == (n,)
    weight = np.bincount(label, mass)
    assert len(weight) <= MOST_THEMES
    assert (np.bincount(label) > 0).all()
    assert (np.diff(weight) <= 1e-9).all()
    if len(weight) > 1:
        assert weight.min() >= LEAST_MASS * mass.sum() - 1e-9


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(6, 50))
def test_heaps_do_not_depend_on_the_order_of_features_or_rows(seed: int, n: int) -> None:
    directions, activity, mass = made(seed, n)
    rng = np.random.default_rng(seed)
    features, rows = rng.permutation(n), rng.permutation(len(activity))
    label = clusters(directions, activity, mass)
    moved = clusters(directions[features], activity[rows][:, features], mass[features])
    back = np.empty_like(moved)
    back[features] = moved
    assert parts(back) == parts(label)


def test_features_that_fire_together_are_put_together_though_they_point_elsewhere() -> None:
    rng = np.random.default_rng(0)
    kind = np.repeat(np.arange(3), 20)
    drives = rng.exponential(size=(300, 3)) * (rng.random((300, 3)) < 0.4)
    activity = drives[:, kind] * rng.uniform(0.5, 1.5, (300, 60)) + 0.1 * rng.random((300, 60))
    directions = unit_rows(rng.normal(size=(60, 32)).astype(np.float32))
    label = clusters(directions, activity, np.ones(60))
    for cluster in parts(label):
        assert len({int(kind[one]) for one in cluster}) == 1


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.of(ScoreSettings(preset="minilm", device="cpu"))


@pytest.fixture(scope="module")
def sources() -> list[ContrastRows]:
    """Some of the bundled pairs, of all topics."""

    def some(rows: list[Conversation]) -> list[Conversation]:
        return rows[:: len(rows) // ROWS]

    rows = bundled()
    return [replace(rows, toxic=some(rows.toxic), benign=some(rows.benign))]


@pytest.fixture(scope="module")
def themed(encoder: Encoder, sources: list[ContrastRows]) -> ToxicSet:
    plain = replace(load_toxic_set("minilm"), themes=None)
    return made_themes(plain, encoder, sources, ScoreSettings())


def test_themes_partition_the_toxic_features_and_change_nothing_else(themed: ToxicSet) -> None:
    assert themed.themes is not None
    shipped = load_toxic_set("minilm")
    assert replace(themed, themes=None) == replace(shipped, themes=None)
    members = [index for theme in themed.themes.themes for index in theme.features]
    assert sorted(members) == sorted(feature.index for feature in themed.side("toxic"))
    assert 3 <= len(themed.themes.themes) <= 8
    assert sum(theme.share for theme in themed.themes.themes) == pytest.approx(1, abs=1e-3)
    assert sum(theme.usual for theme in themed.themes.themes) == pytest.approx(1, abs=1e-3)
    assert f"{len(range(0, 749, 749 // ROWS))} toxic" in themed.themes.measured_on


def test_names_are_of_content_words_and_examples_of_toxic_texts(
    themed: ToxicSet, sources: list[ContrastRows]
) -> None:
    assert themed.themes is not None
    toxic = [" ".join(rows[-1].content.split()) for rows in sources[0].toxic]
    seen: list[str] = []
    for theme in themed.themes.themes:
        assert not any(is_function_word(word) for word in theme.name.split(", "))
        assert not any(is_function_word(word) for word in theme.words)
        for example in theme.examples:
            assert any(example.text.strip("…") in text for text in toxic)
            assert set(example.features) <= set(themed.themes.features)
        seen += [example.text for example in theme.examples]
    assert len(seen) == len(set(seen)) > 20


def test_themes_do_not_depend_on_the_order_of_the_features(
    themed: ToxicSet, encoder: Encoder, sources: list[ContrastRows]
) -> None:
    turned = replace(themed, themes=None, features=themed.features[::-1])
    assert made_themes(turned, encoder, sources, ScoreSettings()).themes == themed.themes


def test_a_name_given_by_hand_is_kept_when_themes_are_made_anew(
    themed: ToxicSet, encoder: Encoder, sources: list[ContrastRows]
) -> None:
    called = name_theme(themed, 2, "plays down a danger", "read its examples")
    again = made_themes(called, encoder, sources, ScoreSettings())
    assert again.themes == called.themes
    assert again.themes is not None
    assert [theme.by_hand for theme in again.themes.themes].count(True) == 1
    assert again.themes.themes[1].name == "plays down a danger"
