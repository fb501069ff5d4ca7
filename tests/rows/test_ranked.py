"""Ranked answers are read as the pair of the best and the worst."""

from __future__ import annotations

from typing import Any

import pytest

from saefilter.rows.formats import RowProblem, understand

ANSWERS = ["middling", "best", "worst"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "Q", "responses": ANSWERS, "ranks": [2, 1, 3]}, ("best", "worst")),
        ({"question": "Q", "responses": ANSWERS, "scores": [0.5, 2, -1]}, ("best", "worst")),
        ({"instruction": "Q", "input": "", "output": ANSWERS}, ("middling", "worst")),
    ],
)
def test_the_best_and_the_worst_are_a_pair(row: dict[str, Any], expected: tuple[str, str]) -> None:
    pair = understand(row).preference
    assert pair is not None
    assert [message.content for message in pair.prompt] == ["Q"]
    assert tuple(side[0].content for side in (pair.chosen, pair.rejected)) == expected


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "Q", "responses": ANSWERS, "ranks": [1, 2]}, "a number for each answer"),
        (
            {"prompt": "Q", "responses": ANSWERS, "ranks": [1, 1, 1]},
            "of no answer that it is better",
        ),
        ({"prompt": "Q", "responses": ["a"], "ranks": [1]}, "one answer, so there is no pair"),
        ({"prompt": "Q", "responses": "a", "scores": [1]}, "a list of texts was expected"),
        ({"instruction": "Q", "output": [1, 2]}, "a string was expected"),
    ],
)
def test_what_is_no_ranking_says_why(row: dict[str, Any], why: str) -> None:
    with pytest.raises(RowProblem, match=why):
        understand(row)
