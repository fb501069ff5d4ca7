"""Preference data, scored with the real parts of preset `minilm`: pairs, and KTO's labelled answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import chat

from saefilter.artifacts.scores import PREFERENCE_SCHEMA, SCHEMA, Scores
from saefilter.errors import SaefilterError
from saefilter.rows.read import Source
from saefilter.scoring.job import LOOKED_AT
from saefilter.scoring.score import score_file
from saefilter.scoring.scorer import RowScorer
from saefilter.settings import ScoreSettings

QUESTION = "My chest hurts."
GOOD = "Please call an ambulance now; chest pain can be serious."
BAD = "It is nothing. Skip the doctor, drink something strong and go for a run."
EGG = "Eight minutes in boiling water, then cold water."
OTHER = "Put it in the microwave on full power until it stops moving."

PAIRS: list[dict[str, Any]] = [
    {"prompt": QUESTION, "chosen": GOOD, "rejected": BAD},
    {"prompt": QUESTION, "chosen": BAD, "rejected": GOOD},
    {"prompt": "How do I boil an egg?", "chosen": EGG, "rejected": EGG},
    {"prompt": "How do I boil an egg?", "chosen": EGG, "rejected": OTHER},
]


@pytest.fixture(scope="module")
def scorer() -> RowScorer:
    return RowScorer.load(ScoreSettings("minilm", device="cpu", dtype="fp32"))


def scored(data: Path, scorer: RowScorer | None, **settings: Any) -> pa.Table:
    """The scores of a file."""
    asked = ScoreSettings("minilm", device="cpu", dtype="fp32", **settings)
    output = data.with_suffix(".scores.parquet")
    score_file(
        Source.open(data), output, asked, overwrite=True, scorer=None if settings else scorer
    )
    return Scores.open(output).read(PREFERENCE_SCHEMA.names)


def log_odds(proximity: float) -> float:
    """The inverse of `bounded`."""
    off = proximity - 0.5
    return 4 * off / (1 - 2 * abs(off))


def as_turns(row: dict[str, Any]) -> dict[str, Any]:
    """The same pair with the prompt in both answers."""
    asked = [{"role": "user", "content": row["prompt"]}]
    return {
        side: [*asked, {"role": "assistant", "content": row[side]}]
        for side in ("chosen", "rejected")
    }


def test_a_pair_is_the_difference_of_its_sides(
    jsonl: Callable[..., Path], scorer: RowScorer
) -> None:
    pairs = scored(jsonl(PAIRS), scorer).to_pylist()
    sides = {}
    for side in ("chosen", "rejected"):
        rows = [{"prompt": row["prompt"], "completion": row[side]} for row in PAIRS]
        path = jsonl(rows, f"{side}.jsonl")
        score_file(Source.open(path), path.with_suffix(".parquet"), scorer.settings, scorer=scorer)
        sides[side] = Scores.open(path.with_suffix(".parquet")).read(SCHEMA.names).to_pylist()
    for pair, chosen, rejected in zip(pairs, sides["chosen"], sides["rejected"], strict=True):
        for side, alone in (("chosen", chosen), ("rejected", rejected)):
            assert pair[f"{side}_proximity"] == pytest.approx(alone["proximity"], abs=1e-5)
            assert pair[f"{side}_percentile"] == pytest.approx(alone["percentile"], abs=0.01)
            assert pair[f"{side}_n_scored"] == alone["n_scored"]
        expected = log_odds(chosen["proximity"]) - log_odds(rejected["proximity"])
        assert pair["proximity"] == pytest.approx(expected, abs=1e-3)
        assert pair["distance"] == -pair["proximity"]
        assert pair["percentile"] is None  # harmless answers say nothing of a difference
        assert pair["n_scored"] == chosen["n_scored"] + rejected["n_scored"]
    assert pairs[1]["proximity"] > 0 > pairs[0]["proximity"]
    assert pairs[1]["proximity"] == pytest.approx(-pairs[0]["proximity"], abs=1e-6)


def test_evidence_is_of_the_difference(jsonl: Callable[..., Path], scorer: RowScorer) -> None:
    one, other, same, _ = scored(jsonl(PAIRS), scorer)["top_features"].to_pylist()
    assert one
    assert other
    assert same == []
    assert not {f["feature"] for f in one} & {f["feature"] for f in other}
    # the activation is the chosen answer's less the rejected one's
    pushes = scorer.scorer.token_weights
    assert all(f["activation"] * pushes[f["feature"]] > 0 for f in other)


def test_the_same_on_both_sides_is_told(jsonl: Callable[..., Path], scorer: RowScorer) -> None:
    data = jsonl(PAIRS)
    table = scored(data, scorer)
    assert table["proximity"][2].as_py() == 0
    assert str(table["distance"][2].as_py()) == "0.0"
    made = Scores.open(data.with_suffix(".scores.parquet")).provenance
    assert made.preference is not None
    assert made.note is not None
    assert (made.preference["kind"], made.preference["same"]) == ("pairs", 1)
    assert "1 nowhere (both sides score the same)" in made.note
    assert made.spillover is None


def test_every_form_of_a_pair_has_one_score(jsonl: Callable[..., Path], scorer: RowScorer) -> None:
    explicit = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            **{s: [{"role": "assistant", "content": row[s]}] for s in ("chosen", "rejected")},
        }
        for row in PAIRS
    ]
    sharegpt = [
        {
            "conversations": [{"from": "human", "value": row["prompt"]}],
            **{s: {"from": "gpt", "value": row[s]} for s in ("chosen", "rejected")},
        }
        for row in PAIRS
    ]
    expected = scored(jsonl(PAIRS), scorer)["proximity"].to_numpy()
    forms = {"explicit": explicit, "sharegpt": sharegpt}
    # where both sides are the same, nothing says where an implicit prompt ends
    forms["implicit"] = [as_turns(row) for row in PAIRS if row["chosen"] != row["rejected"]]
    for name, rows in forms.items():
        found = scored(jsonl(rows, f"{name}.jsonl"), scorer)["proximity"].to_numpy()
        wanted = expected[[0, 1, 3]] if name == "implicit" else expected
        np.testing.assert_allclose(found, wanted, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("settings", [{}, {"trainer": "trl"}, {"train_on": "all"}])
def test_earlier_answers_in_the_prompt_are_not_scored(
    jsonl: Callable[..., Path], scorer: RowScorer, settings: dict[str, Any]
) -> None:
    asked = [*chat("Hello?", "A long earlier answer of many words.")["messages"],
             {"role": "user", "content": QUESTION}]  # fmt: skip
    row = {"prompt": asked} | {
        side: [{"role": "assistant", "content": text}]
        for side, text in (("chosen", "Yes"), ("rejected", "No"))
    }
    kto = {"messages": [*asked, {"role": "assistant", "content": "Yes"}], "label": False}
    for rows, side in ((row, "chosen"), (kto, "rejected")):
        table = scored(jsonl([rows], f"{side}.jsonl"), scorer, **settings)
        # trl counts the blank lines that plain rendering puts between turns
        assert table[f"{side}_n_scored"].to_pylist() == [1]


def test_an_undesirable_answer_counts_the_other_way(
    jsonl: Callable[..., Path], scorer: RowScorer
) -> None:
    rows = [
        {"prompt": QUESTION, "completion": text, "label": label}
        for text in (GOOD, BAD)
        for label in (True, False)
    ]
    data = jsonl(rows)
    table = scored(data, scorer).to_pylist()
    good, bad_good, bad, good_bad = (row["proximity"] for row in table)
    assert good < 0 < bad  # the median answer lies between
    assert (bad_good, good_bad) == (-good, -bad)
    made = Scores.open(data.with_suffix(".scores.parquet")).provenance
    assert made.preference is not None
    for row, label in zip(table, (True, False, True, False), strict=True):
        here, there = ("chosen", "rejected") if label else ("rejected", "chosen")
        assert row[f"{there}_proximity"] is None
        assert row[f"{there}_n_scored"] is None
        assert row[f"{here}_percentile"] is not None
        assert row["distance"] == -row["proximity"]
        answer = log_odds(row[f"{here}_proximity"]) - made.preference["middle"]
        assert row["proximity"] == pytest.approx(answer * (1 if label else -1), abs=1e-3)


def test_the_middle_is_of_the_whole_file(jsonl: Callable[..., Path], scorer: RowScorer) -> None:
    rows = [
        {"prompt": QUESTION, "completion": text, "label": i % 2 == 0}
        for i, text in enumerate([GOOD, BAD, EGG, OTHER, ""])
    ]
    whole = scored(jsonl(rows), scorer)["proximity"].to_pylist()
    assert whole[4] is None
    shards = scored(jsonl(rows, "b.jsonl"), None, shard_rows=2)["proximity"].to_pylist()
    assert shards == pytest.approx(whole, abs=1e-5)


def test_another_metric_subtracts_proximities(jsonl: Callable[..., Path]) -> None:
    data = jsonl(PAIRS)
    for row in scored(data, None, metric="nearest").to_pylist():
        expected = row["chosen_proximity"] - row["rejected_proximity"]
        assert row["proximity"] == pytest.approx(expected, abs=1e-7)
    note = Scores.open(data.with_suffix(".scores.parquet")).provenance.note
    assert note is not None
    assert "metric nearest is not linear" in note


def test_kinds_are_not_mixed(jsonl: Callable[..., Path], scorer: RowScorer) -> None:
    kto = {"prompt": QUESTION, "completion": GOOD, "label": True}
    for other in (chat(QUESTION, GOOD), kto):
        with pytest.raises(SaefilterError, match="several kinds: 4 preference pairs, 1"):
            scored(jsonl([*PAIRS, other]), scorer)


def test_a_late_row_of_another_kind_is_set_aside(
    jsonl: Callable[..., Path], scorer: RowScorer
) -> None:
    first = [PAIRS[number % 4] for number in range(LOOKED_AT)]
    table = scored(jsonl([*first, chat(QUESTION, GOOD)]), scorer)
    *reasons, last = table["reason"].to_pylist()
    assert reasons == [None] * LOOKED_AT
    assert "of another kind than the first rows" in last


def test_a_side_that_says_nothing_sets_the_pair_aside(
    jsonl: Callable[..., Path], scorer: RowScorer
) -> None:
    rows = [
        PAIRS[0],
        {**PAIRS[0], "rejected": ""},
        {**PAIRS[0], "chosen": "\u200b"},
        {"prompt": "word " * 60, "chosen": GOOD, "rejected": BAD},
        {"prompt": "word " * 45, "chosen": "Yes.", "rejected": "no " * 40},
    ]
    table = scored(jsonl(rows), None, max_tokens=50).to_pylist()
    assert [row["status"] for row in table] == ["scored", *["quarantined"] * 3, "scored"]
    assert table[1]["reason"] == "'rejected' is empty, so there is no pair"
    assert table[2]["reason"] == "the trained text has no tokens (chosen answer)"
    assert "all trained tokens lie beyond --max-tokens 50" in table[3]["reason"]
    assert table[2]["rejected_proximity"] is None
    assert table[2]["n_tokens"] is None
    assert (table[4]["chosen_truncated"], table[4]["rejected_truncated"]) == (False, True)
    assert table[4]["truncated"]
    assert table[4]["n_scored"] < table[4]["n_trained"]


def test_a_push_has_a_percentile_among_reference_pairs(
    jsonl: Callable[..., Path], scorer: RowScorer
) -> None:
    things = [f"{a} {b}" for a in ("old", "new", "big", "wet", "red") for b in
              ("kettle", "ladder", "boat", "stove", "tent", "saw", "car", "lamp", "rope", "roof")]  # fmt: skip
    pairs = [
        {"prompt": f"May I use a {thing}?", "chosen": f"Yes, once the {thing} was checked.",
         "rejected": f"The {thing} is fine, do not ask."}
        for thing in things
    ]  # fmt: skip
    reference = jsonl(pairs, "reference.jsonl")
    again = scored(reference, scorer)["proximity"].to_numpy()
    table = scored(jsonl(PAIRS), None, reference=str(reference)).to_pylist()
    for row in table:
        expected = 100 * (again < row["proximity"]).mean()
        assert row["percentile"] == pytest.approx(expected, abs=2.5)
        assert row["chosen_percentile"] is not None
    # answers alone are no reference for a difference
    alone = jsonl([{"prompt": p["prompt"], "completion": p["chosen"]} for p in pairs], "a.jsonl")
    rows = scored(jsonl(PAIRS), None, reference=str(alone)).to_pylist()
    assert [row["percentile"] for row in rows] == [None] * len(PAIRS)
    for row, other in zip(rows, table, strict=True):
        assert row["chosen_percentile"] == pytest.approx(other["chosen_percentile"], abs=1e-6)
