"""FAISS against brute force, and the formulas against plain NumPy loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from saefilter.errors import SaefilterError
from saefilter.geometry.metrics import KERNEL_THRESHOLD, METRICS, Sample
from saefilter.geometry.scorer import Scorer
from saefilter.geometry.space import DirectionIndex, FeatureSpace, unit_rows
from saefilter.toxic.toxicset import ToxicFeature, ToxicSet

D_MODEL, D_SAE = 16, 120


def make(seed: int, benign: bool = True) -> tuple[ToxicSet, np.ndarray, Sample]:
    rng = np.random.default_rng(seed)
    directions = unit_rows(rng.normal(size=(D_SAE, D_MODEL)).astype(np.float32))
    chosen = rng.permutation(D_SAE)[:20]
    features = [
        ToxicFeature(
            int(index), "toxic" if i < 12 else "benign", float(i % 4), f"label {index}",
            float(rng.normal()), 0.6, 0.001,
        )
        for i, index in enumerate(chosen)
        if benign or i < 12
    ]  # fmt: skip
    toxic_set = ToxicSet(
        "t", "m", "s", "h", D_MODEL, D_SAE, "f" * 64, "mean", {}, [], features,
        (rng.random(D_SAE) + 0.1).tolist(), 0.2, unit_rows(rng.normal(size=(1, D_MODEL)))[0].tolist(),
        rng.normal(size=D_MODEL).tolist(), (rng.random(D_SAE) + 1).tolist(),
    )  # fmt: skip
    dense = rng.exponential(size=(7, D_SAE)) * (rng.random((7, D_SAE)) < 0.2)
    sample = Sample(
        sparse.csr_matrix(dense.astype(np.float32)),
        rng.normal(size=(7, D_MODEL)).astype(np.float32),
    )
    return toxic_set, directions, sample


@given(st.integers(0, 1000), st.integers(1, 15))
@settings(deadline=None, max_examples=30)
def test_faiss_equals_brute_force(seed: int, k: int) -> None:
    toxic_set, directions, _ = make(seed)
    own = directions[[f.index for f in toxic_set.side("toxic")]]
    found = DirectionIndex(own).nearest(directions, k)
    cosines = directions @ own.T
    k = min(k, 12)
    expected = -np.sort(-cosines, axis=1)[:, :k]
    np.testing.assert_allclose(found.cosine, expected, atol=1e-5)
    np.testing.assert_allclose(
        np.take_along_axis(cosines, found.position, axis=1), expected, atol=1e-5
    )


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_metrics_equal_their_formulas(seed: int) -> None:
    toxic_set, directions, sample = make(seed)
    space = FeatureSpace.of(toxic_set, directions)
    toxic, benign = toxic_set.side("toxic"), toxic_set.side("benign")
    toxic_directions = directions[[f.index for f in toxic]]
    found = {name: metric.proximity(space, sample) for name, metric in METRICS.items()}

    def nearest(i: int, features: list[ToxicFeature]) -> tuple[float, ToxicFeature]:
        return max(
            ((float(directions[i] @ directions[f.index]), f) for f in features), key=lambda p: p[0]
        )

    def pull(i: int, features: list[ToxicFeature]) -> float:
        cosine, feature = nearest(i, [f for f in features if f.weight > 0])
        return feature.weight * max(0.0, (cosine - KERNEL_THRESHOLD) / (1 - KERNEL_THRESHOLD))

    for row, a in enumerate(sample.features.toarray()):
        active = np.flatnonzero(a)
        near = sum(a[i] * nearest(i, toxic)[0] for i in active) / a.sum()
        assert found["nearest"][row] == pytest.approx(near, abs=1e-5)
        strongest = sorted(active, key=lambda i: -a[i])[:10]
        top = sum(a[i] * nearest(i, toxic)[0] for i in strongest) / sum(a[i] for i in strongest)
        assert found["top-features"][row] == pytest.approx(top, abs=1e-5)
        counted = np.minimum(a, toxic_set.largest) / toxic_set.scale
        odds = toxic_set.intercept + sum(
            counted[i] * (pull(i, toxic) - pull(i, benign)) for i in active
        )
        assert found["contrast"][row] == pytest.approx(0.5 + odds / (4 + 2 * abs(odds)), abs=1e-5)
        probe = toxic_set.intercept
        probe += sum(f.weight * counted[f.index] for f in toxic)
        probe -= sum(f.weight * counted[f.index] for f in benign)
        assert found["probe"][row] == pytest.approx(0.5 + probe / (4 + 2 * abs(probe)), abs=1e-5)
        rebuilt = a @ directions
        rebuilt /= np.linalg.norm(rebuilt)
        assert found["reconstruction"][row] == pytest.approx(
            (toxic_directions @ rebuilt).max(), abs=1e-5
        )
        effects = np.array([f.effect_size for f in toxic])
        centroid = effects @ toxic_directions
        centroid /= np.linalg.norm(centroid)
        assert found["centroid"][row] == pytest.approx(rebuilt @ centroid, abs=1e-5)
        assert found["activation"][row] == pytest.approx(sum(a[f.index] for f in toxic), abs=1e-4)
        shifted = sample.residual[row] - np.array(toxic_set.direction_mean)
        assert found["direction"][row] == pytest.approx(shifted @ toxic_set.direction, abs=1e-4)


@pytest.mark.parametrize("name", list(METRICS))
@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=10)
def test_the_sets_own_part_in_a_score_is_that_of_its_contributions(name: str, seed: int) -> None:
    """By loops: which features the metric reads, and how much of all that adds or subtracts is theirs."""
    toxic_set, directions, sample = make(seed)
    empty = sparse.csr_matrix((1, D_SAE), dtype=np.float32)
    features = sparse.vstack([sample.features, empty]).tocsr()
    residual = np.vstack([sample.residual, sample.residual[:1]])
    scored = Scorer(toxic_set, directions, metric=name).score(features, residual)
    weighted = {feature.index for feature in toxic_set.features if feature.weight > 0}
    toxic = {feature.index for feature in toxic_set.side("toxic")}
    own = weighted if name in ("contrast", "probe") else toxic
    for row, parts in enumerate(scored.contributions.toarray()[:-1]):
        everything = sum(abs(part) for part in parts)
        theirs = sum(abs(part) for index, part in enumerate(parts) if index in own)
        if everything:
            assert scored.own_share[row] == pytest.approx(theirs / everything, abs=1e-5)
            assert 0 <= scored.own_share[row] <= 1
            if name in ("probe", "activation"):
                assert scored.own_share[row] == 1
    assert np.isnan(scored.own_share[-1])


@pytest.mark.parametrize("name", ["contrast", "probe"])
@given(st.integers(0, 1000), st.sampled_from([1e-3, 1.0, 30.0, 1000.0]))
@settings(deadline=None, max_examples=20)
def test_rows_are_ranked_by_their_odds_however_large(name: str, seed: int, factor: float) -> None:
    """Far from what a set was made from, odds of hundreds are common; a score that saturates would
    call all such rows equally close, and which are dropped would be the order of the input."""
    toxic_set, directions, sample = make(seed)
    toxic_set = replace(toxic_set, largest=[1e9] * D_SAE)
    metric, space = METRICS[name], FeatureSpace.of(toxic_set, directions)
    odds = factor * np.asarray(sample.features @ metric.push(space), dtype=np.float64).ravel()
    sample = replace(sample, features=sparse.csr_matrix(sample.features * np.float32(factor)))
    distance = 1.0 - metric.proximity(space, sample).astype(np.float64)
    assert ((distance > 0) & (distance < 1)).all()
    for one in range(len(odds)):
        for other in range(len(odds)):
            if odds[one] - odds[other] > 1e-4 * (1 + abs(odds).max()):  # beyond single precision
                assert distance[one] < distance[other]


@pytest.mark.parametrize("name", ["contrast", "probe"])
@given(st.integers(0, 1000), st.floats(1, 100))
@settings(deadline=None, max_examples=20)
def test_activations_beyond_the_contrast_datas_range_count_no_more(
    name: str, seed: int, factor: float
) -> None:
    """A feature of another topic, which hardly fired there, would drown all others."""
    toxic_set, directions, sample = make(seed)
    at_range = sample.features.sign().multiply(np.asarray(toxic_set.largest, np.float32)).tocsr()
    scorer = Scorer(toxic_set, directions, metric=name)
    within = scorer.score(at_range, sample.residual)
    beyond = scorer.score((at_range * np.float32(factor)).tocsr(), sample.residual)
    np.testing.assert_allclose(beyond.proximity, within.proximity, rtol=1e-6)
    np.testing.assert_allclose(beyond.contributions.data, within.contributions.data, rtol=1e-6)


def test_a_toxic_feature_that_is_less_active_in_toxic_rows_pulls_the_centroid_away() -> None:
    toxic_set, directions, _ = make(0)
    (first, second, *_) = toxic_set.side("toxic")
    features = [replace(first, effect_size=1.0), replace(second, effect_size=-0.5)]
    side = FeatureSpace.of(replace(toxic_set, features=features), directions).toxic
    expected = directions[first.index] - 0.5 * directions[second.index]
    np.testing.assert_allclose(side.centroid(), expected / np.linalg.norm(expected), atol=1e-6)


def test_averaging_over_the_whole_set_collapses_to_one_direction() -> None:
    """DESIGN's warning: the mean cosine over all toxic features is a projection on their mean."""
    toxic_set, directions, sample = make(3)
    space = FeatureSpace.of(toxic_set, directions, neighbours=12)
    mean = directions[[f.index for f in toxic_set.side("toxic")]].mean(axis=0)
    projection = (sample.features @ (directions @ mean)) / sample.features.sum(axis=1).A1
    np.testing.assert_allclose(METRICS["nearest"].proximity(space, sample), projection, atol=1e-5)


def test_a_set_without_weights_falls_back_and_says_what_it_cannot_do() -> None:
    toxic_set, directions, _ = make(0, benign=False)
    assert Scorer(toxic_set, directions).metric.name == "contrast"
    by_hand = [replace(feature, weight=0.0) for feature in toxic_set.features]
    toxic_set = replace(toxic_set, features=by_hand)
    assert Scorer(toxic_set, directions).metric.name == "nearest"
    with pytest.raises(SaefilterError, match="needs weighted features"):
        Scorer(toxic_set, directions, metric="contrast")


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_every_features_nearest_is_found_whether_it_is_in_the_set_or_not(share: float) -> None:
    """Features of the set are their own nearest; dead ones, without a direction, are near to nothing."""
    toxic_set, directions, _ = make(5)
    directions[[0, 3, 50]] = 0
    indices = np.sort(np.random.default_rng(0).permutation(D_SAE)[: int(share * D_SAE)])
    indices = np.union1d(indices, [3])
    template = toxic_set.features[0]
    features = [replace(template, index=int(i), side="toxic", weight=1.0) for i in indices]
    side = FeatureSpace.of(replace(toxic_set, features=features), directions).toxic
    cosines = directions @ directions[indices].T
    np.testing.assert_allclose(side.nearest.cosine[:, 0], cosines.max(axis=1), atol=1e-6)
    at = np.take_along_axis(cosines, side.nearest.position, axis=1)
    np.testing.assert_allclose(at, side.nearest.cosine, atol=1e-6)
