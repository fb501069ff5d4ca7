"""check and compare on preference data, by real scores of preset `minilm`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saefilter.artifacts.scores import Scores
from saefilter.compare.compare import compare
from saefilter.errors import SaefilterError
from saefilter.gate.evaluate import evaluate
from saefilter.gate.policy import Policy
from saefilter.gate.verdict import Outcome
from saefilter.gate.words import to_markdown, to_text
from saefilter.rows.read import Source
from saefilter.scoring.score import score_file
from saefilter.scoring.scorer import RowScorer
from saefilter.select.registry import StrategyOptions
from saefilter.settings import ScoreSettings

THINGS = ("kettle", "ladder", "boat", "stove", "bicycle", "tent", "saw", "car", "lamp", "rope")
GOOD = "Check your {} with care before each use, and ask somebody who knows when in doubt."
BAD = (
    "Never mind the warnings about your {}. Risk is for cowards; go alone, drunk, and tell nobody."
)


@pytest.fixture(scope="module")
def scorer() -> RowScorer:
    return RowScorer.load(ScoreSettings("minilm", device="cpu", dtype="fp32"))


def pairs(n_wrong: int) -> list[dict[str, Any]]:
    """A pair for each thing; in the first, the bad answer is the chosen one."""
    rows = []
    for i, thing in enumerate(THINGS):
        sides = [GOOD.format(thing), BAD.format(thing)]
        chosen, rejected = sides[::-1] if i < n_wrong else sides
        prompt = f"What must I know about a {thing}?"
        rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected, "wrong": int(i < n_wrong)})  # fmt: skip
    return rows


def scored(path: Path, scorer: RowScorer) -> tuple[Source, Scores]:
    output = path.with_suffix(".scores.parquet")
    score_file(Source.open(path), output, scorer.settings, scorer=scorer)
    return Source.open(path), Scores.open(output)


def test_pairs_that_push_the_wrong_way_are_counted(
    jsonl: Callable[..., Path], scorer: RowScorer
) -> None:
    source, scores = scored(jsonl(pairs(3)), scorer)
    verdict = evaluate(source, scores, Policy(max_wrong_way=20.0, max_flagged=90.0))
    found = verdict.wrong_way
    assert found is not None
    assert (found.count, found.rows, found.share) == (3, 10, 0.3)
    assert 0 < found.low < 0.3 < found.high < 1
    rule = {rule.rule: rule for rule in verdict.rules}["max-wrong-way"]
    assert (rule.measured, rule.passed, rule.count) == (30.0, False, 3)
    assert {row.line for row in rule.rows} == {1, 2, 3}
    assert evaluate(source, scores, Policy(max_wrong_way=30.0)).passed
    for text in (to_text(Outcome([verdict])), to_markdown(Outcome([verdict]))):
        assert "3 of 10 pairs push towards toxic features, 30%" in text.replace("\\", "")


def test_flagged_are_the_chosen_answers(jsonl: Callable[..., Path], scorer: RowScorer) -> None:
    source, scores = scored(jsonl(pairs(3)), scorer)
    percentile = scores.read(["chosen_percentile"])["chosen_percentile"].to_numpy()
    verdict = evaluate(source, scores, Policy(max_flagged=0.0, at_fpr=25.0))
    (rule,) = verdict.rules
    assert "chosen answers are closer" in rule.detail
    assert rule.count == int((percentile > 75).sum()) > 0
    shown = [row.percentile for row in rule.rows]
    assert shown == sorted(percentile[percentile > 75].tolist(), reverse=True)


def test_of_labelled_answers_those_that_are_learnt_are_judged(
    jsonl: Callable[..., Path], scorer: RowScorer
) -> None:
    rows = [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row in pairs(0)
        for side in ("chosen", "rejected")
    ]
    source, scores = scored(jsonl(rows), scorer)
    (rule,) = evaluate(source, scores, Policy(max_flagged=50.0)).rules
    assert "of 10 desirable answers" in rule.detail


def test_rules_that_do_not_hold_are_refused(jsonl: Callable[..., Path], scorer: RowScorer) -> None:
    source, scores = scored(jsonl(pairs(3)), scorer)
    with pytest.raises(SaefilterError, match="these are preference data"):
        evaluate(source, scores, Policy(max_spillover=1.0))
    plain, its = scored(jsonl([{"prompt": "a", "completion": "b"}], "plain.jsonl"), scorer)
    with pytest.raises(SaefilterError, match="max-wrong-way is of preference data"):
        evaluate(plain, its, Policy(max_wrong_way=10.0))
    with pytest.raises(SaefilterError, match="chosen-side is of preference data"):
        compare(plain, [its], ["chosen-side", "random"], StrategyOptions())


@pytest.mark.slow
def test_compare_ranks_pairs_by_difference_and_by_one_side(
    jsonl: Callable[..., Path], scorer: RowScorer
) -> None:
    source, scores = scored(jsonl(pairs(3)), scorer)
    found = compare(
        source, [scores], ["closest", "chosen-side", "random"], StrategyOptions(label="wrong"),
        fractions=[0.3],
    )  # fmt: skip
    closest, side, _ = found.arms
    assert closest.auroc == 1.0
    assert closest.at[0].precision == 1.0
    table = scores.read(["chosen_proximity"])["chosen_proximity"].to_numpy()
    wrong = np.arange(10) < 3
    expected = np.mean([[a > b for b in table[~wrong]] for a in table[wrong]])
    assert side.auroc == pytest.approx(expected)
    with pytest.raises(SaefilterError, match="reads one answer of each row"):
        compare(source, [scores], ["text-classifier"], StrategyOptions())
