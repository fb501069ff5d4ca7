from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scored import ROWS, write_scores

from saefilter.errors import SaefilterError
from saefilter.filtering.job import candidates_of
from saefilter.rows.read import Source
from saefilter.select.strategies import Candidates, Selection, choose, rank_closest

DISTANCES = st.lists(st.floats(-1, 2), min_size=1, max_size=50).map(np.array)


def candidates(distances: np.ndarray) -> Candidates:
    return Candidates(distances, np.arange(len(distances)))


@given(DISTANCES, st.floats(0, 1))
def test_closest_drops_the_smallest_distances(distances: np.ndarray, share: float) -> None:
    dropped = choose(candidates(distances), Selection(drop_frac=share)).dropped
    assert abs(dropped.sum() - share * len(distances)) <= 0.5
    if dropped.any() and not dropped.all():
        assert distances[dropped].max() <= distances[~dropped].min()


@given(DISTANCES, st.floats(-1, 2))
def test_min_distance_drops_exactly_what_is_closer(distances: np.ndarray, limit: float) -> None:
    dropped = choose(candidates(distances), Selection(min_distance=limit)).dropped
    assert np.array_equal(dropped, distances < limit)


def test_ten_percent_of_2000_is_200_and_ties_go_to_the_earlier_row() -> None:
    dropped = choose(candidates(np.zeros(2000)), Selection(drop_frac=0.1)).dropped
    assert np.flatnonzero(dropped).tolist() == list(range(200))


def test_random_is_seeded_and_ignores_distances() -> None:
    distances = np.arange(100.0)
    one, again, other = (
        choose(candidates(distances), Selection("random", drop_count=10, seed=seed)).dropped
        for seed in (1, 1, 2)
    )
    assert one.sum() == 10
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(), "exactly one way"),
        (Selection(drop_frac=0.1, drop_count=3), "exactly one way"),
        (Selection(drop_frac=10), "not between 0 and 1"),
        (Selection(drop_frac=float("nan")), "not between 0 and 1"),
        (Selection(drop_count=-1), "negative"),
        (Selection(drop_count=4), "more than the 3 scored rows"),
        (Selection(drop_count=1, seed=-1), "--seed -1 is negative"),
        (Selection("nearest", drop_frac=0.1), "no strategy 'nearest'"),
        (Selection("random", min_distance=0.3), "does not go with --strategy random"),
    ],
)
def test_nonsense_is_refused(selection: Selection, message: str) -> None:
    with pytest.raises(SaefilterError, match=message):
        choose(candidates(np.zeros(3)), selection)


def test_what_replace_makes_of_unread_candidates_and_unsorted_rankings_is_like_any(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    source = Source.open(jsonl(ROWS))
    unread = candidates_of(source, write_scores(source, tmp_path / "s.parquet"))
    asked = Selection(drop_frac=0.3)
    held = Candidates(unread.distance, unread.row_ids)
    assert np.array_equal(choose(unread, asked).dropped, choose(held, asked).dropped)
    ranking = rank_closest(unread, asked)
    renamed = replace(ranking, reason="another")
    assert renamed.reason == "another"
    assert np.array_equal(renamed.order, np.argsort(held.distance, kind="stable"))
    fewer = replace(unread, distance=unread.distance[::2], row_ids=unread.row_ids[::2])
    assert len(fewer) == 20
    assert choose(fewer, asked).dropped.sum() == 6
    assert fewer.before(np.array([0, 4, 40])).tolist() == [0, 2, 20]
    assert unread.before(np.array([0, 4, 40])).tolist() == [0, 4, 40]
