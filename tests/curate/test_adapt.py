"""A set learns from decisions: its features stay, its weights move no farther than decisions carry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import chat
from decided import decisions_on
from scored import provenance_of, write_scores
from toxic_sets import made

from saefilter.artifacts.decisions import Decision, Decisions
from saefilter.cli.rounds import reading
from saefilter.columns import Columns
from saefilter.curate.adapt import Fit, gained_by_chance, unknown_to, with_weights
from saefilter.curate.contrast import Contrast
from saefilter.curate.sources import from_decisions
from saefilter.errors import SaefilterError
from saefilter.rows.read import Source
from saefilter.stats.auroc import auroc
from saefilter.stats.sparse_rows import SparseRows
from saefilter.toxic.learnt import ROW_HASHES

N_ROWS = 40


@pytest.fixture
def reviewed(jsonl: Callable[..., Path], tmp_path: Path) -> Callable[..., tuple[Source, Decisions]]:
    def review(
        keep: tuple[int, ...], drop: tuple[int, ...], **more: Any
    ) -> tuple[Source, Decisions]:
        rows = [{**chat(f"q {i}", f"a {i}"), **more} for i in range(N_ROWS)]
        rows[30] = rows[0]
        source = Source.open(jsonl(rows))
        scores = write_scores(source, tmp_path / "s.parquet")
        return source, decisions_on(scores, tmp_path / "d.json", keep, drop)

    return review


def test_what_was_dropped_is_the_toxic_side_and_equal_rows_count_once(
    reviewed: Callable[..., tuple[Source, Decisions]],
) -> None:
    source, decisions = reviewed(tuple(range(10)), tuple(range(10, 22)))
    rows = from_decisions(source, decisions)
    assert [one[-1].content for one in rows.toxic] == [f"a {i}" for i in range(10, 22)]
    assert [one[-1].content for one in rows.benign] == [f"a {i}" for i in range(10)]
    assert [(one["side"], one["rows"], one["name"]) for one in rows.about] == [
        ("toxic", 12, "d.json"), ("benign", 10, "d.json"),
    ]  # fmt: skip
    assert len(rows.about[0][ROW_HASHES]) == 12
    assert rows.about[0]["sha256"] == decisions.sha256


def test_rows_are_read_by_the_columns_that_they_were_scored_by(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [{"frage": f"q {i}", "antwort": f"a {i}"} for i in range(20)]
    source = Source.open(jsonl(rows))
    hashes = [row.digest() for row in source.rows()]
    made = tuple(
        Decision(one, i, None, "drop" if i < 10 else "keep") for i, one in enumerate(hashes)
    )
    decisions = Decisions("data.jsonl", source.sha256(), decisions=made)
    with pytest.raises(SaefilterError, match="20 rows cannot be learnt from"):
        from_decisions(source, decisions)
    columns = Columns.parse("prompt=frage,completion=antwort")
    learnt = from_decisions(source, decisions, columns_of=lambda source: columns)
    assert [one[-1].content for one in learnt.benign] == [f"a {i}" for i in range(10, 20)]
    scored = provenance_of(settings={"columns": str(columns)})
    assert reading(scored) == ["--preset", "minilm", "--columns", str(columns)]


def test_too_few_of_a_side_says_how_to_get_more(
    reviewed: Callable[..., tuple[Source, Decisions]],
) -> None:
    source, decisions = reviewed((1, 2, 3), tuple(range(10, 30)))
    with pytest.raises(SaefilterError, match=r"drop 20 usable rows and keep 3.* --order random"):
        from_decisions(source, decisions)


def fit_of(active: np.ndarray, hold: float) -> Fit:
    base = replace(made((2, "toxic", 0.5), (4, "toxic", 0.5), (5, "benign", 0.2)), intercept=0.0)
    return replace(Fit.of(base, [0, 1, 2], active), hold=hold)


def test_weights_follow_decisions_as_far_as_they_are_let_and_never_change_sides() -> None:
    rng = np.random.default_rng(0)
    toxic = np.arange(60) % 2 == 0
    active = rng.random((60, 3))
    active[:, 0] += toxic  # the first feature tells, the second tells the other way round
    active[:, 1] += ~toxic
    fit = fit_of(active, hold=0.3)
    weights, _ = fit.learnt(toxic)
    assert weights[0] > 0.5 > weights[1] >= 0
    held, _ = fit_of(active, hold=1e6).learnt(toxic)
    assert np.allclose(held, [0.5, 0.5, 0.2], atol=1e-4)
    let, _ = fit_of(active, hold=1e-4).learnt(toxic)
    assert let[1] == 0  # it may lose its say, and not become benign
    folds = np.arange(60) // 2 % 5
    assert fit.held_out(toxic, folds) > 0.7
    shuffled = rng.permutation(toxic)
    assert fit.held_out(shuffled, folds) < 0.7


def test_a_gain_is_held_against_what_decisions_without_meaning_gain() -> None:
    rng = np.random.default_rng(1)
    toxic = np.arange(60) % 2 == 0
    active = rng.random((60, 3))
    active[:, 0] += toxic
    active[:, 1] += ~toxic

    def contrast(group: np.ndarray | None = None) -> Contrast:
        nothing = np.zeros(60, dtype=np.int64)
        return Contrast(SparseRows(3), np.zeros((60, 1)), toxic, nothing, group=group)

    fit = fit_of(active, hold=0.3)
    by_chance = gained_by_chance(fit, contrast())
    gain = fit.held_out(toxic, contrast().folds(5)) - auroc(toxic, fit.signed @ fit.weights)
    assert 0 < by_chance < gain
    # six groups of ten equal rows: whole groups trade labels, and chance does more
    assert gained_by_chance(fit, contrast(np.arange(60) // 2 % 6 + 6 * ~toxic)) > by_chance


def test_activations_beyond_what_the_set_was_made_on_do_not_count() -> None:
    fit = fit_of(np.array([[1.0, 2.0, 1.0], [50.0, 0.0, 50.0]]), hold=0.3)
    assert fit.signed.tolist() == [[1.0, 2.0, -1.0], [2.0, 0.0, -2.0]]  # the most was 2


def test_a_set_with_other_weights_has_no_percentiles() -> None:
    base = made((2, "toxic", 0.5), (4, "toxic", 0.3), (5, "benign", 0.2))
    changed = with_weights(base, [0, 2], np.array([0.0, 0.9]), -0.25)
    assert [(one.index, one.weight) for one in changed.features] == [(4, 0.3), (2, 0.0), (5, 0.9)]
    assert changed.intercept == -0.25
    assert changed.calibration is None
    assert changed.themes is None


def test_a_set_learns_from_a_row_once(reviewed: Callable[..., tuple[Source, Decisions]]) -> None:
    """Or what it "had not seen" would be what it knows: shuffled decisions came out at an AUROC of 1.00."""
    source, decisions = reviewed(tuple(range(12)), tuple(range(12, 29)), side=1)
    rows = from_decisions(source, decisions, group="side")
    base = made((2, "toxic", 0.5), (5, "benign", 0.2))
    assert unknown_to(base, rows) is rows
    toxic, benign = rows.about
    first = replace(base, sources=[{ROW_HASHES: [*toxic[ROW_HASHES][:5], benign[ROW_HASHES][1]]}])
    left = unknown_to(first, rows)
    assert (left.toxic, left.benign) == (rows.toxic[5:], [rows.benign[0], *rows.benign[2:]])
    assert [one["rows"] for one in left.about] == [len(one[ROW_HASHES]) for one in left.about]
    assert left.about[0][ROW_HASHES] == toxic[ROW_HASHES][5:]
    assert left.group is not None
    assert len(left.group) == len(left.conversations())
    second = replace(base, sources=rows.about, method={"from": "minilm"})
    with pytest.raises(
        SaefilterError, match=r"only 0 dropped and 0 kept rows are new .* --adapt minilm"
    ):
        unknown_to(second, rows)
