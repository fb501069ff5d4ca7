"""`--drop auto`: on rows whose places among the reference are drawn here, so that the truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import chat
from decided import decisions_on
from scored import write_scores

from saefilter.errors import SaefilterError
from saefilter.filtering.filter import filter_file
from saefilter.filtering.job import candidates_of
from saefilter.report.cut import curve_rows, cut_words
from saefilter.rows.read import Source
from saefilter.select.auto import Cut, auto_cut
from saefilter.select.decided import choose_decided
from saefilter.select.strategies import Selection, choose

ROWS, REFERENCE = 600, 1000
WORDS = ["oak", "elm", "ash", "fig", "yew", "bay", "box", "fir", "gum", "ivy", "rue", "tea"]


def rows(count: int) -> list[dict[str, Any]]:
    """Rows that are not alike."""
    rng = np.random.default_rng(1)
    return [
        chat(f"question {' '.join(rng.choice(WORDS, 9))} {i}", f"{' '.join(rng.choice(WORDS, 30))} {i}")
        for i in range(count)
    ]  # fmt: skip


def cut_of(
    jsonl: Callable[..., Path], tmp_path: Path, share: float, seed: int, **asked: Any
) -> tuple[Cut, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """With this share of bad rows, nine in ten of them among the closest 2 % of the reference: the cut,
    which rows went, and which are bad."""
    rng = np.random.default_rng(seed)
    bad = rng.random(ROWS) < share
    place = np.where(
        bad & (rng.random(ROWS) < 0.9), 0.98 + 0.02 * rng.random(ROWS), rng.random(ROWS)
    )
    source = Source.open(jsonl(rows(ROWS)))
    scores = write_scores(
        source, tmp_path / "s.parquet", (1 - place).tolist(), reference_rows=REFERENCE,
        reference={"groups": float(REFERENCE), "held_out": []},
    )  # fmt: skip
    choice = choose(candidates_of(source, scores), Selection(drop="auto", **asked))
    assert choice.cut is not None
    return choice.cut, choice.dropped, bad


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_as_many_rows_go_as_are_bad(
    jsonl: Callable[..., Path], tmp_path: Path, share: float
) -> None:
    cut, dropped, bad = cut_of(jsonl, tmp_path, share, 3)
    assert cut.low < bad.mean() < cut.high
    assert abs(dropped.mean() - bad.mean()) < 0.1
    assert dropped.sum() == cut.rows
    assert cut.proven <= bad.mean()
    harmless = (dropped & ~bad).sum()
    assert abs(cut.costs[0].harmless - harmless) < 0.1 * ROWS
    assert "99% confidence" in " ".join(cut_words(_fields(cut)))


def test_of_good_rows_hardly_any_goes(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    cuts = [cut_of(jsonl, tmp_path, 0.0, seed)[0] for seed in range(12)]
    assert max(cut.rows for cut in cuts) <= 0.01 * ROWS
    assert sum(cut.rows == 0 for cut in cuts) >= 11
    said = " ".join(cut_words(_fields(next(cut for cut in cuts if not cut.rows))))
    assert "nothing is dropped" in said
    assert "could not be proven" in said


def test_a_false_discovery_rate_is_held(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    false = []
    for seed in range(6):
        cut, dropped, bad = cut_of(jsonl, tmp_path, 0.3, seed, drop_fdr=0.2)
        assert cut.rule == "fdr"
        assert dropped.sum() > 50
        false.append((dropped & ~bad).sum() / dropped.sum())
    assert np.mean(false) < 0.2


def test_the_curve_and_the_costs_add_up(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    cut, _, _ = cut_of(jsonl, tmp_path, 0.3, 5)
    for cost in cut.costs:
        assert math.isclose(cut.rows - cost.harmless + cost.missed, cost.bad * cut.of, abs_tol=1e-6)
    stay = [point[2] for point in cut.curve]
    assert stay == sorted(stay, reverse=True)
    assert cut.curve[0][0] == 0
    assert cut.curve[-1][0] == 1
    assert cut.curve[-1][1] == pytest.approx(1 - cut.bad)
    assert sum(nearest for *_, nearest in curve_rows(_fields(cut))) == 1


def test_a_cut_finer_than_the_curve_has_its_own_line(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    """Of 600 rows 2 go: the line of the cut must not say what dropping 4 % would do."""
    cut, _, _ = cut_of(jsonl, tmp_path, 0.3, 5)
    cost = replace(cut.costs[0], harmless=0.5, missed=cut.bad * cut.of - 1.5)
    fine = replace(cut, rows=2, costs=(cost, *cut.costs[1:]))
    [(share, harmless, stay, _)] = [row for row in curve_rows(_fields(fine)) if row[3]]
    assert (share, harmless) == (2 / ROWS, 0.25)
    assert stay == pytest.approx(1 - 1.5 / (cut.bad * ROWS))
    shares = [row[0] for row in curve_rows(_fields(fine))]
    assert shares == sorted(set(shares))


def test_where_nothing_goes_no_line_is_the_cut(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    cut, _, _ = cut_of(jsonl, tmp_path, 0.3, 5)
    assert not any(nearest for *_, nearest in curve_rows(_fields(replace(cut, rows=0))))


def test_like_rows_say_less(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    """Thirty answers to each of twenty prompts, all of a prompt equally close: nothing is certain."""
    place = np.repeat(np.linspace(0.2, 1, 20), 30)
    for name, alike in (("alike", True), ("apart", False)):
        data = [
            {
                **row,
                **(
                    chat(f"prompt number {i // 30}", f"answer {i} {WORDS[i % 12]}") if alike else {}
                ),
            }
            for i, row in enumerate(rows(ROWS))
        ]
        source = Source.open(jsonl(data, f"{name}.jsonl"))
        scores = write_scores(
            source, tmp_path / f"{name}.parquet", (1 - place).tolist(), reference_rows=REFERENCE,
            reference={"groups": float(REFERENCE), "held_out": []},
        )  # fmt: skip
        cut = auto_cut(candidates_of(source, scores))
        assert (cut.effective_rows < 40) == alike
        assert (cut.rows == 0) == alike


def test_without_percentiles_it_says_what_to_do(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    source = Source.open(jsonl(rows(40)))
    scores = write_scores(source, tmp_path / "s.parquet", reference_rows=0)
    with pytest.raises(SaefilterError, match=r"--drop auto needs percentiles.*--reference"):
        filter_file(source, scores, tmp_path / "out.parquet", Selection(drop="auto"))
    assert not (tmp_path / "out.parquet").exists()


def test_a_set_that_tells_nothing_is_refused(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    source = Source.open(jsonl(rows(40)))
    scores = write_scores(
        source, tmp_path / "s.parquet", reference={"groups": 50.0, "auroc": [0.55, 0.4, 0.7]}
    )
    with pytest.raises(SaefilterError, match="tells bad rows from harmless ones"):
        filter_file(source, scores, tmp_path / "out.parquet", Selection(drop="auto"))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"drop": "auto", "drop_frac": 0.1}, "in exactly one way"),
        ({"drop": "some"}, "--drop 'some' is not known"),
        ({"drop_frac": 0.1, "drop_fdr": 0.1}, "no effect without --drop auto"),
        ({"drop_fdr": 0.1}, r"no effect without --drop auto.*--drop auto --drop-fdr 0\.1"),
        ({"drop": "auto", "drop_fdr": 1.5}, "out of range"),
        ({"drop": "auto", "strategy": "random"}, "--drop does not go with --strategy random"),
        ({"min_distance": 0.1, "keep_balance": "a"}, "does not go with --min-distance"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(SaefilterError, match=says):
        Selection(**asked).check()


def _fields(cut: Cut) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(cut)


def test_what_a_review_dropped_is_among_the_bad_rows_that_were_estimated(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    """As many rows go in all as without decisions, less what cannot go; the estimate is over all rows."""
    rng = np.random.default_rng(3)
    place = np.where(rng.random(ROWS) < 0.3, 0.98 + 0.02 * rng.random(ROWS), rng.random(ROWS))
    source = Source.open(jsonl(rows(ROWS)))
    scores = write_scores(
        source, tmp_path / "s.parquet", (1 - place).tolist(), reference_rows=REFERENCE,
        reference={"groups": float(REFERENCE), "held_out": []},
    )  # fmt: skip
    candidates, asked = candidates_of(source, scores), Selection(drop="auto")
    cut = auto_cut(candidates)
    closest = np.argsort(-place)
    keep, drop = tuple(closest[:5].tolist()), tuple(closest[-7:].tolist())
    decisions = decisions_on(scores, tmp_path / "d.json", keep, drop)
    choice = choose_decided(candidates, asked, decisions)
    assert choice.cut == cut
    expected = {*drop, *closest[5 : 5 + cut.rows - 7].tolist()}
    assert set(np.flatnonzero(choice.dropped).tolist()) == expected
    result = filter_file(source, scores, tmp_path / "out.jsonl", asked, decisions=decisions)
    assert result.report.counts["dropped"] == cut.rows
