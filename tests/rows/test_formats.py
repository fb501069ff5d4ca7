from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saefilter.rows.formats import Message, RowProblem, recognise

U, A, S = "user", "assistant", "system"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {
                "messages": [
                    {"role": S, "content": "s"},
                    {"role": U, "content": "q"},
                    {"role": A, "content": "a"},
                ]
            },
            [(S, "s"), (U, "q"), (A, "a")],
        ),
        (
            {
                "messages": [
                    {"role": A, "content": [{"type": "text", "text": "a"}, {"type": "image"}]}
                ]
            },
            [(A, "a")],
        ),
        ({"prompt": "q", "completion": "a"}, [(U, "q"), (A, "a")]),
        (
            {
                "prompt": [{"role": U, "content": "q"}],
                "completion": [{"role": A, "content": "a"}],
            },
            [(U, "q"), (A, "a")],
        ),
        ({"instruction": "i", "input": "", "output": "o"}, [(U, "i"), (A, "o")]),
        ({"instruction": "i", "input": "x", "output": "o"}, [(U, "i\n\nx"), (A, "o")]),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
            [(U, "q"), (A, "a")],
        ),
        (
            {"system": "s", "conversations": [{"from": "gpt", "value": "a"}]},
            [(S, "s"), (A, "a")],
        ),
        (
            {
                "conversations": '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'
            },
            [(U, "q"), (A, "a")],
        ),
        ({"text": "t", "label": 1}, [("text", "t")]),
        # an empty column of another format does not decide
        ({"messages": None, "text": "t"}, [("text", "t")]),
    ],
)
def test_formats(row: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert recognise(row) == tuple(Message(*turn) for turn in expected)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "q"}, "no known format: the columns are 'question'"),
        ({"prompt": "q", "completion": None}, "'completion' is empty"),
        ({"instruction": "q", "output": None, "text": None}, "'output' is empty"),
        ({"messages": "hello"}, "'messages' is a string"),
        ({"messages": [{"role": "user", "content": "q"}]}, "no assistant turn"),
        ({"messages": []}, "empty list"),
        ({"messages": ["q"]}, "turn 1 of 'messages' is a string"),
        ({"messages": [{"role": "wizard", "content": "q"}]}, "unknown 'role' \"wizard\""),
        (
            {"messages": [{"role": A, "content": 5}]},
            "'content' of turn 1 of 'messages' is a number",
        ),
        ({"messages": [{"role": A, "content": None}]}, "is null; a string was expected"),
        ({"prompt": "q", "completion": "  \n"}, "the answer is empty"),
        ({"instruction": 3, "output": "o"}, "'instruction' is a number"),
        ({"text": ["a"]}, "'text' is a list"),
        ({"text": ""}, "the text is empty"),
        ({"conversations": "[not json"}, "not readable JSON"),
    ],
)
def test_what_cannot_be_scored_says_why(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowProblem) as caught:
        recognise(row)
    assert reason in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
COLUMNS = st.sampled_from(
    ["messages", "conversations", "prompt", "completion", "instruction", "input", "output", "text"]
)


@given(st.dictionaries(COLUMNS, JSON, min_size=1))
def test_any_row_is_recognised_or_has_a_reason(row: dict[str, Any]) -> None:
    try:
        conversation = recognise(row)
    except RowProblem:
        return
    assert any(message.content.strip() for message in conversation)
