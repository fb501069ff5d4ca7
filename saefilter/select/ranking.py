"""What a strategy gives: the order in which rows would be dropped, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ranking:
    """The candidates, first to drop first."""

    order: NDArray[np.int64]
    """Positions among the candidates, each once, `[n_rows]`."""
    reason: str
    """Why a row is dropped, in words that are true of every row that this strategy drops."""
    score: NDArray[np.float64] | None = None
    """By which they are ordered, higher is dropped first, `[n_rows]`; NaN for a row without one,
    which is dropped last. None where there is none."""
    score_name: str = "score"
    """What the score is, with its unit."""
    reasons: Sequence[str] | None = None
    """Of each row, `[n_rows]`, where they differ; instead of `reason`."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else the report must know of how it came about: JSON values, no times and no folders."""

    @classmethod
    def by_score(
        cls,
        score: NDArray[np.floating[Any]],
        name: str,
        reason: str,
        *,
        reasons: Sequence[str] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Ranking:
        """Highest score first; equal ones in the order of the input, NaN last."""
        values = np.asarray(score, dtype=np.float64)
        order = np.argsort(-values, kind="stable")
        return cls(order, reason, values, name, reasons, details or {})

    def reasons_of(self, positions: NDArray[np.int64]) -> list[str]:
        """Why the rows at these positions are dropped."""
        if self.reasons is None:
            return [self.reason] * len(positions)
        return [self.reasons[position] for position in positions.tolist()]


@dataclass(frozen=True)
class Ranked:
    """A ranking by row id, for those who know rows of the input and not candidates."""

    ranking: Ranking
    row_ids: NDArray[np.int64]
    """Of the candidates, ascending, `[n_rows]`."""

    def reasons(self, ids: NDArray[np.int64]) -> list[str]:
        """Why rows are dropped."""
        return self.ranking.reasons_of(self._positions(ids))

    def scores(self, ids: NDArray[np.int64]) -> list[float | None] | None:
        """The strategy's scores of rows, None for one that has none; None where there are none."""
        if self.ranking.score is None:
            return None
        values = self.ranking.score[self._positions(ids)].tolist()
        return [None if np.isnan(value) else value for value in values]

    def first(self, ids: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """The `count` rows of `ids` that are dropped first, in that order."""
        place = np.empty(len(self.row_ids), dtype=np.int64)
        place[self.ranking.order] = np.arange(len(self.row_ids))
        return ids[np.argsort(place[self._positions(ids)], kind="stable")][:count]

    def _positions(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self.row_ids, ids)
