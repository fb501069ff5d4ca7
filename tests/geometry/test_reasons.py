"""How rows are read by the themes of a set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from toxic_sets import made

from saefilter.geometry.reasons import MATTERS, MOST_THEMES, STANDS_OUT, ThemeReader
from saefilter.toxic.themes import Theme, ThemeExample, Themes, without_examples
from saefilter.toxic.toxicset import ToxicSet

EXAMPLES = (
    ThemeExample("Skip the doctor.", "", (1, 2), (0.6, 0.8)),
    ThemeExample("Sell the house.", "", (3,), (1.0,)),
)


def themed(usual: float = 0.5) -> ToxicSet:
    """Toxic features 1 and 2 in a theme, 3 in another; 4 is benign, 0 and 5 are in no set."""
    plain = made((1, "toxic", 1.0), (2, "toxic", 2.0), (3, "toxic", 1.0), (4, "benign", 1.0))
    themes = Themes(
        (
            Theme("doctor", (1, 2), 0.75, usual, (), EXAMPLES[:1]),
            Theme("money", (3,), 0.25, 1 - usual, (), EXAMPLES[1:]),
        ),
        (1, 2, 3), (0.0, 0.0, 0.0), "rows", "a",
    )  # fmt: skip
    return replace(plain, themes=themes, largest=[2.0] * 6, scale=[0.5] * 6)


def reader(toxic_set: ToxicSet) -> ThemeReader:
    made_reader = ThemeReader.of(toxic_set)
    assert made_reader is not None
    return made_reader


rows = st.lists(st.lists(st.floats(0, 4, width=32), min_size=6, max_size=6), min_size=1, max_size=5)


@settings(deadline=None)
@given(rows, st.floats(0.05, 0.95))
def test_shares_are_of_all_toxic_evidence_and_what_is_named_stands_out(
    values: list[list[float]], usual: float
) -> None:
    features = sparse.csr_matrix(np.array(values, dtype=np.float32))
    reasons = reader(themed(usual)).read(features)
    toxic = np.minimum(np.array(values, dtype=np.float32), 2)[:, 1:4] * [1, 2, 1]
    for row, (shares, reason) in enumerate(zip(reasons.shares, reasons.rows, strict=True)):
        total = toxic[row].sum()
        assert shares.sum() == (0 if total == 0 else np.float64(shares.sum()))
        if total > 0:
            assert np.allclose(shares, [toxic[row, :2].sum() / total, toxic[row, 2] / total])
        assert len(reason.themes) <= MOST_THEMES
        for place in reason.themes:
            assert shares[place] >= max(MATTERS, STANDS_OUT * [usual, 1 - usual][place])
        assert (reason.example >= 0) == (total > 0)
        assert reason.cosine <= 1 + 1e-9


def test_the_closest_example_is_the_one_with_the_same_mix_whatever_the_length() -> None:
    features = np.zeros((3, 6), dtype=np.float32)
    features[0, [1, 2]] = 0.3, 0.2  # contributions 0.6 and 0.8
    features[1, [1, 2]] = 0.03, 0.02
    features[2, [2, 3]] = 0.1, 1.0
    by = reader(themed())
    found = by.read(sparse.csr_matrix(features)).rows
    assert [by.examples[one.example][1] for one in found] == [*EXAMPLES[:1] * 2, EXAMPLES[1]]
    assert np.allclose([one.cosine for one in found[:2]], 1)


def test_token_weights_add_up_to_the_evidence_of_each_theme() -> None:
    features = sparse.csr_matrix(np.random.default_rng(0).random((4, 6)).astype(np.float32))
    by = reader(themed())
    evidence = features @ by.token_weights()
    shares = evidence / evidence.sum(axis=1, keepdims=True)
    assert np.allclose(shares, by.read(features).shares, atol=1e-6)


def test_features_that_came_or_went_since_disturb_nothing() -> None:
    toxic_set = themed()
    more = replace(toxic_set, features=[*toxic_set.features, made((0, "toxic", 9.0)).features[0]])
    features = sparse.csr_matrix(np.ones((1, 6), dtype=np.float32))
    assert np.allclose(reader(more).read(features).shares, reader(toxic_set).read(features).shares)
    assert ThemeReader.of(replace(toxic_set, themes=None)) is None


def test_a_set_that_keeps_no_texts_has_themes_and_no_closest_example() -> None:
    toxic_set = themed()
    assert toxic_set.themes is not None
    bare = replace(toxic_set, themes=without_examples(toxic_set.themes))
    features = sparse.csr_matrix(np.array([[0, 0, 0, 1, 0, 0]], dtype=np.float32))
    (reason,) = reader(bare).read(features).rows
    assert reason.themes == (1,)
    assert reason.example == -1


def test_a_set_without_weights_counts_its_features_alike() -> None:
    toxic_set = themed()
    flat = replace(toxic_set, features=[replace(f, weight=0.0) for f in toxic_set.features])
    shares = reader(flat).read(sparse.csr_matrix(np.ones((1, 6), dtype=np.float32))).shares
    assert np.allclose(shares, [[2 / 3, 1 / 3]])
