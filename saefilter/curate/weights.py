"""Weights for a toxic set: an elastic-net logistic fit in which every feature keeps its own sign, fitted
source by source, the penalty chosen by cross-validation.

A feature that is by itself more active in toxic samples may only add, one that is more active in
benign samples may only subtract. An unconstrained probe scores a little higher on its own data, but
uses features against their meaning, which neither explains nor carries over.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse

from saefilter.curate.contrast import FOLDS, Contrast, GroupedContrast, Subset, confirmed_signs
from saefilter.curate.options import CurationOptions, Penalty
from saefilter.stats.auroc import auroc

Floats = NDArray[np.float64]
MAX_ITERATIONS = 500
NEGLIGIBLE = 1e-4
"""Weights below this are set to 0."""
SCALE_FLOOR = 0.25
"""Share of the median spread added to every feature's own, so that rare features do not explode."""
PENALTIES = (
    Penalty(0.01, 0.0),
    Penalty(0.005, 0.01),
    Penalty(0.003, 0.03),
    Penalty(0.001, 0.1),
    Penalty(0.0, 0.3),
    Penalty(0.0, 1.0),
)
"""From few features to all of them, in the order of preference when they rank alike."""


def fit_signed_weights(
    scaled: sparse.csr_matrix,
    toxic: NDArray[np.bool_],
    signs: NDArray[np.float64],
    sample_weights: Floats,
    penalty: Penalty,
) -> Floats:
    """Minimise `sum_n u_n log(1 + exp(-y_n (b + sum_i sign_i w_i x_ni)))
    + l1 sum_i w_i + l2 / 2 sum_i w_i^2` over w >= 0 and b.

    `scaled`, `[n_samples, n_features]`; `signs`, +1 or -1, `[n_features]`; `sample_weights` `u`,
    `[n_samples]`, summing to 1. The L1 penalty is linear for w >= 0, so that the problem is smooth
    and convex with bounds; L-BFGS-B solves it.
    """
    signed = scaled.multiply(signs[None, :]).tocsr()
    target = np.where(toxic, 1.0, -1.0)

    def loss_and_gradient(parameters: Floats) -> tuple[float, Floats]:
        margin = target * (signed @ parameters[:-1] + parameters[-1])
        weights = parameters[:-1]
        loss = sample_weights @ np.logaddexp(0, -margin)
        loss += penalty.l1 * weights.sum() + penalty.l2 / 2 * (weights @ weights)
        slope = -target * sample_weights / (1 + np.exp(np.minimum(margin, 500)))
        gradient = signed.T @ slope + penalty.l1 + penalty.l2 * weights
        return float(loss), np.append(gradient, slope.sum())

    n_features = scaled.shape[1]
    result = optimize.minimize(
        loss_and_gradient,
        np.zeros(n_features + 1),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * n_features + [(None, None)],
        options={"maxiter": MAX_ITERATIONS},
    )
    weights: Floats = np.where(result.x[:-1] > NEGLIGIBLE, result.x[:-1], 0)
    return weights


def balanced_weights(source: NDArray[np.int64], toxic: NDArray[np.bool_]) -> Floats:
    """Sample weights that give every source, and within it both labels, the same say; sum 1."""
    weights = np.zeros(len(toxic))
    for label in np.unique(source):
        for side in (True, False):
            members = (source == label) & (toxic == side)
            if members.any():
                weights[members] = 1 / members.sum()
    weights /= weights.sum()
    return weights


def choose_penalties(
    data: GroupedContrast, options: CurationOptions, directions: NDArray[np.float32] | None = None
) -> dict[int, Penalty]:
    """For each source, the penalty whose weights rank left-out rows best (AUROC, 4 folds).

    Few strong features want a sparse fit, many weak ones a dense fit; which it is, the data say.
    """
    if options.penalty is not None:
        return dict.fromkeys(data.sources, options.penalty)
    return {source: _best_penalty(data, source, options, directions) for source in data.sources}


def _best_penalty(
    data: GroupedContrast,
    source: int,
    options: CurationOptions,
    directions: NDArray[np.float32] | None,
) -> Penalty:
    total = np.zeros(len(PENALTIES))
    toxic = data.contrast.toxic
    for left_out in range(FOLDS):
        fitting = Subset(source, without_fold=left_out)
        signs = confirmed_signs(data, fitting, options, directions)
        chosen = np.flatnonzero(signs)
        testing = data.rows(Subset(source, fold=left_out))
        tested = toxic[testing]
        # nothing to rank by, or one side alone in the fold: no penalty ranks better than chance
        if not len(chosen) or tested.all() or not tested.any():
            total += 0.5
            continue
        scale = spread(data.deviation(fitting))
        rows = data.rows(fitting)
        x = scaled_columns(data.contrast, chosen, scale, rows)
        test = scaled_columns(data.contrast, chosen, scale, testing)
        sample_weights = balanced_weights(data.contrast.source[rows], toxic[rows])
        for number, penalty in enumerate(PENALTIES):
            fit = fit_signed_weights(x, toxic[rows], signs[chosen], sample_weights, penalty)
            total[number] += auroc(tested, test @ (signs[chosen] * fit))
    return PENALTIES[int(total.argmax())]


def weigh(
    contrast: Contrast,
    signs: Mapping[int, Floats],
    scale: Floats,
    penalties: Mapping[int, Penalty],
    rows: NDArray[np.bool_] | None = None,
) -> tuple[dict[int, Floats], Floats, float]:
    """Signed weights `[d_sae]` by source, those of all sources together, and the intercept.

    Fitted on all samples, or those where `rows`, `[n_samples]`, is true. `signs`, `[d_sae]` by source, are those of the features that may have a weight. The weights of
    several sources are added, each source scaled to the same spread of scores: one fit over all rows
    would let the differences between sources pass for toxicity.
    """
    chosen = np.ones(len(contrast.toxic), dtype=bool) if rows is None else rows
    by_source = {
        source: _source_weights(
            contrast, chosen & (contrast.source == source), own, scale, penalties[source]
        )
        for source, own in signs.items()
    }
    merged: Floats = np.sum(list(by_source.values()), axis=0)
    return by_source, *balanced_odds(merged, scale, contrast, chosen)


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


def balanced_odds(
    weights: Floats, scale: Floats, contrast: Contrast, rows: NDArray[np.bool_] | None = None
) -> tuple[Floats, float]:
    """The signed weights, `[d_sae]`, scaled, and an intercept, so that scores of all samples, or those
    where `rows` is true, are balanced odds (Platt scaling)."""
    from sklearn.linear_model import LogisticRegression

    if rows is None:
        rows = np.ones(len(contrast.toxic), dtype=bool)
    score = contrast.features.dot(weights * _gain(scale))[rows]
    if not score.any():
        return weights, 0.0
    model = LogisticRegression(C=1e6)
    toxic = contrast.toxic[rows]
    sample_weights = balanced_weights(contrast.source[rows], toxic) * len(score)
    model.fit(score[:, None], toxic, sample_weight=sample_weights)
    return weights * max(float(model.coef_[0, 0]), 1e-6), float(model.intercept_[0])


def spread(deviation: Floats) -> Floats:
    """Standard deviation of each feature plus a share of the median one, `[d_sae]`."""
    active = deviation[deviation > 0]
    if not len(active):
        return deviation
    return np.asarray(np.where(deviation > 0, deviation + SCALE_FLOOR * np.median(active), 0))


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
