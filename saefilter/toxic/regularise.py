"""How far a set's weights may follow its contrast data, chosen by what ranks rows left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saefilter.toxic.fit import scaled_columns, spread
from saefilter.toxic.groups import FOLDS, GroupedContrast, Part
from saefilter.toxic.select import CurationOptions, confirmed_signs
from saefilter.toxic.statistics import auroc
from saefilter.toxic.topics import topic_folds
from saefilter.toxic.weights import Penalty, balanced_weights, fit_signed_weights

Floats = NDArray[np.float64]
SCALE_FLOORS = (0.25, 1.0, 3.0, 10.0)
"""Parts of the median spread that may be added to every feature's own: from each feature on its own
scale to, nearly, all on one. More keeps features that hardly fire in the contrast data from deciding
about rows on other topics; less lets features that are rare but telling count."""
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
class Regularisation:
    """What `choose_regularisation` chose."""

    floor: float
    """The part of the median spread, for the whole set."""
    penalties: dict[int, Penalty]
    """By source."""


def choose_regularisation(
    data: GroupedContrast, options: CurationOptions, directions: NDArray[np.float32] | None = None
) -> Regularisation:
    """The floor whose weights rank rows of left-out topics best, and with it for each source the penalty
    whose weights rank left-out rows best, of whatever topic.

    The floor says which features may decide where the contrast data have little to say; topics left out
    show it. How many features their evidence supports is no question of topics: few strong ones want a
    sparse fit, many weak ones a dense fit. The sources have the same say about the floor, which they share.
    """
    penalties = PENALTIES if options.penalty is None else (options.penalty,)
    by_topic = GroupedContrast(
        data.contrast, options.seed, topic_folds(data.contrast, FOLDS, options.seed)
    )
    best = [
        _ranked(by_topic, source, options, SCALE_FLOORS, penalties, directions).max(axis=1)
        for source in data.sources
    ]
    floor = SCALE_FLOORS[int(np.sum(best, axis=0).argmax())]
    if len(penalties) == 1:
        return Regularisation(floor, dict.fromkeys(data.sources, penalties[0]))
    chosen = {
        source: int(_ranked(data, source, options, (floor,), penalties, directions).argmax())
        for source in data.sources
    }
    return Regularisation(floor, {source: penalties[one] for source, one in chosen.items()})


def _ranked(
    data: GroupedContrast,
    source: int,
    options: CurationOptions,
    floors: tuple[float, ...],
    penalties: tuple[Penalty, ...],
    directions: NDArray[np.float32] | None,
) -> Floats:
    """The share of pairs of a toxic and a benign row of one fold, of all folds together, that weights
    fitted on the other folds rank right, `[floors, penalties]`."""
    toxic = data.contrast.toxic
    right = np.zeros((len(floors), len(penalties)))
    n_pairs = 0
    for left_out in range(FOLDS):
        testing = data.rows(Part(source, fold=left_out))
        pairs = int(toxic[testing].sum()) * int((~toxic[testing]).sum())
        n_pairs += pairs
        if pairs:
            right += pairs * _aurocs(data, source, left_out, options, floors, penalties, directions)
    return right / max(n_pairs, 1)


def _aurocs(
    data: GroupedContrast,
    source: int,
    left_out: int,
    options: CurationOptions,
    floors: tuple[float, ...],
    penalties: tuple[Penalty, ...],
    directions: NDArray[np.float32] | None,
) -> Floats:
    """AUROC on the fold that is left out, `[floors, penalties]`; 0.5 where the others confirm nothing."""
    found = np.full((len(floors), len(penalties)), 0.5)
    fitting = Part(source, without_fold=left_out)
    signs = confirmed_signs(data, fitting, options, directions)
    chosen = np.flatnonzero(signs)
    if not len(chosen):
        return found
    contrast, deviation = data.contrast, data.deviation(fitting)
    rows, testing = data.rows(fitting), data.rows(Part(source, fold=left_out))
    toxic = contrast.toxic[rows]
    sample_weights = balanced_weights(contrast.source[rows], toxic)
    for i, floor in enumerate(floors):
        scale = spread(deviation, floor)
        x = scaled_columns(contrast, chosen, scale, rows)
        test = _within(x, scaled_columns(contrast, chosen, scale, testing))
        for j, penalty in enumerate(penalties):
            fit = fit_signed_weights(x, toxic, signs[chosen], sample_weights, penalty)
            found[i, j] = auroc(contrast.toxic[testing], test @ (signs[chosen] * fit))
    return found


def _within(fitted: sparse.csr_matrix, test: sparse.csr_matrix) -> sparse.csr_matrix:
    """`test` with every column no larger than in `fitted`, as metrics that weigh features read rows."""
    largest = fitted.max(axis=0).toarray().ravel()
    held = test.tocsr()
    held.data = np.minimum(held.data, largest[held.indices])
    return held
