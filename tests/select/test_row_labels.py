"""Labels, the oracle and random rows of the same labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import chat
from hypothesis import given
from hypothesis import strategies as st
from scored import write_scores

from saefilter.errors import SaefilterError
from saefilter.filtering.job import candidates_of
from saefilter.rows.inputs import open_input
from saefilter.select.ranking import Candidates
from saefilter.select.registry import StrategyOptions
from saefilter.select.row_labels import RowLabels, read_labels
from saefilter.select.strategies import Selection, rank

Dataset = Callable[..., Candidates]
BAD = [1, 0, 0, 1, None, 0, 1, 0]


@pytest.fixture
def dataset(tmp_path: Path, jsonl: Callable[..., Path]) -> Dataset:
    """Eight rows with a label each, the fifth without one, and a row that is quarantined."""

    def make(labels: list[Any] | None = None) -> Candidates:
        rows: list[Any] = [
            {**chat(f"q {i}", f"a {i}"), "bad": label} for i, label in enumerate(labels or BAD)
        ]
        source = open_input(jsonl([*rows, b"broken"]))
        return candidates_of(source, write_scores(source, tmp_path / "s.parquet"))

    return make


def labels_file(tmp_path: Path, text: str) -> StrategyOptions:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return StrategyOptions(labels=str(path))


def test_a_column_of_the_data(dataset: Dataset) -> None:
    labels = read_labels(dataset(), StrategyOptions(label="bad"))
    assert labels.bad.tolist() == [True, False, False, True, False, False, True, False]
    assert np.flatnonzero(~labels.known).tolist() == [4]
    assert labels.about == {"column": "bad", "bad": 3, "labelled": 7}
    words = read_labels(dataset(["toxic", "safe", 0.9, "0.2", "", 1, 0, True]),
                        StrategyOptions(label="bad"))  # fmt: skip
    assert words.bad.tolist() == [True, False, True, False, False, True, False, True]


@pytest.mark.parametrize(("key", "shift"), [("row_id", 0), ("line", 1)])
def test_a_file_of_row_ids_or_lines(dataset: Dataset, tmp_path: Path, key: str, shift: int) -> None:
    lines = [f"{i + shift},{label}" for i, label in enumerate(BAD) if label is not None]
    text = "\n".join([f"{key},is_bad", *reversed(lines), f"{8 + shift},1"])
    labels = read_labels(dataset(), labels_file(tmp_path, text))
    assert labels.bad.tolist() == [True, False, False, True, False, False, True, False]
    assert labels.known.sum() == 7
    assert labels.about["column"] == "is_bad"


def test_lines_of_several_files_need_their_file(tmp_path: Path, jsonl: Callable[..., Path]) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a", "b"):
        jsonl([chat("q", f"{name} {i}") for i in range(2)], f"data/{name}.jsonl")
    source = open_input(folder)
    candidates = candidates_of(source, write_scores(source, tmp_path / "s.parquet"))
    text = "file,line,bad\na.jsonl,2,1\nb.jsonl,1,1\nb.jsonl,2,0\n"
    labels = read_labels(candidates, labels_file(tmp_path, text))
    assert labels.bad.tolist() == [False, True, True, False]
    assert labels.known.tolist() == [False, True, True, True]
    with pytest.raises(SaefilterError, match="a line alone is in each of them"):
        read_labels(candidates, labels_file(tmp_path, "line,bad\n1,1\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row_id,bad,topic\n0,1,x\n", r"which column holds the label\? There are bad, topic"),
        ("id,bad\n0,1\n", "which one is meant"),
        ("row_id,bad\n9,1\n", "row_id 9 is no row of the data"),
        ("row_id,bad\nx,1\n", "'x' is no row's number"),
        ("row_id,bad\n0,1\n0,0\n", "row_id 0 has two labels"),
        ("row_id,bad\n0,perhaps\n", "holds 'perhaps', which is no label"),
        ("row_id,bad\n4,\n", "none of the scored rows has a label"),
        ("row_id,bad\n", "there are no labels in it"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    dataset: Dataset, tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(SaefilterError, match=message):
        read_labels(dataset(), labels_file(tmp_path, text))


def test_a_missing_column_is_named(dataset: Dataset) -> None:
    with pytest.raises(
        SaefilterError, match=r"no column 'is_bad'\. Did you mean 'bad'\? There are: bad, messages"
    ):
        read_labels(dataset(), StrategyOptions(label="is_bad"))


def test_the_oracle_drops_bad_rows_first_and_draws_among_equals(dataset: Dataset) -> None:
    candidates, options = dataset(), StrategyOptions(label="bad")
    orders = [
        rank(candidates, Selection("labels", drop_frac=0.5, seed=seed, options=options)).order
        for seed in (1, 1, 2, 3)
    ]
    assert orders[0].tolist() == orders[1].tolist()
    assert len({tuple(order) for order in orders}) > 1
    for order in orders:
        assert set(order[:3]) == {0, 3, 6}
        assert order[-1] == 4  # of which nothing is known
    ranking = rank(candidates, Selection("labels", drop_frac=0.5, options=options))
    assert ranking.reasons_of(np.array([0, 1, 4])) == [
        "labelled bad", "labelled good", "without a label"
    ]  # fmt: skip


def test_strategies_that_draw_with_one_seed_draw_differently(dataset: Dataset) -> None:
    candidates, options = dataset([1] * 40), StrategyOptions(label="bad")
    orders = {
        tuple(rank(candidates, Selection(name, drop_frac=0.5, seed=3, options=given)).order)
        for name, given in (
            ("random", StrategyOptions()), ("labels", options), ("matched-random", options),
        )
    }  # fmt: skip
    assert len(orders) == 3


@given(
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 1.0, np.nan])), min_size=1),
    st.integers(0, 5),
)
def test_matched_random_drops_the_labels_that_closest_drops_at_every_size(
    rows: list[tuple[float, float]], seed: int
) -> None:
    from saefilter.select.strategies import matched

    distance = np.array([row[0] for row in rows])
    labels = RowLabels(np.array([row[1] for row in rows]), {})
    closest = np.argsort(distance, kind="stable")
    order = matched(closest, labels, np.random.default_rng(seed))
    assert sorted(order) == list(range(len(rows)))
    for kind in (labels.bad, labels.known):
        assert np.array_equal(np.cumsum(kind[order]), np.cumsum(kind[closest]))


def test_matched_random_is_seeded_and_says_what_it_did(dataset: Dataset) -> None:
    candidates, options = dataset([1, 0] * 20), StrategyOptions(label="bad")
    one, again, other = (
        rank(candidates, Selection("matched-random", drop_frac=0.5, seed=seed, options=options))
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one.order, again.order)
    assert not np.array_equal(one.order, other.order)
    assert one.details["matched_to"] == "closest"
    assert one.reasons_of(np.array([0]))[0] == "drawn at random, labelled bad"
