from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from saefilter.curate.assemble import Chosen, choose_features
from saefilter.curate.contrast import (
    Contrast,
    GroupedContrast,
    Subset,
    confirm,
    unlike_stronger,
)
from saefilter.curate.options import CurationOptions, Penalty
from saefilter.curate.weights import (
    balanced_weights,
    choose_penalties,
    fit_signed_weights,
    scaled_columns,
)
from saefilter.stats.auroc import auroc
from saefilter.stats.sparse_rows import SparseRows

D_SAE = 300


def planted(seed: int, n: int = 600, sources: int = 1) -> Contrast:
    """Noise, with features 0-4 more active in toxic samples and 5-9 in benign ones."""
    rng = np.random.default_rng(seed)
    toxic = rng.random(n) < 0.4
    dense = rng.exponential(size=(n, D_SAE)) * (rng.random((n, D_SAE)) < 0.3)
    dense[:, :5] += toxic[:, None] * rng.exponential(size=(n, 5)) * 0.8
    dense[:, 5:10] += ~toxic[:, None] * rng.exponential(size=(n, 5)) * 0.8
    return Contrast(
        SparseRows.of(sparse.csr_matrix(dense.astype(np.float32))),
        rng.normal(size=(n, 8)).astype(np.float32),
        toxic,
        rng.integers(0, sources, n),
    )


def chosen_from(contrast: Contrast) -> Chosen:
    options = CurationOptions(penalty=Penalty(0.003, 0.03))
    data = GroupedContrast(contrast, options.seed)
    return choose_features(data, options, choose_penalties(data, options))


@pytest.mark.parametrize("sources", [1, 3])
def test_planted_features_are_found_on_their_side(sources: int) -> None:
    chosen = chosen_from(planted(0, n=1500, sources=sources))
    sides = dict(zip(chosen.indices.tolist(), chosen.sides.tolist(), strict=True))
    assert set(range(10)) <= set(sides)
    assert all(sides[i] == (1 if i < 5 else -1) for i in range(10))
    assert len(sides) <= 14
    strongest = chosen.indices[np.argsort(-chosen.weights)[:10]]
    assert set(strongest.tolist()) == set(range(10))


@pytest.mark.parametrize("seed", range(6))
def test_shuffled_labels_confirm_nothing_at_five_percent(seed: int) -> None:
    contrast = planted(seed)
    shuffled = np.random.default_rng(seed).permutation(contrast.toxic)
    chosen = chosen_from(Contrast(contrast.features, contrast.residual, shuffled, contrast.source))
    assert len(chosen.indices) == 0


def test_differences_between_sources_do_not_pass_for_toxicity() -> None:
    """A feature that marks the source with more toxic rows says nothing within either source."""
    one, two = planted(1, n=900), planted(2, n=900)
    toxic = np.random.default_rng(0).random(900) < 0.9
    mark = sparse.csr_matrix((np.ones(900, "f4"), (np.arange(900), np.full(900, 20))), (900, D_SAE))
    marked = (one.features.tocsr() + 5 * mark).tocsr()
    both = Contrast(
        SparseRows.of(sparse.vstack([marked, two.features.tocsr()]).tocsr()),
        np.concatenate([one.residual, two.residual]),
        np.concatenate([toxic, two.toxic]),
        np.repeat([0, 1], 900),
    )
    assert 20 not in chosen_from(both).indices


def two_minds(seed: int) -> Contrast:
    """Feature 11 is toxic in both sources, by much in the first; 12 is toxic in one, benign in the other;
    so are 13 to 19, by various amounts."""
    rng = np.random.default_rng(seed)
    n = 1600
    source, toxic = np.arange(n) % 2, rng.random(n) < 0.5
    dense = rng.exponential(size=(n, D_SAE)) * (rng.random((n, D_SAE)) < 0.3)
    dense[:, :5] += toxic[:, None] * rng.exponential(size=(n, 5)) * 0.8
    dense[:, 11] += toxic * rng.exponential(size=n) * np.where(source == 0, 1.0, 0.6)
    for feature in range(12, 20):
        mine = toxic == (source == 0)
        dense[:, feature] += mine * rng.exponential(size=n) * (0.5 + 0.05 * (feature - 12) * source)
    # the first source has few other features to go by, so that its weights for these are larger
    dense[:, :5] *= np.where(source == 0, 0.02, 1.0)[:, None]
    return Contrast(
        SparseRows.of(sparse.csr_matrix(dense.astype(np.float32))),
        rng.normal(size=(n, 8)).astype(np.float32), toxic, source,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_a_feature_counts_on_the_side_of_its_own_effect_or_not_at_all(seed: int) -> None:
    """Merging sources put features on the side of the larger weight, with the effect of the other."""
    contrast = two_minds(seed)
    chosen = chosen_from(contrast)
    assert {0, 1, 2, 3, 4, 11} <= set(chosen.indices.tolist())
    assert (np.sign(chosen.effect_size) == chosen.sides).all()
    assert len({len(values) for name, values in vars(chosen).items()
                if name not in ("intercept", "scale", "signs")}) == 1  # fmt: skip
    # what is left are balanced odds still
    gain = np.divide(1, chosen.scale, out=np.zeros_like(chosen.scale), where=chosen.scale > 0)
    weights = np.zeros(D_SAE)
    weights[chosen.indices] = chosen.sides * chosen.weights
    odds = contrast.features.dot(weights * gain) + chosen.intercept
    share = balanced_weights(contrast.source, contrast.toxic) @ (1 / (1 + np.exp(-odds)))
    assert share == pytest.approx(0.5, abs=0.01)


def test_weights_keep_their_signs_and_solve_the_convex_problem() -> None:
    contrast = planted(3)
    scaled = scaled_columns(contrast, np.arange(40), np.full(D_SAE, 0.5))
    signs = np.where(np.arange(40) < 5, 1.0, -1.0)
    sample_weights = balanced_weights(contrast.source, contrast.toxic)
    assert sample_weights.sum() == pytest.approx(1)
    assert sample_weights[contrast.toxic].sum() == pytest.approx(0.5)
    weights = fit_signed_weights(
        scaled, contrast.toxic, signs, sample_weights, Penalty(0.005, 0.01)
    )
    assert (weights >= 0).all()
    assert (weights[:10] > 0).all()
    fewer = fit_signed_weights(scaled, contrast.toxic, signs, sample_weights, Penalty(0.05, 0.01))
    assert (fewer > 0).sum() < (weights > 0).sum()
    none = fit_signed_weights(scaled, contrast.toxic, signs, sample_weights, Penalty(10.0, 0.01))
    assert not none.any()


def test_many_copies_of_one_weak_feature_want_a_sparse_fit_and_many_weak_ones_a_dense_fit() -> None:
    rng = np.random.default_rng(0)
    n = 800
    toxic = rng.random(n) < 0.5
    copied = rng.exponential(size=(n, 1)) + 0.7 * toxic[:, None]
    strong = rng.exponential(size=(n, 4)) + 0.7 * toxic[:, None]
    weak = rng.exponential(size=(n, 200)) * (1 + 0.2 * toxic[:, None])

    def penalty(*columns: np.ndarray) -> Penalty:
        features = SparseRows.of(sparse.csr_matrix(np.hstack(columns).astype("f4")))
        contrast = Contrast(features, np.zeros((n, 8), "f4"), toxic, np.zeros(n, dtype=np.int64))
        options = CurationOptions(screen_p=0.1, fdr=0.9)
        return choose_penalties(GroupedContrast(contrast, 0), options)[0]

    sparse_one = penalty(np.repeat(copied, 200, axis=1), strong)
    assert penalty(weak).l2 > sparse_one.l2
    assert sparse_one.l1 > 0


def test_folds_keep_groups_together_and_sides_even() -> None:
    rng = np.random.default_rng(0)
    contrast = planted(0, n=800)
    # groups of 1 to 40 rows, each of one side
    group = np.repeat(np.arange(200), rng.geometric(0.15, 200).clip(1, 40))[:800]
    group = np.append(group, np.arange(1000, 1000 + 800 - len(group)))
    contrast = replace(contrast, group=2 * group + contrast.toxic)
    fold = contrast.folds(4, 3)
    for side in (True, False):
        counts = np.bincount(fold[contrast.toxic == side], minlength=4)
        assert counts.min() > 0.9 * counts.max()
    for label in np.unique(contrast.groups):
        assert len(np.unique(fold[contrast.groups == label])) == 1
    assert (contrast.folds(4, 3) == fold).all()
    assert (contrast.folds(4, 4) != fold).any()


def test_dense_and_redundant_features_are_left_out() -> None:
    contrast = planted(0, n=1500)
    density = np.zeros(D_SAE)
    density[0] = 0.9
    directions = np.random.default_rng(0).normal(size=(D_SAE, 16)).astype("f4")
    directions[2] = directions[1] + 0.01  # two names of one feature
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    options = CurationOptions(penalty=Penalty(0.003, 0.03))
    data = GroupedContrast(replace(contrast, density=density), options.seed)
    chosen = choose_features(data, options, choose_penalties(data, options), directions)
    assert 0 not in chosen.indices
    assert len({1, 2} & set(chosen.indices.tolist())) == 1
    assert {3, 4, 5, 6, 7, 8, 9} <= set(chosen.indices.tolist())
    capped = replace(options, max_candidates=2)
    few = choose_features(data, capped, choose_penalties(data, capped), directions)
    assert (few.sides > 0).sum() <= 2
    assert (few.sides < 0).sum() <= 2


@given(st.integers(0, 10_000), st.floats(-0.5, 0.99))
@settings(deadline=None, max_examples=30)
def test_no_two_kept_directions_are_too_close(seed: int, cosine: float) -> None:
    directions = np.random.default_rng(seed).normal(size=(40, 3)).astype("f4")
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    keep = unlike_stronger(directions, cosine)
    assert keep[0]
    cosines = directions @ directions.T
    kept = cosines[np.ix_(keep, keep)]
    assert (kept[np.triu_indices(len(kept), 1)] <= cosine + 1e-6).all()
    for dropped in np.flatnonzero(~keep):  # each for a stronger one that stayed
        assert (cosines[dropped, :dropped][keep[:dropped]] > cosine - 1e-6).any()


def test_a_score_tells_features_that_a_label_does_not() -> None:
    """Pearson with the score, where the data have one: a feature that grades the toxic rows."""
    rng = np.random.default_rng(0)
    n = 400
    score = np.concatenate([np.zeros(n // 2), rng.uniform(0.6, 1, n // 2)])
    features = rng.exponential(size=(n, 5)).astype("f4")
    features[:, 0] += 8 * np.maximum(0, score - 0.6)
    contrast = Contrast(
        SparseRows.of(sparse.csr_matrix(features)), np.zeros((n, 2), "f4"), score > 0.5,
        np.zeros(n, dtype=np.int64), score,
    )  # fmt: skip
    graded = GroupedContrast(contrast, 0).statistics(Subset())
    for feature in range(5):
        expected = np.corrcoef(features[:, feature], score)[0, 1]
        assert graded.correlation[feature] == pytest.approx(expected, abs=1e-6)
    plain = GroupedContrast(replace(contrast, score=None), 0).statistics(Subset())
    assert graded.correlation[0] > plain.correlation[0] + 0.02


def test_a_features_auroc_is_of_the_half_that_confirmed_it() -> None:
    contrast = planted(3, n=1500)
    data = GroupedContrast(contrast, 0)
    options = CurationOptions(penalty=Penalty(0.003, 0.03))
    chosen = choose_features(data, options, choose_penalties(data, options))
    confirmed = confirm(data, Subset(0), options)
    halves = {first: data.rows(Subset(0, first_half=first)) for first in (True, False)}
    p_values = {first: data.statistics(Subset(0, first_half=first)).p_value for first in halves}
    for index, value in zip(chosen.indices.tolist(), chosen.auroc.tolist(), strict=True):
        rows = halves[bool(confirmed.on_first_half[index])]
        column = contrast.features.tocsr()[rows][:, index].toarray().ravel()
        assert value == pytest.approx(auroc(contrast.toxic[rows], column))
        # where both halves confirm it, the one that did so more surely
        assert confirmed.p_value[index] == p_values[bool(confirmed.on_first_half[index])][index]
