"""Choose a set's features from contrast data: screened on one half, confirmed on the other.

Both halves take both parts, each at half the false-discovery rate, so that few rows are wasted and
the rate holds for the union.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from saefilter.toxic.statistics import (
    FeatureStatistics,
    discoveries,
    feature_statistics,
    mean_and_variance,
)
from saefilter.toxic.weights import balanced_weights, fit_signed_weights

Floats = NDArray[np.float64]
SCALE_FLOOR = 0.25
"""Part of the median spread added to every feature's own, so that rare features do not explode."""


@dataclass(frozen=True)
class Contrast:
    """Encoded contrast data, possibly of several sources."""

    features: sparse.csr_matrix
    """Pooled activations, `[n_samples, d_sae]`."""
    residual: NDArray[np.float32]
    """Mean residuals, `[n_samples, d_model]`."""
    toxic: NDArray[np.bool_]
    """`[n_samples]`"""
    source: NDArray[np.int64]
    """Which source each sample is from, `[n_samples]`."""

    def part(self, chosen: NDArray[np.bool_]) -> Contrast:
        """Some of the samples."""
        return Contrast(
            self.features[chosen], self.residual[chosen], self.toxic[chosen], self.source[chosen]
        )

    def halves(self, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """A random half of every source and label, and the rest."""
        rng = np.random.default_rng(seed)
        first = np.zeros(len(self.toxic), dtype=bool)
        for label in np.unique(self.source):
            for side in (True, False):
                members = np.flatnonzero((self.source == label) & (self.toxic == side))
                first[rng.permutation(members)[: len(members) // 2]] = True
        return first, ~first


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
    penalty: float = 0.01
    """L1 penalty of the weights; more gives fewer features."""
    seed: int = 0
    """Of the split in halves."""


@dataclass(frozen=True)
class Chosen:
    """What came out."""

    indices: NDArray[np.int64]
    """Confirmed features, `[n]`."""
    signs: Floats
    """+1 toxic, -1 benign, `[n]`."""
    weights: Floats
    """`[n]`"""
    intercept: float
    scale: Floats
    """Spread of every feature, `[d_sae]`."""
    statistics: FeatureStatistics
    """Of every feature on all samples, sources averaged, `[d_sae]`."""
    p_value: Floats
    """On the half that confirmed it, the smaller where both did, `[d_sae]`."""


def choose_features(contrast: Contrast, options: CurationOptions) -> Chosen:
    """Screen, confirm and weigh. `indices` is empty when nothing is confirmed."""
    confirmed_p = np.ones(contrast.features.shape[1])
    for screening, confirming in _both_ways(contrast.halves(options.seed)):
        screen = source_statistics(contrast.part(screening))
        candidates = (screen.p_value < options.screen_p) & (
            screen.frequency >= options.min_frequency
        )
        confirm = source_statistics(contrast.part(confirming))
        same_sign = np.sign(screen.correlation) == np.sign(confirm.correlation)
        tested = np.flatnonzero(candidates)
        # one-sided: the sign was predicted by the screening half
        p = np.where(same_sign, confirm.p_value / 2, 1 - confirm.p_value / 2)[tested]
        passed = tested[discoveries(p, options.fdr / 2)]
        confirmed_p[passed] = np.minimum(confirmed_p[passed], confirm.p_value[passed])
    statistics = source_statistics(contrast)
    confirmed = np.flatnonzero(confirmed_p < 1)
    signs = np.sign(statistics.correlation[confirmed])
    scale = feature_spread(contrast.features)
    fit = fit_signed_weights(
        _scaled(contrast.features, scale)[:, confirmed],
        contrast.toxic,
        signs,
        balanced_weights(contrast.source, contrast.toxic),
        options.penalty,
    )
    keep = (fit.weights > 0) | _strongest(statistics.correlation[confirmed], signs, options.top)
    return Chosen(
        confirmed[keep],
        signs[keep],
        fit.weights[keep],
        fit.intercept,
        scale,
        statistics,
        confirmed_p,
    )


def source_statistics(contrast: Contrast) -> FeatureStatistics:
    """Statistics per source, averaged; p-values combined by Stouffer's method.

    Pooling the rows of several sources would let their differences pass for toxicity.
    """
    found = [
        feature_statistics(contrast.features[rows], contrast.toxic[rows])
        for rows in (contrast.source == label for label in np.unique(contrast.source))
    ]
    if len(found) == 1:
        return found[0]

    def mean(name: str) -> Floats:
        average: Floats = np.mean([getattr(one, name) for one in found], axis=0)
        return average

    z = [np.sign(one.correlation) * stats.norm.isf(one.p_value.clip(1e-300) / 2) for one in found]
    combined = np.sum(z, axis=0) / np.sqrt(len(found))
    return FeatureStatistics(
        mean("frequency"),
        mean("effect_size"),
        mean("correlation"),
        2 * stats.norm.sf(np.abs(combined)),
        mean("auroc"),
    )


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


def _scaled(features: sparse.csr_matrix, scale: Floats) -> sparse.csr_matrix:
    gain = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    return features.multiply(gain[None, :]).tocsr()


def _strongest(correlation: Floats, signs: Floats, top: int) -> NDArray[np.bool_]:
    """The `top` of each side by correlation."""
    keep = np.zeros(len(signs), dtype=bool)
    for sign in (1, -1):
        side = np.flatnonzero(signs == sign)
        keep[side[np.argsort(-np.abs(correlation[side]), kind="stable")[:top]]] = True
    return keep
