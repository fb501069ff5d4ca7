"""The oracle: rows that are known to be bad first. No method finds more of them."""

from __future__ import annotations

import numpy as np

from saefilter.select.candidates import Candidates
from saefilter.select.ranking import Ranking
from saefilter.select.row_labels import read_labels
from saefilter.select.strategies import Selection


def rank(candidates: Candidates, selection: Selection) -> Ranking:
    """Worst label first, drawn at random among equal ones; rows without a label last."""
    labels = read_labels(candidates, selection.options)
    drawn = selection.draws().permutation(len(candidates))
    order = drawn[np.argsort(-labels.value[drawn], kind="stable")]
    return Ranking(
        order, "by its label", labels.value, "label", labels.words(), {"labels": labels.about}
    )
