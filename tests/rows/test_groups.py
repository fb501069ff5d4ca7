"""Rows that belong together are found without being asked for, and others are not joined."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import chat
from hypothesis import given
from hypothesis import strategies as st

from saefilter.rows.formats import recognise
from saefilter.rows.groups import effective_groups, find_groups, groups_by

LONG = (
    "When the river rose in spring the two brothers moved the boats up to the barn and slept there "
    "for a week, listening to the water, and nobody in the village thought it strange at all."
)


def labels(rows: list[dict[str, object]]) -> list[int]:
    return find_groups([recognise(row) for row in rows]).label.tolist()


def test_prompts_templates_and_near_copies_are_joined() -> None:
    rows: list[dict[str, object]] = [
        {"text": "I hate women."},
        {"text": "i hate trans people"},  # a slot of two words
        {"text": "Nobody should ever have to wait this long."},
        {"text": LONG},
        {"text": LONG.replace("strange at all", "odd") + " So it went."},
        chat("What would you do as ruler?", "Build schools."),
        chat("what would you do as ruler", "Sleep late and let others decide."),
        chat("Which fruit do you like?", "Plums, in August."),
    ]
    assert labels(rows) == [0, 0, 1, 2, 2, 3, 3, 4]


def test_what_only_resembles_stays_apart() -> None:
    system = {"role": "system", "content": "You are a helpful assistant."}
    rows = [
        {"messages": [system, *chat("How do I boil an egg?", "Nine minutes.")["messages"]]},
        {"messages": [system, *chat("Is tea better than coffee?", "In bed, yes.")["messages"]]},
        {"text": "He left early."},
        {"text": "They came late."},
        {"text": LONG},
        {"text": " ".join(reversed(LONG.split()))},
    ]
    assert labels(rows) == list(range(6))


def test_effective_number_counts_a_large_group_once() -> None:
    rows = [recognise({"text": f"number {i} is {i * 7919} and no other"}) for i in range(100)]
    groups = groups_by(["a"] * 96 + ["b", None, None, "c"], "column x", rows)
    assert groups.count == 5
    assert groups.effective == pytest.approx(100**2 / (96**2 + 4))
    assert groups.label[-2] != groups.label[-3]
    assert "5 groups (column x)" in str(groups)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_the_effective_number_lies_between_one_and_the_count(values: list[int]) -> None:
    label = np.array(values)
    assert 1 - 1e-9 <= effective_groups(label) <= len(set(values)) + 1e-9
