"""How far a set's weights may follow its contrast data, chosen by what ranks topics left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saefilter.toxic.fit import scaled_columns, spread
from saefilter.toxic.groups import FOLDS, GroupedContrast, Part
from saefilter.toxic.select import CurationOptions, confirmed_signs
from saefilter.toxic.statistics import auroc
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
    """The floor, and for each source the penalty, whose weights rank rows of left-out topics best.

    Few strong features want a sparse fit, many weak ones a dense fit; which it is, the data say. The
    sources have the same say about the floor, which they share.
    """
    penalties = PENALTIES if options.penalty is None else (options.penalty,)
    tables = {
        source: _ranked(data, source, options, penalties, directions) for source in data.sources
    }
    floor = int(np.sum([table.max(axis=1) for table in tables.values()], axis=0).argmax())
    return Regularisation(
        SCALE_FLOORS[floor],
        {source: penalties[int(table[floor].argmax())] for source, table in tables.items()},
    )


def _ranked(
    data: GroupedContrast,
    source: int,
    options: CurationOptions,
    penalties: tuple[Penalty, ...],
    directions: NDArray[np.float32] | None,
) -> Floats:
    """The share of pairs of a toxic and a benign row of one fold, of all folds together, that weights
    fitted on the other folds rank right, `[floors, penalties]`."""
    toxic = data.contrast.toxic
    right = np.zeros((len(SCALE_FLOORS), len(penalties)))
    n_pairs = 0
    for left_out in range(FOLDS):
        testing = data.rows(Part(source, fold=left_out))
        pairs = int(toxic[testing].sum()) * int((~toxic[testing]).sum())
        n_pairs += pairs
        if pairs:
            right += pairs * _aurocs(data, source, left_out, options, penalties, directions)
    return right / max(n_pairs, 1)


def _aurocs(
    data: GroupedContrast,
    source: int,
    left_out: int,
    options: CurationOptions,
    penalties: tuple[Penalty, ...],
    directions: NDArray[np.float32] | None,
) -> Floats:
    """AUROC on the fold that is left out, `[floors, penalties]`; 0.5 where the others confirm nothing."""
    found = np.full((len(SCALE_FLOORS), len(penalties)), 0.5)
    fitting = Part(source, without_fold=left_out)
    signs = confirmed_signs(data, fitting, options, directions)
    chosen = np.flatnonzero(signs)
    if not len(chosen):
        return found
    contrast, deviation = data.contrast, data.deviation(fitting)
    rows, testing = data.rows(fitting), data.rows(Part(source, fold=left_out))
    toxic = contrast.toxic[rows]
    sample_weights = balanced_weights(contrast.source[rows], toxic)
    for i, floor in enumerate(SCALE_FLOORS):
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
