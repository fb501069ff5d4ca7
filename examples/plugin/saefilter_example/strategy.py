"""A strategy: the closest row of each theme in turn, so that a small cut does not spend itself on one theme."""

from __future__ import annotations

from collections import Counter

import numpy as np

from saefilter import SaefilterError
from saefilter.select.ranking import Candidates, Ranking
from saefilter.select.strategies import Selection

NONE = "no theme"


def in_turn(candidates: Candidates, selection: Selection) -> Ranking:
    """The candidates, first to drop first: of every theme the closest row, then of every theme the second.

    Raises SaefilterError for scores without themes.
    """
    scores = candidates.scores
    if scores is None or not scores.having(["themes"]):
        raise SaefilterError(
            "the scores have no themes", remedy="Score with a toxic set that has them."
        )
    column = scores.read(["themes"])["themes"].take(candidates.row_ids).to_pylist()
    themes = [found[0]["theme"] if found else NONE for found in column]

    turn = np.zeros(len(candidates), dtype=np.int64)  # the row's place among those of its theme
    seen: Counter[str] = Counter()
    for position in np.argsort(candidates.distance, kind="stable").tolist():
        turn[position] = seen[themes[position]]
        seen[themes[position]] += 1
    return Ranking(
        order=np.lexsort((candidates.distance, turn)),
        reason="close to toxic features, its theme's turn",
        reasons=[
            f"number {n + 1} of {theme}" for n, theme in zip(turn.tolist(), themes, strict=True)
        ],
        details={"themes": dict(seen)},
    )
