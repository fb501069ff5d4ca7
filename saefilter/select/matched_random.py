"""Random rows with the same labels as those that `closest` drops, so that only the choice among
equally labelled rows differs: what the geometry knows beyond telling bad from good."""

from __future__ import annotations

import numpy as np

from saefilter.select import closest
from saefilter.select.candidates import Candidates
from saefilter.select.ranking import Ranking
from saefilter.select.row_labels import read_labels
from saefilter.select.strategies import Selection


def rank(candidates: Candidates, selection: Selection) -> Ranking:
    """The first `k` rows hold as many bad, good and unlabelled ones as the `k` closest, for every `k`.

    Each place in the order of `closest` is given to a random row of the same label.
    """
    labels = read_labels(candidates, selection.options)
    kind = np.where(labels.known, labels.bad.astype(np.int64), -1)
    model = closest.rank(candidates, selection).order
    rng = np.random.default_rng(selection.seed)
    order = np.empty_like(model)
    for one in np.unique(kind):
        order[kind[model] == one] = rng.permutation(np.flatnonzero(kind == one))
    return Ranking(
        order,
        "drawn at random among the rows of its label",
        reasons=[f"drawn at random, {words}" for words in labels.words()],
        details={"labels": labels.about, "matched_to": "closest"},
    )
