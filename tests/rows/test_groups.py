"""Rows that belong together are found without being asked for, and others are not joined."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import chat
from hypothesis import given
from hypothesis import strategies as st

from saefilter.rows.formats import recognise
from saefilter.rows.groups import Units, effective_groups, find_groups, groups_by

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


def test_groups_of_one_side_move_as_one_and_shared_ones_text_by_text() -> None:
    is_data = np.array([1, 1, 0, 0, 0, 1, 0, 1], dtype=bool)
    group = np.array([0, 0, 1, 1, 2, 2, 2, 2])
    copies = np.array([0, 1, 2, 3, 4, 5, 4, 5])
    units = Units.of(is_data, group, copies)
    # whole groups: rows 0 and 1, rows 2 and 3; texts of group 2: rows 4 and 6, rows 5 and 7
    same = units.number[:, None] == units.number[None]
    assert [np.flatnonzero(row).tolist() for row in same[[0, 2, 4, 5]]] == [
        [0, 1], [2, 3], [4, 6], [5, 7],
    ]  # fmt: skip
    assert units.count.tolist() == [2, 2, 2, 2]
    drawn = units.relabelled(50, np.random.default_rng(0))
    for stratum in np.unique(units.stratum):
        members = units.stratum == stratum
        assert (drawn[:, members].sum(axis=1) == units.is_data[members].sum()).all()
        assert {tuple(one) for one in drawn[:, members].tolist()} == {(True, False), (False, True)}
    assert not units.enough  # four ways to relabel


def test_bootstrap_draws_keep_sides_and_draw_shared_groups() -> None:
    group = np.repeat(np.arange(20), 2)
    is_data = np.arange(40) % 2 == 0
    is_data[:10] = True  # five groups of the data alone, the others answered on both sides
    units = Units.of(is_data, group, np.arange(40))
    times = units.resampled(200, np.random.default_rng(0))
    alone = units.stratum == 0
    assert (times[:, alone].sum(axis=1) == 5).all()
    for stratum in np.unique(units.stratum[~alone]):
        of_data, of_reference = times[:, units.stratum == stratum].T
        assert np.array_equal(of_data, of_reference)  # drawn as a pair
        assert len(set(of_data.tolist())) > 2
    assert times.mean() == pytest.approx(1, abs=0.05)


def test_splits_by_topic_have_as_many_rows_as_the_data() -> None:
    rng = np.random.default_rng(0)
    is_data = np.arange(200) < 50
    units = Units.of(is_data, np.arange(200), np.arange(200))
    place = rng.normal(size=(200, 3))
    place[:, 0] += 20 * (np.arange(200) % 2)  # two topics, as common on either side
    split = units.split_by_topic(place, 60, rng)
    assert (split.sum(axis=1) == 50).all()
    odd = (split & (np.arange(200) % 2 == 1)).sum(axis=1)
    assert np.isin(odd, [0, 50]).mean() > 0.4  # pairs of two topics: along the topic
