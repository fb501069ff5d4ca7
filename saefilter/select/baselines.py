"""Strategies that need no model: the paper's filter, which takes the rows closest to toxic features, and
what it must be held against (drawn at random, by known labels, and at random within equal labels).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saefilter.select.ranking import Candidates, Ranking
from saefilter.select.row_labels import RowLabels, read_labels
from saefilter.select.strategies import Selection

CLOSEST = "close to toxic features"


def rank_closest(candidates: Candidates, selection: Selection) -> Ranking:
    """By the metric that made the scores, smallest distance first; equal ones in the order of the input."""
    return Ranking(np.argsort(candidates.distance, kind="stable"), CLOSEST)


def rank_at_random(candidates: Candidates, selection: Selection) -> Ranking:
    """A permutation that depends on the seed and the number of rows alone."""
    order = selection.draws().permutation(len(candidates))
    return Ranking(order, "drawn at random")


def rank_by_label(candidates: Candidates, selection: Selection) -> Ranking:
    """The oracle, which no method beats: worst label first, drawn at random among equal ones; rows
    without a label last."""
    labels = read_labels(candidates, selection.options)
    drawn = selection.draws().permutation(len(candidates))
    order = drawn[np.argsort(-labels.value[drawn], kind="stable")]
    return Ranking(
        order, "by its label", labels.value, "label", labels.words(), {"labels": labels.about}
    )


def rank_matched_random(candidates: Candidates, selection: Selection) -> Ranking:
    """The first `k` rows hold as many bad, good and unlabelled ones as the `k` closest, for every `k`.

    Only the choice among equally labelled rows differs: what the geometry knows beyond telling bad
    from good.
    """
    labels = read_labels(candidates, selection.options)
    return Ranking(
        matched(rank_closest(candidates, selection).order, labels, selection.draws()),
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
    for label in np.unique(kind):
        order[kind[model] == label] = rng.permutation(np.flatnonzero(kind == label))
    return order
