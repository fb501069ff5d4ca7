"""The cut of rows that are not held is the one that a stable sort of all of them would give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saefilter.errors import SaefilterError
from saefilter.select.closest import First, keys_of, smallest
from saefilter.select.ranking import refuse_too_many

ODD = [0.0, -0.0, 1.0, -1.0, 0.5, 5e-324, -5e-324, np.inf, -np.inf, np.nan]
VALUES = st.lists(st.sampled_from(ODD) | st.floats(-1, 1), max_size=40).map(
    lambda values: np.array(values, dtype=np.float64)
)
CUTS = st.lists(st.integers(0, 40), max_size=5).map(sorted)


def parts_of(values: np.ndarray, cuts: list[int]) -> list[np.ndarray]:
    return np.split(values, cuts)


@given(VALUES, CUTS, st.floats(0, 1))
def test_the_smallest_are_those_of_a_stable_sort(
    values: np.ndarray, cuts: list[int], share: float
) -> None:
    count = round(share * len(values))
    chosen = smallest(lambda: parts_of(values, cuts), count, len(values))
    order = np.argsort(values, kind="stable")
    assert np.flatnonzero(chosen).tolist() == sorted(order[:count].tolist())


@given(VALUES, CUTS, st.integers(1, 12))
def test_the_first_come_in_the_order_of_a_stable_sort(
    values: np.ndarray, cuts: list[int], count: int
) -> None:
    first, start = First(count), 0
    for part in parts_of(values, cuts):
        first.add(np.arange(start, start + len(part)), part)
        start += len(part)
    assert first.ids.tolist() == np.argsort(values, kind="stable")[:count].tolist()


def test_keys_are_in_the_order_of_the_values() -> None:
    values = np.array([-np.inf, -1.0, -5e-324, -0.0, 0.0, 5e-324, 1.0, np.inf, np.nan, -np.nan])
    places = np.unique(keys_of(values), return_inverse=True)[1]
    assert places.tolist() == [0, 1, 2, 3, 3, 4, 5, 6, 7, 7]


def test_what_no_machine_holds_is_refused_before_it_is_tried() -> None:
    refuse_too_many(1_000)
    with pytest.raises(SaefilterError, match=r"1,000,000,000,000 of them take about 100,000 GB"):
        refuse_too_many(10**12)
