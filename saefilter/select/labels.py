"""The oracle: rows that are known to be bad first. What no method can beat."""

from __future__ import annotations

import numpy as np

from saefilter.select.candidates import Candidates
from saefilter.select.ranking import Ranking
from saefilter.select.row_labels import read_labels
from saefilter.select.strategies import Selection


def rank(candidates: Candidates, selection: Selection) -> Ranking:
    """Worst label first, drawn at random among equal ones; rows without a label last."""
    labels = read_labels(candidates, selection.options)
    drawn = np.random.default_rng(selection.seed).permutation(len(candidates))
    order = drawn[np.argsort(-labels.value[drawn], kind="stable")]
    return Ranking(
        order, "by its label", labels.value, "label", labels.words(), {"labels": labels.about}
    )
