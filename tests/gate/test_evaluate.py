from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_scores import made_scores

from saefilter.errors import SaefilterError
from saefilter.gate.evaluate import evaluate
from saefilter.gate.policy import Policy
from saefilter.gate.verdict import RuleVerdict, Verdict, number, rounded
from saefilter.rows.inputs import open_input
from saefilter.rows.read import Source

PUSHES = [
    {"feature": 3, "label": "threats", "push": 0.0212345, "low": 0.011, "high": 0.03},
    {"feature": 5, "label": "insults", "push": 0.01, "low": 0.0, "high": 0.02},
]


def source_of(jsonl: Callable[..., Path], n_rows: int, name: str = "data.jsonl") -> Source:
    return Source.open(jsonl([{"text": f"row {i}"} for i in range(n_rows)], name))


def test_every_rule_with_measured_value_limit_and_worst_rows(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    source = source_of(jsonl, 10)
    percentiles = [
        10.0,
        99.5,
        None,
        95.1,
        20.0,
        30.0,
        95.0,  # the 50th closest of 1,000 is at 95.095
        100.0,
        0.0,
        None,
    ]
    scores = made_scores(source, tmp_path / "s.parquet", percentiles, spillover=PUSHES)
    policy = Policy(20.0, 5.0, None, 0.9, 0.02, 90.0, 20.0)
    verdict = evaluate(source, scores, policy)
    rules = {rule.rule: rule for rule in verdict.rules}
    assert {name: (rule.comparison, rule.passed) for name, rule in rules.items()} == {
        "max-flagged": ("37.5% > 20%", False),
        "max-proximity": ("1 > 0.9", False),
        "max-spillover": ("0.02123 > 0.02", False),
        "min-scored": ("80% < 90%", False),
        "max-quarantined": ("20% <= 20%", True),
    }
    assert [row.place for row in rules["max-flagged"].rows] == [
        f"{source.path}:8", f"{source.path}:2", f"{source.path}:4",
    ]  # fmt: skip
    assert rules["max-flagged"].rows[0].features == ("insults",)
    assert "3 of 8 scored rows" in rules["max-flagged"].detail
    assert "threats" in rules["max-spillover"].detail
    assert [row.line for row in rules["max-quarantined"].rows] == [3, 10]
    assert rules["max-quarantined"].rows[0].reason == "odd: insults"
    assert [row.row_id for row in rules["max-proximity"].rows] == [7, 1, 3, 6]
    assert not verdict.passed


@given(share=st.floats(0, 100), limit=st.floats(0, 100), at_least=st.booleans())
def test_what_is_printed_is_what_is_compared(share: float, limit: float, at_least: bool) -> None:
    limit = round(limit, 3)
    rule = RuleVerdict("r", rounded(share), limit, "%", at_least, "detail")
    left, sign, right = rule.comparison.replace("%", "").split()
    holds = {
        ">": float(left) > float(right), "<": float(left) < float(right),
        ">=": float(left) >= float(right), "<=": float(left) <= float(right),
    }  # fmt: skip
    assert holds[sign]
    assert rule.passed == (sign in ("<=", ">="))


@given(n=st.integers(1, 10**7))
def test_one_row_is_never_rounded_away(n: int) -> None:
    assert rounded(100 / n) > 0
    assert float(number(rounded(100 / n))) == rounded(100 / n)
    assert round(100 - rounded(100 / n), 10) < 100


def test_rules_that_lack_their_numbers_say_so(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    source = source_of(jsonl, 2)
    bare = made_scores(source, tmp_path / "bare.parquet", [10.0, 20.0], calibrated=False)
    with pytest.raises(
        SaefilterError, match=r"need percentiles.*no calibration for metric.*features calibrate"
    ):
        evaluate(source, bare, Policy(max_flagged=5.0))
    with pytest.raises(SaefilterError, match=r"max-spillover needs.*features calibrate"):
        evaluate(source, bare, Policy(max_spillover=0.1))
    assert evaluate(source, bare, Policy(max_proximity=0.5)).passed
    scores = made_scores(source, tmp_path / "s.parquet", [10.0, 20.0])
    with pytest.raises(SaefilterError, match=r"0.01% cannot be told from the 1,000 harmless rows"):
        evaluate(source, scores, Policy(max_flagged=5.0, at_fpr=0.01))


def test_scores_of_other_data_and_edited_scores_are_refused(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    source, other = source_of(jsonl, 2), source_of(jsonl, 3, "other.jsonl")
    scores = made_scores(source, tmp_path / "s.parquet", [10.0, 20.0])
    with pytest.raises(SaefilterError, match=r"other.jsonl is not the data"):
        evaluate(other, scores, Policy(max_flagged=5.0))
    (tmp_path / "s.parquet").write_bytes((tmp_path / "s.parquet").read_bytes()[:-40])
    with pytest.raises(SaefilterError, match=r"s\.parquet"):
        evaluate(source, scores, Policy(max_flagged=5.0))


def test_rows_of_a_folder_are_named_by_their_files(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    for name in ("a", "b"):
        jsonl([{"text": name}, {"text": name * 2}], f"data/{name}.jsonl")
    source = open_input(tmp_path / "data")
    scores = made_scores(source, tmp_path / "s.parquet", [1.0, 2.0, 3.0, 99.0])
    verdict: Verdict = evaluate(source, scores, Policy(max_flagged=5.0))
    assert verdict.rules[0].rows[0].place == f"{tmp_path / 'data' / 'b.jsonl'}:2"
