"""Choose a set's features from contrast data: screened on one half, confirmed on the other.

Both halves take both parts, each at half the false-discovery rate, so that few rows are wasted and
the rate holds for the union.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saefilter.toxic.contrast import Contrast
from saefilter.toxic.statistics import (
    FeatureStatistics,
    auroc,
    discoveries,
    feature_statistics,
    mean_and_variance,
)
from saefilter.toxic.weights import Penalty, balanced_weights, fit_signed_weights

Floats = NDArray[np.float64]
SCALE_FLOOR = 0.25
"""Part of the median spread added to every feature's own, so that rare features do not explode."""
FOLDS = 4
PENALTIES = (
    Penalty(0.01, 0.0),
    Penalty(0.005, 0.01),
    Penalty(0.003, 0.03),
    Penalty(0.001, 0.1),
    Penalty(0.0, 0.3),
    Penalty(0.0, 1.0),
)
"""From few features to all of them, in the order of preference when they rank alike."""


@dataclass(frozen=True)
class CurationOptions:
    """Choices of a curation, kept in the set's provenance."""

    fdr: float = 0.05
    """Share of false features accepted among the confirmed ones."""
    screen_p: float = 0.01
    """A feature is a candidate when its p-value on the screening half is below this."""
    min_frequency: float = 0.005
    """Features active in a smaller share of samples are not considered."""
    top: int = 100
    """Confirmed features listed per side, besides those with a weight."""
    penalty: Penalty | None = None
    """Of the weights; None chooses it for each source by cross-validation."""
    seed: int = 0
    """Of the split in halves."""


@dataclass(frozen=True)
class Chosen:
    """The features of a set, `[n]` each but for `scale`."""

    indices: NDArray[np.int64]
    signs: Floats
    """+1 toxic, -1 benign."""
    weights: Floats
    """0 or more."""
    effect_size: Floats
    auroc: Floats
    p_value: Floats
    """On the half that confirmed it, the smaller where both did."""
    source: NDArray[np.int64]
    """The source it is from, the strongest where several confirm it."""
    intercept: float
    scale: Floats
    """Spread of every feature, `[d_sae]`."""


@dataclass(frozen=True)
class _FromSource:
    """What one source says, `[d_sae]` each."""

    label: int
    weights: Floats
    """Signed."""
    listed: NDArray[np.bool_]
    """Confirmed, and weighted or among the strongest."""
    statistics: FeatureStatistics
    p_value: Floats


def choose_penalties(contrast: Contrast, options: CurationOptions) -> dict[int, Penalty]:
    """For each source, the penalty whose weights rank left-out rows best (AUROC, 4 folds).

    Few strong features want a sparse fit, many weak ones a dense fit; which it is, the data say.
    """
    labels = [int(label) for label in np.unique(contrast.source)]
    if options.penalty is not None:
        return dict.fromkeys(labels, options.penalty)
    return {
        label: _best_penalty(contrast.part(contrast.source == label), options) for label in labels
    }


def _best_penalty(contrast: Contrast, options: CurationOptions) -> Penalty:
    fold = contrast.folds(FOLDS)
    total = np.zeros(len(PENALTIES))
    for left_out in range(FOLDS):
        fitting, testing = contrast.part(fold != left_out), contrast.part(fold == left_out)
        scale = feature_spread(fitting.features)
        scaled = scale_features(fitting.features, scale)
        signs = _signs(fitting, _confirmed(fitting, options))
        test = scale_features(testing.features, scale)
        for number, penalty in enumerate(PENALTIES):
            weights = _source_weights(fitting, scaled, signs, penalty)
            total[number] += auroc(testing.toxic, test @ weights)
    return PENALTIES[int(total.argmax())]


def choose_features(
    contrast: Contrast, options: CurationOptions, penalties: Mapping[int, Penalty]
) -> Chosen:
    """Screen, confirm and weigh, each source by itself; `indices` is empty when nothing is confirmed.

    The weights of several sources are added, each source scaled to the same spread of scores: one
    fit over all rows would let the differences between sources pass for toxicity.
    """
    scale = feature_spread(contrast.features)
    scaled = scale_features(contrast.features, scale)
    found = []
    for label in np.unique(contrast.source):
        rows = contrast.source == label
        part = contrast.part(rows)
        found.append(_from_source(part, scaled[rows], int(label), options, penalties[int(label)]))
    merged: Floats = np.sum([one.weights for one in found], axis=0)
    total, intercept = _calibrated(merged, scaled, contrast)
    listed = np.flatnonzero(np.any([one.listed for one in found], axis=0))
    strength = np.array(
        [np.where(one.listed, np.abs(one.statistics.correlation), -1) for one in found]
    )
    strongest = strength.argmax(axis=0)[listed]

    def of_strongest(values: list[Floats]) -> Floats:
        picked: Floats = np.array(values)[strongest, listed]
        return picked

    correlation = of_strongest([one.statistics.correlation for one in found])
    weights = total[listed]
    return Chosen(
        indices=listed,
        signs=np.where(weights != 0, np.sign(weights), np.sign(correlation)),
        weights=np.abs(weights),
        effect_size=of_strongest([one.statistics.effect_size for one in found]),
        auroc=of_strongest([one.statistics.auroc for one in found]),
        p_value=of_strongest([one.p_value for one in found]),
        source=np.array([one.label for one in found])[strongest],
        intercept=intercept,
        scale=scale,
    )


def _from_source(
    contrast: Contrast,
    scaled: sparse.csr_matrix,
    label: int,
    options: CurationOptions,
    penalty: Penalty,
) -> _FromSource:
    p_value = _confirmed(contrast, options)
    confirmed = np.flatnonzero(p_value < 1)
    statistics = feature_statistics(contrast.features, contrast.toxic)
    correlation = statistics.correlation[confirmed]
    signs = np.zeros(len(p_value))
    signs[confirmed] = np.sign(correlation)
    weights = _source_weights(contrast, scaled, signs, penalty)
    listed = weights != 0
    listed[confirmed[_strongest(correlation, options.top)]] = True
    return _FromSource(label, weights, listed, statistics, p_value)


def _signs(contrast: Contrast, p_value: Floats) -> Floats:
    """Side of every confirmed feature, +1 or -1, and 0 for the others, `[d_sae]`."""
    correlation = feature_statistics(contrast.features, contrast.toxic).correlation
    return np.where(p_value < 1, np.sign(correlation), 0.0)


def _confirmed(contrast: Contrast, options: CurationOptions) -> Floats:
    """p-values of the features that pass on both halves, on the confirming one; 1 for the others."""
    best = np.ones(contrast.features.shape[1])
    for screening, confirming in _both_ways(contrast.halves(options.seed)):
        screen, confirm = (
            feature_statistics(contrast.features[rows], contrast.toxic[rows])
            for rows in (screening, confirming)
        )
        candidates = (screen.p_value < options.screen_p) & (
            screen.frequency >= options.min_frequency
        )
        same_sign = np.sign(screen.correlation) == np.sign(confirm.correlation)
        tested = np.flatnonzero(candidates)
        # one-sided: the sign was predicted by the screening half
        p = np.where(same_sign, confirm.p_value / 2, 1 - confirm.p_value / 2)[tested]
        passed = tested[discoveries(p, options.fdr / 2)]
        best[passed] = np.minimum(best[passed], confirm.p_value[passed])
    return best


def weigh(
    contrast: Contrast, signs: Floats, scale: Floats, penalties: Mapping[int, Penalty]
) -> tuple[Floats, float]:
    """Signed weights `[d_sae]` and intercept of features whose `signs`, `[d_sae]`, are known."""
    scaled = scale_features(contrast.features, scale)
    total = np.zeros(len(scale))
    for label in np.unique(contrast.source):
        rows = contrast.source == label
        penalty = penalties[int(label)]
        total += _source_weights(contrast.part(rows), scaled[rows], signs, penalty)
    return _calibrated(total, scaled, contrast)


def _source_weights(
    contrast: Contrast, scaled: sparse.csr_matrix, signs: Floats, penalty: Penalty
) -> Floats:
    """Signed weights from one source, such that its scores have unit spread, `[d_sae]`."""
    weights = np.zeros(len(signs))
    chosen = np.flatnonzero(signs)
    if len(chosen):
        sample_weights = balanced_weights(contrast.source, contrast.toxic)
        fit = fit_signed_weights(
            scaled[:, chosen],
            contrast.toxic,
            signs[chosen],
            sample_weights,
            penalty,
        )
        weights[chosen] = signs[chosen] * fit
        spread = float(np.std(scaled @ weights))
        weights /= spread if spread > 0 else 1.0
    return weights


def _calibrated(
    weights: Floats, scaled: sparse.csr_matrix, contrast: Contrast
) -> tuple[Floats, float]:
    """The weights scaled, and an intercept, so that scores are balanced odds (Platt scaling)."""
    from sklearn.linear_model import LogisticRegression

    score = np.asarray(scaled @ weights)
    if not score.any():
        return weights, 0.0
    model = LogisticRegression(C=1e6)
    sample_weights = balanced_weights(contrast.source, contrast.toxic) * len(score)
    model.fit(score[:, None], contrast.toxic, sample_weight=sample_weights)
    return weights * max(float(model.coef_[0, 0]), 1e-6), float(model.intercept_[0])


def feature_spread(features: sparse.csr_matrix) -> Floats:
    """Standard deviation of each column plus a part of the median one, `[d_sae]`."""
    deviation = np.sqrt(mean_and_variance(features)[1])
    active = deviation[deviation > 0]
    if not len(active):
        return deviation
    return np.asarray(np.where(deviation > 0, deviation + SCALE_FLOOR * np.median(active), 0))


def mean_difference(contrast: Contrast) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Unit vector from benign to toxic mean residuals, sources averaged, and the mean of both."""
    differences, middles = [], []
    for label in np.unique(contrast.source):
        rows = contrast.source == label
        toxic = contrast.residual[rows & contrast.toxic].mean(axis=0)
        benign = contrast.residual[rows & ~contrast.toxic].mean(axis=0)
        differences.append(toxic - benign)
        middles.append((toxic + benign) / 2)
    direction = np.mean(differences, axis=0)
    return direction / max(float(np.linalg.norm(direction)), 1e-12), np.mean(middles, axis=0)


def _both_ways(
    halves: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    return [halves, (halves[1], halves[0])]


def scale_features(features: sparse.csr_matrix, scale: Floats) -> sparse.csr_matrix:
    """Each column over its spread, `[n, d_sae]`; columns without spread become 0."""
    gain = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    return features.multiply(gain[None, :]).tocsr()


def _strongest(correlation: Floats, top: int) -> NDArray[np.bool_]:
    """The `top` of each side by correlation."""
    keep = np.zeros(len(correlation), dtype=bool)
    for sign in (1, -1):
        side = np.flatnonzero(np.sign(correlation) == sign)
        keep[side[np.argsort(-np.abs(correlation[side]), kind="stable")[:top]]] = True
    return keep
