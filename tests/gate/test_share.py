"""The share of bad rows: drawn files whose share is known, and what the gate then says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scored import provenance_of, write_scores
from test_chance import entry, independent, judged, unlike

from saefilter.errors import SaefilterError
from saefilter.gate import words
from saefilter.gate.evaluate import evaluate
from saefilter.gate.policy import Policy, choose_policy
from saefilter.gate.share import bad_share
from saefilter.gate.verdict import BadShare, Outcome, Suggested
from saefilter.rows.read import Source
from saefilter.scoring.harmless import Harmless, least_share
from saefilter.toxic.toxicset import UNLIKE

DRAWS = 300


def drawn(bad: float, rng: np.random.Generator, n: int = 400, m: int = 300,
          shift: float = 2.0, calmer: float = 0.0) -> BadShare:  # fmt: skip
    """What is said of `n` rows, a share of `bad` of them bad: closer by `shift` deviations than the
    others, which are `calmer` deviations farther than the `m` reference rows."""
    reference = np.sort(rng.normal(size=m))
    is_bad = np.arange(n) < round(bad * n)
    closeness = rng.normal(size=n) + np.where(is_bad, shift, -calmer)
    above = m - np.searchsorted(reference, closeness, "right")
    made = provenance_of(reference_rows=m, reference={"groups": float(m), "held_out": []})
    return bad_share(made, independent(n), lambda at: above < int(at / 100 * (m + 1)), 5.0, True)


@pytest.mark.parametrize("bad", [0.0, 0.1, 0.4])
def test_no_more_is_proven_than_there_is(bad: float) -> None:
    rng = np.random.default_rng(0)
    least = np.array([drawn(bad, rng).least for _ in range(DRAWS)])
    # 95 % of the draws at least; so many of 300 would be rarer than one in a thousand at 95 %
    assert (least > bad + 1e-9).sum() <= 0.05 * DRAWS + 3.1 * np.sqrt(0.05 * 0.95 * DRAWS)


def test_most_of_what_there_is_is_proven_where_bad_rows_are_close() -> None:
    rng = np.random.default_rng(1)
    least = [drawn(0.3, rng, m=3000, shift=4.0).least for _ in range(20)]
    assert min(least) > 0.2
    calm = [drawn(0.3, rng, m=3000, shift=2.0, calmer=2.0).least for _ in range(20)]
    assert max(calm) < 0.2  # what the sentence beside it says: too few where the others are calmer


@given(
    n=st.integers(30, 400), flagged=st.floats(0, 1), more=st.floats(0, 0.3),
    rank=st.integers(1, 30), rows=st.integers(60, 2000),
)  # fmt: skip
def test_more_flagged_rows_prove_no_less_and_never_more_than_are_flagged(
    n: int, flagged: float, more: float, rank: int, rows: int
) -> None:
    harmless = Harmless(rank, rows, float(rows))
    share = round(flagged * n) / n
    higher = min(1.0, share + round(more * n) / n)
    least = least_share(share, n, harmless, 0.01)
    assert 0 <= least <= share
    # rows are whole, so that taking bad ones out moves by steps of one
    assert least_share(higher, n, harmless, 0.01) >= least - 2 / n


def test_what_is_suggested_is_the_share_that_was_mixed() -> None:
    rng, within = np.random.default_rng(2), 0
    held_out = [entry("benign", 0.05), entry("toxic", 0.6)]
    made = provenance_of(reference_rows=3000, reference={"groups": 900.0, "held_out": held_out})
    for _ in range(DRAWS):
        rates = np.array([rng.normal(one["rate"], 0.02 / 1.96) for one in held_out])
        flagged = rng.random(400) < np.where(np.arange(400) < 120, rates[1], rates[0])
        found = bad_share(made, independent(400), lambda _, f=flagged: f, 5.0, True)
        (one,) = found.suggested
        assert one.low <= one.share <= one.high
        within += one.low <= 0.3 <= one.high
    assert 0.91 * DRAWS < within < 0.99 * DRAWS


def test_the_rule_is_on_what_is_certain_and_said_in_words(jsonl: Callable[..., Path]) -> None:
    rows = [unlike(i) for i in range(100)]
    known = {"held_out": [entry("benign", 0.05), entry("toxic", 0.6)]}
    verdict = judged(jsonl, rows, 40, Policy(max_bad_share=20.0), reference=known)
    (rule,) = verdict.rules
    assert rule.rule == "max-bad-share"
    assert 25 < rule.measured < 40
    assert not rule.passed
    assert rule.rows
    assert judged(jsonl, rows, 40, Policy(max_bad_share=40.0), reference=known).passed
    outcome = Outcome([verdict])
    said = words.to_text(outcome)
    assert "Bad rows, if this data's harmless rows are like the reference: at least 3" in said
    assert "if they are like those held out of answers" in said
    assert "at least 3" in words.to_markdown(outcome)
    (entry_of,) = json.loads(words.to_json(outcome))["verdicts"]
    assert entry_of["bad_share"]["least"] == pytest.approx(rule.measured / 100, rel=1e-3)
    harmless = words.to_text(Outcome([judged(jsonl, rows, 0, reference=known)]))
    assert "like the reference: none for certain" in harmless


def test_of_data_unlike_the_reference_the_verdict_says_so_each_time(
    jsonl: Callable[..., Path],
) -> None:
    """Said once, when the scores were made, it was missing beside the shares that it voids: of XSTest,
    127 of whose 300 rows are unsafe, a later `check` said "at least 65%" and nothing else."""
    rows, note = [unlike(i) for i in range(100)], f"{UNLIKE}: the rows are short. a note"
    known = {"held_out": [entry("benign", 0.05), entry("toxic", 0.6)]}
    verdict = judged(jsonl, rows, 40, reference=known, note=note)
    said = words.to_text(words.said_once(Outcome([verdict]), {verdict.input}))
    assert "are like the reference (the note doubts it): at least 3" in said
    assert f"Note: {UNLIKE}" in said


def test_no_guess_is_said_that_is_less_than_what_is_proven(jsonl: Callable[..., Path]) -> None:
    """The tutorial's own file read `at least 5.9%; 0.72% (0% to 21%)`."""
    known = {"held_out": [entry("benign", 0.05), entry("toxic", 0.6)]}
    verdict = judged(jsonl, [unlike(i) for i in range(100)], 40, reference=known)
    sources = (Suggested("a", 0.01, 0.0, 0.2), Suggested("b", 0.01, 0.0, 0.03), Suggested("c", 0.2, 0.1, 0.3))  # fmt: skip
    share = BadShare(0.06, 5.0, sources)
    said = words.to_text(Outcome([replace(verdict, bad_share=share)]))
    assert "at least 6% of the scored rows (95% confidence); up to 20% if" in said
    assert "20% (10% to 30%) if they are like those held out of c." in said
    assert "held out of b" not in said


def test_more_flagged_rows_than_bad_data_have_are_not_called_certain(
    jsonl: Callable[..., Path],
) -> None:
    """Of rows closer than the contrast's bad ones the guess was `100% (100% to 100%)`."""
    known = {"held_out": [entry("benign", 0.05), entry("toxic", 0.3)]}
    said = words.to_text(
        Outcome([judged(jsonl, [unlike(i) for i in range(100)], 90, reference=known)])
    )
    assert "more are flagged than if all rows were like those held out of answers." in said
    assert "100% to 100%" not in said


def test_without_percentiles_there_is_no_share(jsonl: Callable[..., Path]) -> None:
    rows = [unlike(i) for i in range(30)]
    verdict = judged(jsonl, rows, 10, Policy(max_proximity=2.0), reference_rows=0)
    assert verdict.bad_share is None
    assert "Bad rows" not in words.to_text(Outcome([verdict]))
    source = Source.open(jsonl(rows, "bare.jsonl"))
    bare: dict[str, Any] = {"reference_rows": 0}
    scores = write_scores(source, source.path.with_suffix(".scores.parquet"), [0.1] * 30, **bare)
    with pytest.raises(SaefilterError, match="percentiles"):
        evaluate(source, scores, Policy(max_bad_share=5.0))


def test_it_is_an_option_of_the_project() -> None:
    assert choose_policy({"max_bad_share": "5%"}).limits() == {"max_bad_share": 5.0}
