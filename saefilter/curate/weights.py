"""Weights for a toxic set: an elastic-net logistic fit in which every feature keeps its own sign.

A feature that is by itself more active in toxic samples may only add, one that is more active in
benign samples may only subtract. An unconstrained probe scores a little higher on its own data, but
uses features against their meaning, which neither explains nor carries over.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse

from saefilter.settings import Penalty

Floats = NDArray[np.float64]
MAX_ITERATIONS = 500
NEGLIGIBLE = 1e-4
"""Weights below this are set to 0."""


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
