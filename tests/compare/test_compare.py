"""A comparison on a small dataset whose figures are worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import chat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scored import write_scores

from saefilter.artifacts.integrity import content_sha256
from saefilter.artifacts.scores import SCHEMA, Scores
from saefilter.compare.arms import at_fraction
from saefilter.compare.compare import compare, default_strategies
from saefilter.compare.cost import cost_of
from saefilter.compare.data import Comparison
from saefilter.errors import SaefilterError
from saefilter.report.compare import compare_html
from saefilter.report.compare_text import compare_markdown
from saefilter.rows.read import Source
from saefilter.select.cost import Cost
from saefilter.select.ranking import Ranking
from saefilter.select.registry import StrategyOptions
from saefilter.select.row_labels import RowLabels

BAD = [1, 1, 0, 1, 0, 0, 0, 1, 0, 0]
NEAR = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
"""Distances: the order of the rows."""
FAR = [0.9, 0.1, 0.8, 0.2, 0.3, 0.7, 0.6, 0.5, 0.4, 1.0]
"""Order: 1 3 4 8 7 6 5 2 0 9."""


@pytest.fixture
def dataset(tmp_path: Path, jsonl: Callable[..., Path]) -> tuple[Source, Scores, Scores]:
    rows = [{**chat(f"q {i}", f"answer {i}"), "bad": bad} for i, bad in enumerate(BAD)]
    source = Source.open(jsonl(rows))
    return (
        source,
        write_scores(source, tmp_path / "near.parquet", NEAR),
        write_scores(source, tmp_path / "far.parquet", FAR, metric="nearest"),
    )


def compared(
    dataset: tuple[Source, Scores, Scores], strategies: list[str], **asked: Any
) -> Comparison:
    source, near, far = dataset
    options = StrategyOptions(label=asked.pop("label", "bad"))
    return compare(source, [near, far], strategies, options, **asked)


def test_the_figures_are_those_worked_out_by_hand(
    dataset: tuple[Source, Scores, Scores],
) -> None:
    found = compared(dataset, ["closest", "random", "labels"], fractions=[0.5, 0.2])
    assert [arm.name for arm in found.arms] == [
        "closest, contrast", "closest, nearest", "random", "labels"
    ]  # fmt: skip
    assert (found.scored, found.labelled, found.bad, found.base_rate) == (10, 10, 4, 0.4)
    assert found.fractions == [0.2, 0.5]
    near, far, _, oracle = found.arms
    assert [(at.dropped, at.bad, at.precision, at.recall) for at in near.at] == [
        (2, 2, 1.0, 0.5), (5, 3, 0.6, 0.75)
    ]  # fmt: skip
    assert [(at.dropped, at.bad, at.precision, at.recall) for at in far.at] == [
        (2, 2, 1.0, 0.5), (5, 3, 0.6, 0.75)
    ]  # fmt: skip
    assert [(at.bad, at.precision, at.recall) for at in oracle.at] == [(2, 1.0, 0.5), (4, 0.8, 1.0)]
    # bad rows 0 1 3 7 come before 6 6 5 2 of the 6 good ones; by far: 1 3 before 6 each, 7 before 4, 0 before 1
    assert near.auroc == pytest.approx(19 / 24)
    assert far.auroc == pytest.approx(17 / 24)
    assert oracle.auroc == 1
    assert near.auroc_low is not None
    assert near.auroc_high is not None
    assert near.auroc_low <= near.auroc <= near.auroc_high
    # {0, 1} and {1, 3}; {0, 1, 2, 3, 4} and {1, 3, 4, 7, 8}
    assert found.overlaps[0].jaccard[0][1] == pytest.approx(1 / 3)
    assert found.overlaps[1].jaccard[0][1] == pytest.approx(3 / 7)
    assert found.detail_frac == 0.2
    assert (near.only_ids, near.only_count) == ([0], 1)
    assert (far.only_ids, far.only_count) == ([3], 1)
    assert (near.only[0].prompt, near.only[0].answer, near.only[0].bad) == ("q 0", "answer 0", True)
    assert oracle.only_ids == []
    assert near.curve.recall is not None
    assert near.curve.recall[-1] == 1
    assert near.curve.drop_frac == pytest.approx(np.arange(1, 11) / 10)
    assert far.curve.overlap[-1] == 1


def test_random_alone_is_not_counted_as_another(dataset: tuple[Source, Scores, Scores]) -> None:
    source, near, _ = dataset
    options = StrategyOptions(label="bad")
    found = compare(source, [near], ["closest", "matched-random"], options, fractions=[0.2])
    assert found.arms[0].only_count == 2
    assert found.arms[1].only_count == 0
    assert [at.bad for at in found.arms[1].at] == [at.bad for at in found.arms[0].at]


def test_without_labels_there_are_overlaps_alone(dataset: tuple[Source, Scores, Scores]) -> None:
    found = compared(dataset, ["closest", "random"], label=None, fractions=[0.2])
    assert found.base_rate is None
    assert found.arms[0].auroc is None
    assert found.arms[0].at[0].precision is None
    assert found.arms[0].curve.recall is None
    page = compare_html(found)
    assert "What each finds" not in page
    assert "Overlap with" in page
    assert "AUROC" not in compare_markdown(found)


ORDERS = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.permutations(range(n)).map(np.array),
        st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=n, max_size=n).map(np.array),
    )
)


@given(ORDERS, st.floats(0.01, 0.99))
def test_precision_times_labelled_is_what_was_bad(
    order: tuple[np.ndarray, np.ndarray], share: float
) -> None:
    positions, values = order
    labels = RowLabels(values, {})
    at = at_fraction(Ranking(positions, "any"), share, labels)
    assert at.dropped == int(share * len(positions) + 0.5)
    assert at.bad == int((values[positions[: at.dropped]] == 1).sum())
    assert at.labelled is not None
    if at.precision is not None:
        assert round(at.precision * at.labelled) == at.bad
        assert at.precision_low is not None
        assert at.precision_low - 1e-9 <= at.precision <= (at.precision_high or 0) + 1e-9
    if at.recall is not None:
        assert round(at.recall * labels.bad.sum()) == at.bad


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=3), st.integers(0, 3))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_strategy_drops_the_same_number_and_overlap_is_symmetric(
    dataset: tuple[Source, Scores, Scores], shares: list[float], seed: int
) -> None:
    strategies = ["closest", "random", "labels", "matched-random"]
    found = compared(dataset, strategies, fractions=shares, seed=seed)
    for number in range(len(found.fractions)):
        assert len({arm.at[number].dropped for arm in found.arms}) == 1
        matrix = np.array(found.overlaps[number].jaccard)
        assert np.array_equal(matrix, matrix.T)
        assert (np.diag(matrix) == 1).all()


@pytest.mark.parametrize(
    ("strategies", "options", "fractions", "message"),
    [
        (["closest", "closest"], {}, [0.1], "name each strategy once"),
        (["closest", "nearest"], {}, [0.1], "there is no strategy 'nearest'"),
        (["closest"], {}, [1.0], "between 0 and 1"),
        (["closest"], {"model": "m"}, [0.1], "none of the strategies has use for --model"),
        (["labels"], {}, [0.1], "needs --label or --labels"),
    ],
)
def test_nonsense_is_refused(
    dataset: tuple[Source, Scores, Scores],
    strategies: list[str], options: dict[str, Any], fractions: list[float], message: str,
) -> None:  # fmt: skip
    with pytest.raises(SaefilterError, match=message):
        compare(
            dataset[0], [dataset[1]], strategies, StrategyOptions(**options), fractions=fractions
        )


def test_scores_of_other_data_are_refused(
    dataset: tuple[Source, Scores, Scores], tmp_path: Path, jsonl: Callable[..., Path]
) -> None:
    other = Source.open(jsonl([chat("q", "a")], "other.jsonl"))
    scores = write_scores(other, tmp_path / "other.parquet")
    with pytest.raises(SaefilterError, match="its content differs"):
        compare(dataset[0], [dataset[1], scores], ["closest"], StrategyOptions())


def without(scores: Scores, row: int, path: Path) -> Scores:
    """The same scores, but for a row that was quarantined."""
    entries = pq.read_table(scores.path).to_pylist()
    entries[row] |= {"status": "quarantined", "distance": None, "reason": "too long"}
    table = pa.Table.from_pylist(entries, schema=SCHEMA)
    made = replace(scores.provenance, scored=9, content_sha256=content_sha256(SCHEMA, [table]))
    with pq.ParquetWriter(path, SCHEMA) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(made.to_metadata())
    return Scores.open(path)


def test_rows_that_not_all_have_scored_are_left_out(
    tmp_path: Path, dataset: tuple[Source, Scores, Scores]
) -> None:
    source, near, far = dataset
    fewer = without(far, 3, tmp_path / "fewer.parquet")
    options = StrategyOptions(label="bad")
    found = compare(source, [near, fewer], ["closest"], options, fractions=[0.33])
    assert (found.scored, found.bad) == (9, 3)
    assert [at.dropped for arm in found.arms for at in arm.at] == [3, 3]
    assert "Left out, because not all scores have them: 1 row." in found.notes
    other = without(near, 0, tmp_path / "other.parquet")
    found = compare(source, [other, fewer], ["closest"], options, fractions=[0.33])
    assert found.scored == 8
    assert "Left out, because not all scores have them: 2 rows." in found.notes


def test_defaults_follow_from_the_options() -> None:
    assert default_strategies(StrategyOptions()) == ["closest", "random"]
    assert default_strategies(StrategyOptions(label="bad", contrast_toxic=("a",))) == [
        "closest", "random", "text-classifier", "embedding-classifier", "labels", "matched-random"
    ]  # fmt: skip


def test_costs_are_per_row_and_what_was_kept_is_not_passed_off_as_cheap(
    dataset: tuple[Source, Scores, Scores],
) -> None:
    source, near, _ = dataset
    made = near.provenance
    found = compare(source, [near], ["closest", "random"], StrategyOptions(label="bad"))
    closest, drawn = found.arms
    assert closest.cost.seconds == 1000 * made.seconds / 10
    assert closest.cost.tokens == 1000 * made.tokens / 10
    assert drawn.cost.tokens is None
    cost = Cost(
        tokens=900, row_tokens=400, row_seconds=0.5, rows_read=4, rows_kept=6, kept_learnt=1
    )
    order = Ranking(np.arange(10), "any")
    partly = cost_of("loss", near, order, 2.0, cost, rows=10)
    assert (partly.seconds, partly.tokens) == (125, 100_000)
    assert (partly.once_seconds, partly.once_tokens, partly.once_kept) == (1.5, 500, True)
    kept = cost_of("loss", near, order, 0.01, Cost(rows_kept=10), rows=10)
    assert (kept.seconds, kept.tokens) == (None, None)
    arms = [replace(closest, cost=partly), replace(drawn, cost=kept)]
    told = replace(found, arms=arms)
    for face in (compare_html(told), compare_markdown(told)):
        assert "125 s" in face
        assert "100,000" in face
        assert "kept from before" in face
        assert "measured on 4, 6 kept from before" in face
        assert "once 1.5 s and 500 tokens" in face


def test_what_knows_the_labels_is_explained(dataset: tuple[Source, Scores, Scores]) -> None:
    source, near, _ = dataset
    options = StrategyOptions(label="bad")
    found = compare(source, [near], ["closest", "labels", "matched-random"], options)
    closest, _, drawn = found.arms
    assert [at.precision for at in drawn.at] == [at.precision for at in closest.at]
    assert [at.recall for at in drawn.at] == [at.recall for at in closest.at]
    assert any("labels is an oracle" in note for note in found.notes)
    assert any("recall of closest by construction" in note for note in found.notes)
    drawing = compare(source, [near], ["closest", "random"], options)
    assert drawing.notes == ["a note"]
