"""What an arm of a comparison cost, from what was counted while it ranked and from what its scores say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saefilter.compare.data import ArmCost
from saefilter.select.registry import is_control

if TYPE_CHECKING:
    from saefilter.artifacts.scores import Scores
    from saefilter.select.cost import Cost
    from saefilter.select.ranking import Ranking

OF_SCORES = ("closest", "chosen-side")
"""Strategies that rank by numbers of the scores file: they cost what the scores did."""
JUDGE = "judge"


def cost_of(
    strategy: str, scores: Scores, ranking: Ranking, seconds: float, counted: Cost, *, rows: int
) -> ArmCost:
    """`seconds`: what ranking `rows` rows took; `counted`: what was read meanwhile."""
    if strategy in OF_SCORES:
        return _of_scores(scores)
    if counted.rows_read or counted.rows_kept:
        return _of_rows(seconds, counted)
    if strategy == JUDGE:
        return _of_judge(ranking, rows)
    # it looked at rows without keeping numbers of them, or, as controls do, at none
    tokens = None if is_control(strategy) or not counted.tokens else _per(counted.tokens, rows)
    return ArmCost(_per(seconds, rows), tokens, rows_read=rows)


def _of_scores(scores: Scores) -> ArmCost:
    """By the provenance: the whole run that made the scores, its start included."""
    made = scores.provenance
    return ArmCost(_per(made.seconds, made.rows), _per(made.tokens, made.rows), rows_read=made.rows)


def _of_rows(seconds: float, counted: Cost) -> ArmCost:
    """Where a strategy went through the rows once: what is left over was spent once."""
    read = counted.rows_read
    tokens = counted.row_tokens if counted.tokens else None
    return ArmCost(
        _per(counted.row_seconds, read) if read else None,
        _per(tokens, read) if read and tokens is not None else None,
        once_seconds=round(max(0.0, seconds - counted.row_seconds), 3),
        once_tokens=counted.tokens - counted.row_tokens if counted.tokens else None,
        rows_read=read,
        rows_kept=counted.rows_kept,
        once_kept=counted.kept_learnt > 0,
    )


def _of_judge(ranking: Ranking, rows: int) -> ArmCost:
    """Tokens as the endpoint counts them, of every judgement, also of those that were kept; how long these
    took is not known."""
    tokens = ranking.details.get("tokens_in", 0) + ranking.details.get("tokens_out", 0)
    return ArmCost(None, _per(tokens, rows), rows_read=rows)


def _per(amount: float, rows: int) -> float | None:
    """For 1,000 rows."""
    return round(1000 * amount / rows, 3) if rows else None
