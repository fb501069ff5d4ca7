"""Weights of a set's features, fitted source by source."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saefilter.toxic.contrast import Contrast
from saefilter.toxic.weights import Penalty, balanced_weights, fit_signed_weights

Floats = NDArray[np.float64]


def weigh(
    contrast: Contrast,
    signs: Mapping[int, Floats],
    scale: Floats,
    penalties: Mapping[int, Penalty],
    rows: NDArray[np.bool_] | None = None,
) -> tuple[dict[int, Floats], Floats, float]:
    """Signed weights `[d_sae]` by source, those of all sources together, and the intercept.

    Fitted on all samples, or those where `rows`, `[n_samples]`, is true. `signs`, `[d_sae]` by source,
    are those of the features that may have a weight. The weights of several sources are added, each
    source scaled to the same spread of scores: one fit over all rows would let the differences between
    sources pass for toxicity.
    """
    chosen = np.ones(len(contrast.toxic), dtype=bool) if rows is None else rows
    by_source = {
        source: _source_weights(
            contrast, chosen & (contrast.source == source), own, scale, penalties[source]
        )
        for source, own in signs.items()
    }
    merged: Floats = np.sum(list(by_source.values()), axis=0)
    return by_source, *_calibrated(merged, scale, contrast, chosen)


def _source_weights(
    contrast: Contrast, rows: NDArray[np.bool_], signs: Floats, scale: Floats, penalty: Penalty
) -> Floats:
    """Signed weights from one source, such that its scores have unit spread, `[d_sae]`."""
    weights = np.zeros(len(signs))
    chosen = np.flatnonzero(signs)
    if len(chosen):
        x = scaled_columns(contrast, chosen, scale, rows)
        toxic = contrast.toxic[rows]
        sample_weights = balanced_weights(contrast.source[rows], toxic)
        fit = signs[chosen] * fit_signed_weights(x, toxic, signs[chosen], sample_weights, penalty)
        deviation = float(np.std(x @ fit))
        weights[chosen] = fit / deviation if deviation > 0 else fit
    return weights


def _calibrated(
    weights: Floats, scale: Floats, contrast: Contrast, rows: NDArray[np.bool_]
) -> tuple[Floats, float]:
    """The weights scaled, and an intercept, so that scores are balanced odds (Platt scaling)."""
    from sklearn.linear_model import LogisticRegression

    score = contrast.features.dot(weights * _gain(scale))[rows]
    if not score.any():
        return weights, 0.0
    model = LogisticRegression(C=1e6)
    toxic = contrast.toxic[rows]
    sample_weights = balanced_weights(contrast.source[rows], toxic) * len(score)
    model.fit(score[:, None], toxic, sample_weight=sample_weights)
    return weights * max(float(model.coef_[0, 0]), 1e-6), float(model.intercept_[0])


def spread(deviation: Floats, floor: float) -> Floats:
    """Standard deviation of each feature plus `floor` times the median one, `[d_sae]`; 0 for a feature
    that never varies."""
    active = deviation[deviation > 0]
    if not len(active):
        return deviation
    return np.asarray(np.where(deviation > 0, deviation + floor * np.median(active), 0))


def scaled_columns(
    contrast: Contrast,
    chosen: NDArray[np.int64],
    scale: Floats,
    rows: NDArray[np.bool_] | None = None,
) -> sparse.csr_matrix:
    """Chosen columns over their spread, `[n, len(chosen)]`; columns without spread become 0."""
    return contrast.features.columns(chosen, rows) @ sparse.diags(_gain(scale)[chosen])


def _gain(scale: Floats) -> Floats:
    return np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
