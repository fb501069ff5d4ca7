"""What neighbours are worth when weights are fitted *with* them: every feature has a weight, and features
whose decoder directions are alike have weights that are alike.

The weights have a normal prior whose covariance is a power of the decoder directions' cosine, which is
ridge regression with that kernel (a Gaussian process over features; Rasmussen and Williams 2006, 2.1). Odd
powers keep it positive definite. The power runs from a probe to a direction:

    power   covariance of two features' weights     the score is
    None    1 for itself, 0 for others              a probe: no feature tells of another
    3       cos^3                                   shared among near neighbours
    1       cos                                     linear in sum_i a_i d_i: one direction

Activations enter by their square root, scaled: a feature that fires at all tells more than how much.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.model_selection import GroupKFold

from saefilter.curate.contrast import Contrast
from saefilter.curate.weights import spread
from saefilter.stats.auroc import auroc

Floats = NDArray[np.float64]
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)
"""In units of the kernel's mean diagonal."""
FOLDS = 4


def scored(
    taught: Contrast,
    tested: Contrast,
    directions: NDArray[np.float32],
    power: int | None,
    *,
    centred: bool = False,
) -> tuple[Floats, float]:
    """Score of each tested row `[n]` and the penalty, chosen on groups of the taught rows left out.

    `directions`: unit decoder directions `[d_sae, d_model]`. `centred`: what a group's toxic and benign rows
    have in common, its topic, is taken off the rows that are taught.
    """
    prepare = _scaling(taught.features.tocsr())
    rows, others = (prepare(one.features.tocsr()) for one in (taught, tested))
    if centred:
        _centre(rows, taught)
    if power is None:
        left = rows
    else:
        cosine = np.clip(directions @ directions.T, -1, 1).astype(np.float64)
        left = rows @ cosine**power
    kernel, across = left @ rows.T, left @ others.T
    folds = list(GroupKFold(FOLDS).split(kernel, taught.toxic, taught.groups))
    found = []
    for penalty in PENALTIES:
        held_out = np.zeros(len(kernel))
        for train, test in folds:
            weight, shift = _fit(kernel[np.ix_(train, train)], taught.toxic[train], penalty)
            held_out[test] = weight @ kernel[np.ix_(train, test)] + shift
        found.append(auroc(taught.toxic, held_out))
    best = PENALTIES[int(np.argmax(found))]
    weight, shift = _fit(kernel, taught.toxic, best)
    return weight @ across + shift, best


def _scaling(features: sparse.csr_matrix):  # type: ignore[no-untyped-def]
    """Square roots over their spread, no larger than any seen, dense `[n, d_sae]`."""
    roots = features.astype(np.float64).sqrt()
    mean = np.asarray(roots.mean(axis=0)).ravel()
    square = np.asarray(roots.multiply(roots).mean(axis=0)).ravel()
    scale = spread(np.sqrt(np.maximum(square - mean**2, 0)))
    largest = roots.max(axis=0).toarray().ravel()
    gain = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)

    def prepared(rows: sparse.csr_matrix) -> Floats:
        dense: Floats = np.minimum(rows.astype(np.float64).sqrt().toarray(), largest) * gain
        return dense

    return prepared


def _centre(rows: Floats, taught: Contrast) -> None:
    """Take the midpoint of its sides off each group that has both, in place."""
    for group in np.unique(taught.groups):
        of = taught.groups == group
        sides = [rows[of & (taught.toxic == side)] for side in (True, False)]
        if all(map(len, sides)):
            rows[of] -= np.mean([side.mean(axis=0) for side in sides], axis=0)


def _fit(kernel: Floats, toxic: NDArray[np.bool_], penalty: float) -> tuple[Floats, float]:
    """Ridge regression on +1 and -1, both sides weighing the same, with a free intercept.

    Of `sum_i w_i (t_i - (K a)_i - b)^2 + l a'Ka` the minimum has `(K + l/W) a + b = t`, `sum a = 0`.
    """
    n = len(toxic)
    weight = np.where(toxic, 0.5 / toxic.sum(), 0.5 / (~toxic).sum()) * n
    size = np.trace(kernel) / n - kernel.mean()
    system = np.ones((n + 1, n + 1))
    system[:n, :n] = kernel + np.diag(penalty * size / weight)
    system[n, n] = 0
    solved = np.linalg.solve(system, np.append(np.where(toxic, 1.0, -1.0), 0))
    return solved[:n], float(solved[n])
