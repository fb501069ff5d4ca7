"""The paper's filter: rows closest to toxic features first, by the metric that made the scores."""

from __future__ import annotations

import numpy as np

from saefilter.select.candidates import Candidates
from saefilter.select.ranking import Ranking
from saefilter.select.strategies import Selection

REASON = "close to toxic features"


def rank(candidates: Candidates, selection: Selection) -> Ranking:
    """Smallest distance first; equal ones in the order of the input."""
    return Ranking(np.argsort(candidates.distance, kind="stable"), REASON)
