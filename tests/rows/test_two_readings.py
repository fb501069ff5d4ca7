"""Rows that fit two readings, and rows that say which answer is better: never scored by a guess."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from saefilter.columns import Columns
from saefilter.errors import SaefilterError
from saefilter.rows.formats import Ambiguous, RowProblem, recognise, understand
from saefilter.rows.read import Source
from saefilter.scoring.score import score_file
from saefilter.settings import ScoreSettings

Row = dict[str, Any]
CHAT = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
SHARED = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
GOOD, BAD = ({"from": "gpt", "value": text} for text in ("good", "bad"))
PAIR = {"chosen": "good", "rejected": "bad"}


@pytest.mark.parametrize(
    ("row", "both", "deciding"),
    [
        ({"messages": CHAT, "text": "t"}, ("'messages'", "'text'"),
         {"messages=messages": "a", "text=text": "t"}),
        ({"conversations": SHARED, "chosen": GOOD, "rejected": BAD},
         ("'conversations'", "'chosen' and 'rejected'"), {"conversations=conversations": "a"}),
        ({"conversations": SHARED, "chosen": GOOD}, ("'conversations'", "'chosen'"),
         {"conversations=conversations": "a"}),
        ({"prompt": "q", "completion": "a", **PAIR}, ("'completion'", "'chosen' and 'rejected'"),
         {"prompt=prompt,completion=completion": "a"}),
        ({"prompt": "q", "completion": "a", "messages": [*CHAT, *CHAT]},
         ("'messages'", "'prompt' and 'completion'"), {"prompt=prompt,completion=completion": "a"}),
        ({"instruction": "q", "output": "a", "text": "Below is q: a"},
         ("'instruction' and 'output'", "'text'"), {"instruction,output": "a"}),
        ({"question": "q", "answer": "a", "text": "t"}, ("'question' and 'answer'", "'text'"),
         {"text": "t"}),
    ],
)  # fmt: skip
def test_two_readings_are_an_error_that_names_both_and_what_decides(
    row: Row, both: tuple[str, str], deciding: dict[str, str]
) -> None:
    with pytest.raises(Ambiguous) as caught:
        recognise(row)
    said = str(caught.value)
    assert all(name in said for name in both)
    assert "--columns" in said
    for option, answer in deciding.items():
        assert recognise(row, Columns.parse(option))[-1].content == answer


@pytest.mark.parametrize(
    "row",
    [
        {"messages": CHAT, "text": ""}, {"messages": CHAT, "text": None},
        {"messages": CHAT, "conversations": CHAT}, {"messages": CHAT, "prompt": "q"},
        {"text": "t", "messages": []},
    ],
)  # fmt: skip
def test_one_reading_beside_nothing_or_beside_the_same(row: Row) -> None:
    assert recognise(row)[-1].content in ("a", "t")


@pytest.mark.parametrize(
    ("row", "prompt", "sides"),
    [
        ({"prompt": "q", **PAIR}, ["q"], ("good", "bad")),
        ({"chosen": "q: good", "rejected": "q: bad"}, ["q:"], (" good", " bad")),
        ({"prompt": CHAT[:1], "chosen": [{**CHAT[1], "content": "good"}],
          "rejected": [{**CHAT[1], "content": "bad"}]}, ["q"], ("good", "bad")),
        ({"chosen": [CHAT[0], {**CHAT[1], "content": "good"}],
          "rejected": [CHAT[0], {**CHAT[1], "content": "bad"}]}, ["q"], ("good", "bad")),
        # whole conversations whose prompt is told once more, as text
        ({"prompt": "q", "chosen": [CHAT[0], {**CHAT[1], "content": "good"}],
          "rejected": [CHAT[0], {**CHAT[1], "content": "bad"}]}, ["q"], ("good", "bad")),
        ({"conversations": SHARED[:1], "chosen": GOOD, "rejected": BAD}, ["q"], ("good", "bad")),
        # an earlier answer is no target
        ({"conversations": [*SHARED, SHARED[0]], "chosen": GOOD, "rejected": BAD}, ["q", "a", "q"],
         ("good", "bad")),
        ({"instruction": "q", "input": "", **PAIR}, ["q"], ("good", "bad")),
        ({"question": "q", "system": "s", **PAIR}, ["s", "q"], ("good", "bad")),
        ({"chosen_messages": [{"role": "user", "content": [{"type": "text", "value": "q"}]},
                              {"role": "assistant", "content": [{"type": "text", "value": "good"}]}],
          "rejected_messages": [{"role": "user", "content": [{"type": "text", "value": "q"}]},
                                {"role": "assistant", "content": [{"type": "text", "value": "bad"}]}]},
         ["q"], ("good", "bad")),
    ],
)  # fmt: skip
def test_pairs_are_read_with_their_prompt_and_not_scored(
    row: Row, prompt: list[str], sides: tuple[str, str]
) -> None:
    understood = understand(row)
    pair = understood.preference
    assert pair is not None
    assert understood.conversation == ()
    assert [message.content for message in pair.prompt] == prompt
    assert [m.content for m in (*pair.chosen, *pair.rejected)] == list(sides)
    with pytest.raises(RowProblem, match="a preference row"):
        recognise(row)


def test_one_side_of_a_pair_is_scored_where_the_user_says_so() -> None:
    row = {"conversations": [*SHARED, SHARED[0]], "chosen": GOOD, "rejected": BAD}
    columns = Columns.parse("prompt=conversations,completion=rejected")
    assert recognise(row, columns)[-1].content == "bad"
    turns = {"chosen": CHAT, "rejected": CHAT}
    assert recognise(turns, Columns.parse("messages=chosen"))[-1].content == "a"
    with pytest.raises(RowProblem, match="'chosen' without 'rejected'"):
        recognise({"chosen": "x"})


@pytest.mark.parametrize(
    "row",
    [{"prompt": "q", "completion": "a"}, {"messages": CHAT}, {"instruction": "q", "output": "a"}],
)
def test_ktos_label_is_known(row: Row) -> None:
    for label in (True, False):
        for name in ("label", "kto_tag"):
            assert understand({**row, name: label}).desirable is label
        with pytest.raises(RowProblem, match=f"a KTO row .*{str(label).lower()}"):
            recognise({**row, "label": label})
    for other in (1, 0, "bad", None, 0.5):
        assert understand({**row, "label": other}).desirable is None
    marks = [name for name in row if name != "label"]
    assert recognise({**row, "label": False}, Columns.parse(",".join(marks)))[-1].content == "a"
    assert recognise({"text": "t", "label": False})[-1].content == "t"


def test_a_run_stops_at_an_ambiguous_row_before_anything_is_loaded(tmp_path: Path) -> None:
    rows = [{"messages": CHAT}] * 3 + [{"messages": CHAT, "text": "t"}]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = ScoreSettings(model="nowhere/there", sae="none/none")
    with pytest.raises(SaefilterError, match=r"data.jsonl:4: 'messages' beside 'text'.*--columns"):
        score_file(Source.open(path), tmp_path / "s.parquet", settings)
    assert list(tmp_path.iterdir()) == [path]
