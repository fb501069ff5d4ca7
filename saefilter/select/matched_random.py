"""Random rows with the same labels as those that `closest` drops, so that only the choice among
equally labelled rows differs: what the geometry knows beyond telling bad from good."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saefilter.select import closest
from saefilter.select.candidates import Candidates
from saefilter.select.ranking import Ranking
from saefilter.select.row_labels import RowLabels, read_labels
from saefilter.select.strategies import Selection


def rank(candidates: Candidates, selection: Selection) -> Ranking:
    """The first `k` rows hold as many bad, good and unlabelled ones as the `k` closest, for every `k`."""
    labels = read_labels(candidates, selection.options)
    return Ranking(
        matched(closest.rank(candidates, selection).order, labels, selection.draws()),
        "drawn at random among the rows of its label",
        reasons=[f"drawn at random, {words}" for words in labels.words()],
        details={"labels": labels.about, "matched_to": "closest"},
    )


def matched(
    model: NDArray[np.int64], labels: RowLabels, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Another order with the same label at every place as the order `model` has, else drawn."""
    kind = np.where(labels.known, labels.bad.astype(np.int64), -1)
    order = np.empty_like(model)
    for one in np.unique(kind):
        order[kind[model] == one] = rng.permutation(np.flatnonzero(kind == one))
    return order
