"""The control: rows drawn at random, whatever they say."""

from __future__ import annotations

from saefilter.select.candidates import Candidates
from saefilter.select.ranking import Ranking
from saefilter.select.strategies import Selection


def rank(candidates: Candidates, selection: Selection) -> Ranking:
    """A permutation that depends on the seed and the number of rows alone."""
    order = selection.draws().permutation(len(candidates))
    return Ranking(order, "drawn at random")
