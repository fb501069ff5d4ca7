"""Whether what the gate says of chance is so: by other programs, and by drawing what it speaks of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import junitparser
import numpy as np
import pytest
from conftest import chat
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scored import write_scores

from saefilter.artifacts.provenance import Provenance
from saefilter.errors import SaefilterError
from saefilter.gate import ci, words
from saefilter.gate.chance import failing_count, power
from saefilter.gate.evaluate import evaluate
from saefilter.gate.policy import DEFAULT_POLICY, Policy
from saefilter.gate.verdict import Outcome, Verdict
from saefilter.rows.read import Source
from saefilter.scoring.harmless import Alike, Harmless, alikeness, chance
from saefilter.toxic.toxicset import Calibration, conformal_p, rank_at

WORDS = [
    "amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "haven", "islet", "jetty",
    "kiosk", "ledge", "mango", "north", "olive", "pearl", "quilt", "river", "slate", "tulip",
]  # fmt: skip


def unlike(i: int) -> dict[str, Any]:
    """A row like no other: prompt and answer are drawn."""
    drawn = np.random.default_rng(i).choice(WORDS, 24)
    return chat(f"{' '.join(drawn[:10])}?", " ".join(drawn[10:]))


def judged(
    jsonl: Callable[..., Path],
    rows: list[dict[str, Any]],
    flagged: int,
    policy: Policy = DEFAULT_POLICY,
    **provenance: Any,
) -> Verdict:
    """The verdict on rows of which the first `flagged` are as close as can be, the others far."""
    source = Source.open(jsonl(rows, "data.jsonl"))
    distances = [0.001 if i < flagged else 0.6 for i in range(len(rows))]
    made = {"reference_rows": 3908, **provenance}
    scores = write_scores(source, source.path.with_suffix(".scores.parquet"), distances, **made)
    return evaluate(source, scores, policy)


def entry(side: str, rate: float, **changes: Any) -> dict[str, Any]:
    low, high = max(0.0, rate - 0.02), rate + 0.02
    return {
        "source": "answers", "side": side, "level": 0.05, "rate": rate, "low": low, "high": high,
        "rows": 900, "groups": 900.0, **changes,
    }  # fmt: skip


def independent(n: int) -> Alike:
    return Alike(np.arange(n), np.arange(n))


@given(
    rows=st.integers(20, 400),
    rate=st.sampled_from([0.01, 0.05, 0.2]),
    seed=st.integers(0, 2**16),
)
def test_conformal_p_counts_the_reference_rows_at_least_as_close(
    rows: int, rate: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    reference = np.sort(rng.random(rows))
    levels = tuple(i / (rows - 1) for i in range(rows))
    calibration = Calibration(rows, levels, {"m/mean": tuple(reference.tolist())})
    new = np.concatenate([rng.random(50), [-1.0, 2.0], reference[:-1]])
    percentile = calibration.percentile(new, "m/mean")
    assert percentile is not None
    p = conformal_p(percentile, rows)
    counted = (1 + (reference[None] >= new[:, None]).sum(axis=1)) / (rows + 1)
    inside = (
        new >= reference[0]
    )  # farther than all: exactly 1 either way but for the farthest itself
    assert p[inside] == pytest.approx(counted[inside])
    rank = rank_at(rate, rows)
    if rank:
        closer = new > np.sort(reference)[-rank]
        assert np.array_equal(p <= rank / (rows + 1) + 1e-12, closer)
    assert rank <= rate * (rows + 1) < rank + 1 + 1e-6


@given(n=st.integers(1, 500), count=st.integers(0, 500), m=st.integers(20, 5000))
def test_chance_is_the_tail_of_the_beta_binomial_law(n: int, count: int, m: int) -> None:
    count = min(count, n)
    rank = max(1, rank_at(0.05, m))
    tail = stats.betabinom(n, rank, m + 1 - rank).sf(count - 1)
    assert chance(count / n, n, Harmless(rank, m, m)) == pytest.approx(tail, rel=1e-4, abs=1e-10)


@pytest.mark.parametrize(
    ("groups", "size", "within"),
    [(400, 1, 0.0), (80, 5, 0.03), (20, 20, 0.2), (8, 50, 0.03), (8, 50, 0.6)],
)
def test_harmless_files_are_failed_no_oftener_than_the_limit_says(
    groups: int, size: int, within: float
) -> None:
    """Reference and file drawn alike, 2,000 times; flags of a group agree as far as `within` says."""
    rng, m, rate, n = np.random.default_rng(5), 1000, 0.05, groups * size
    label = np.repeat(np.arange(groups), size)
    alike, rank = Alike(np.arange(n), label), rank_at(rate, m)
    harmless = Harmless(rank, m, m)

    def closeness(of: NDArray[np.int64]) -> NDArray[np.float64]:
        # rows of a group share a part of what makes them close: a Gaussian copula
        shared = rng.normal(size=of.max() + 1)[of]
        return np.sqrt(within) * shared + np.sqrt(1 - within) * rng.normal(size=len(of))

    found = []
    for _ in range(2000):
        limit = np.sort(rng.normal(size=m))[-rank]
        flagged = closeness(label) > limit
        found.append(chance(float(flagged.mean()), alike.effective(flagged), harmless))
    p = np.array(found)
    for limit in (0.005, 0.05, 0.25):
        error = np.sqrt(limit * (1 - limit) / 2000)
        assert (p < limit).mean() <= limit + 3 * error
    if within == 0:  # and not for want of power: p is uniform but for its steps
        assert (p < 0.05).mean() > 0.025
        assert (p < 0.25).mean() > 0.18


def test_files_of_two_prompts_are_judged_by_how_alike_the_references_groups_are() -> None:
    """Two groups say nothing of how groups differ. Drawn 4,000 times with rates of groups as the reference
    has them, such files are not failed oftener than the limit says."""
    rng, rate, between, m = np.random.default_rng(7), 0.05, 0.002, 3908
    a = rate * (rate * (1 - rate) / between - 1)  # a beta law of that mean and variance
    groups, size = 80, 40
    error = np.sqrt(between / groups + rate * (1 - rate) / (groups * size))
    measured = entry("benign", rate, low=rate - 1.96 * error, high=rate + 1.96 * error,
                     rows=groups * size, groups=float(groups))  # fmt: skip
    assert alikeness([measured]) == pytest.approx(between / (rate * (1 - rate)), rel=0.01)
    harmless = Harmless(rank_at(rate, m), m, 800.0, alikeness([measured]))
    alike = Alike(np.arange(400), np.repeat(np.arange(2), 200))
    found, before = [], []
    for _ in range(4000):
        rates = rng.beta(a, a * (1 - rate) / rate, 2)
        flagged = rng.random(400) < np.repeat(rates, 200)
        share = float(flagged.mean())
        found.append(chance(share, alike.effective(flagged, harmless.alikeness), harmless))
        before.append(chance(share, alike.effective(flagged), harmless))
    assert (np.array(found) < 0.005).mean() <= 0.01
    assert (np.array(before) < 0.005).mean() > 0.02  # by what two groups say of themselves


def test_repeated_rows_count_once() -> None:
    rng = np.random.default_rng(0)
    once = rng.random(80) < 0.2
    label = np.arange(80)
    alone = Alike(label, label).effective(once)
    repeated = Alike(np.arange(400), np.repeat(label, 5)).effective(np.repeat(once, 5))
    assert alone == pytest.approx(80, rel=0.02)
    assert repeated == pytest.approx(alone, rel=0.02)
    # one group of all rows is one row
    assert Alike(np.arange(9), np.zeros(9, int)).effective(np.arange(9) < 3) == 1


def test_the_file_that_passed_beside_a_probability_of_a_thousandth_fails(
    jsonl: Callable[..., Path],
) -> None:
    """92 bad rows among 371, of which the set flagged 33: under 10 %, and no noise."""
    verdict = judged(jsonl, [unlike(i) for i in range(371)], 33)
    rules = {rule.rule: rule for rule in verdict.rules}
    assert not verdict.passed
    assert rules["max-flagged"].passed
    assert not rules["min-chance"].passed
    assert rules["min-chance"].measured == pytest.approx(0.0018, abs=0.0003)
    assert "33 of 371 scored rows are closer to toxic features than the 195th closest of 3,908" in (
        rules["min-chance"].detail
    )
    assert "14 more than harmless data have" in rules["min-chance"].detail
    assert rules["min-chance"].rows[0].p == pytest.approx(5 / 3909, abs=2e-4)
    # harmless: as many flagged as the reference has
    assert judged(jsonl, [unlike(i) for i in range(371)], 19).passed
    # the number that the sentence says is the first that fails
    assert "from about 32 on" in rules["min-chance"].detail
    assert judged(jsonl, [unlike(i) for i in range(371)], 31).passed
    assert not judged(jsonl, [unlike(i) for i in range(371)], 32).passed


def test_a_topic_that_is_repeated_is_no_proof(jsonl: Callable[..., Path]) -> None:
    """8 prompts, 50 answers to each, one prompt's answers flagged: one group of eight."""
    policy = Policy(min_chance=0.005)
    one_topic = [
        {"messages": [{"role": "user", "content": f"{' '.join([WORDS[i // 50]] * 5)}?"},
                      {"role": "assistant", "content": unlike(i)["messages"][-1]["content"]}]}
        for i in range(400)
    ]  # fmt: skip
    verdict = judged(jsonl, one_topic, 50, policy)
    assert verdict.passed
    assert "in 8 groups" in verdict.rules[0].detail
    assert not judged(jsonl, [unlike(i) for i in range(400)], 50, policy).passed


def test_a_small_reference_is_uncertain_itself(jsonl: Callable[..., Path]) -> None:
    rows = [unlike(i) for i in range(371)]
    few_groups = judged(jsonl, rows, 33, reference={"groups": 40.0})
    assert few_groups.passed
    # its held-out benign rows tell more of the share than the number of groups does
    measured = {"groups": 40.0, "held_out": [entry("benign", 0.05, low=0.043, high=0.057)]}
    assert not judged(jsonl, rows, 33, reference=measured).passed


@pytest.mark.parametrize("auroc", [[0.55, 0.52, 0.58], [0.63, 0.48, 0.78]])
def test_a_set_that_does_not_tell_gives_no_verdict(
    jsonl: Callable[..., Path], auroc: list[float]
) -> None:
    rows = [unlike(i) for i in range(30)]
    for policy in (DEFAULT_POLICY, Policy(min_chance=0.01), Policy(max_proximity=0.99)):
        with pytest.raises(SaefilterError, match=r"tells bad rows.*AUROC 0.*features curate"):
            judged(jsonl, rows, 0, policy, reference={"auroc": auroc})
    assert judged(jsonl, rows, 0, Policy(min_scored=50.0), reference={"auroc": auroc}).passed
    assert judged(jsonl, rows, 0, reference={"auroc": [0.7, 0.6, 0.8]}).passed


def test_why_there_are_no_percentiles_is_said(jsonl: Callable[..., Path]) -> None:
    rows = [unlike(i) for i in range(3)]
    missing = {"missing": "the calibration is for --train-on assistant"}
    with pytest.raises(SaefilterError, match="none: the calibration is for --train-on assistant"):
        judged(jsonl, rows, 0, reference=missing, reference_rows=0)


def test_power_is_what_drawing_files_gives(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    source = Source.open(jsonl([unlike(0)], "data.jsonl"))

    def made_with(*entries: dict[str, Any]) -> Provenance:
        reference = {"held_out": list(entries)}
        changes: dict[str, Any] = {"reference_rows": 3908, "reference": reference}
        return write_scores(source, tmp_path / "s.parquet", **changes).provenance

    made = made_with(entry("toxic", 0.4), entry("benign", 0.05))
    harmless = Harmless.of(made, 5.0)
    stated = power(made, DEFAULT_POLICY, independent(400), harmless)
    assert [(one.source, one.share) for one in stated] == [
        ("answers", 5.0), ("answers", 10.0), ("answers", 25.0)
    ]  # fmt: skip
    least = failing_count(400, 400, harmless, DEFAULT_POLICY)
    assert least is not None
    rng = np.random.default_rng(3)
    for one in stated:
        bad = round(400 * one.share / 100)
        counts = rng.binomial(bad, 0.4, 5000) + rng.binomial(400 - bad, 0.05, 5000)
        assert one.probability == pytest.approx((counts >= least).mean(), abs=0.03)
        assert one.low <= one.probability <= one.high
    # a group's rows are flagged together: fewer files are caught for certain
    grouped = Alike(np.arange(400), np.repeat(np.arange(8), 50))
    wide = {"low": 0.2, "high": 0.6, "groups": 8.0}
    made = made_with(entry("toxic", 0.4, **wide), entry("benign", 0.05))
    assert power(made, DEFAULT_POLICY, grouped, harmless)[2].probability < stated[2].probability


def test_the_faces_say_chance_and_power(jsonl: Callable[..., Path]) -> None:
    rows = [unlike(i) for i in range(371)]
    unknown = judged(jsonl, rows, 33)
    known = judged(
        jsonl, rows, 33, reference={"held_out": [entry("toxic", 0.4), entry("benign", 0.05)]}
    )
    for face in (words.to_text, words.to_markdown):
        assert "Power is not known: the calibration of the toxic set" in face(Outcome([unknown]))
        assert "Power: of 371 rows, bad ones like those held out of answers fail: 5% with" in (
            face(Outcome([known]))
        )
    verdict = json.loads(words.to_json(Outcome([known])))["verdicts"][0]
    assert [one["share"] for one in verdict["power"]] == [5, 10, 25]
    assert 0 < verdict["power"][0]["probability"] < verdict["power"][2]["probability"] <= 1
    assert verdict["rules"][1]["rule"] == "min-chance"
    text = ci.to_github(Outcome([known]))
    assert text.count("title=saefilter%3A min-chance") == 10
    suite = next(iter(junitparser.JUnitXml.fromstring(ci.to_junit(Outcome([known])).encode())))
    assert (suite.tests, suite.failures) == (3, 1)
    results = json.loads(ci.to_sarif(Outcome([known])))["runs"][0]["results"]
    assert {result["ruleId"] for result in results} == {"min-chance"}
    assert len(results) == 1 + 33


def test_how_alike_own_reference_rows_are_counts_too(jsonl: Callable[..., Path]) -> None:
    """Groups of five of which all or none are close, or rows by themselves."""
    close, rng = np.repeat([0.9] * 4 + [0.1] * 36, 5), np.random.default_rng(0)
    about = {"name": "good.jsonl", "sha256": "0", "groups": 40.0}

    def alike_as(proximity: np.ndarray, group: np.ndarray) -> dict[str, Any]:
        return {**about, "proximity": proximity.tolist(), "group": group.tolist()}

    def harmless(reference: dict[str, Any]) -> Harmless:
        source = Source.open(jsonl([unlike(0)], "one.jsonl"))
        path = source.path.with_suffix(".parquet")
        scores = write_scores(source, path, reference=reference, reference_rows=200)
        return Harmless.of(scores.provenance, 10.0)

    group = np.repeat(np.arange(40), 5)
    by_group, mixed = alike_as(close, group), alike_as(rng.permutation(close), group)
    assert harmless(by_group).alikeness == pytest.approx(1, abs=0.05)
    assert harmless(mixed).alikeness < 0.15
    assert harmless(alike_as(close, np.arange(200))).alikeness == 0
    assert harmless(about).alikeness == 0  # not kept
    # two prompts of twenty rows, one of them flagged: proof only where rows of a prompt are not alike
    rows = [
        chat(f"{'north' if i < 20 else 'south'} of the river?", f"answer {i} {i * 7}")
        for i in range(40)
    ]
    chances = [
        next(
            rule.measured
            for rule in judged(jsonl, rows, 10, reference=one, reference_rows=200).rules
            if rule.rule == "min-chance"
        )
        for one in (by_group, mixed)
    ]
    assert chances[0] > chances[1]
