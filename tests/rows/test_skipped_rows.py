"""Rows that a trainer skips: what its code leaves out is set aside, with that reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from checkpoints import small_tokenizer

from saefilter.rows.formats import RowProblem, recognise
from saefilter.rows.render import PlainRenderer
from saefilter.rows.rendered import RenderOptions

Row = dict[str, Any]
SPEAKERS = {"s": "system", "u": "human", "a": "gpt", "c": "function_call", "t": "observation"}
OPENAI_ROLES = {"s": "system", "u": "user", "a": "assistant", "c": "assistant", "t": "tool"}


def spoken(turns: str, sharegpt: bool) -> Row:
    """Who speaks, a letter each, in ShareGPT's form or OpenAI's."""
    call = {"name": "tide", "arguments": {}}
    if sharegpt:
        said = {"c": json.dumps(call)}
        return {
            "conversations": [{"from": SPEAKERS[t], "value": said.get(t, "Tea.")} for t in turns]
        }
    calls = {"tool_calls": [{"type": "function", "function": call}]}
    return {
        "messages": [
            {"role": OPENAI_ROLES[t], "content": "Tea.", **(calls if t == "c" else {})}
            for t in turns
        ]
    }


@pytest.mark.parametrize(
    ("turns", "sharegpt", "openai"),
    [
        ("ua", "", ""), ("sua", "", ""), ("uctaua", "", ""),
        ("uau", "its last turn", "its last turn"), ("suau", "its last turn", "its last turn"),
        ("auaa", "not by turns", "not by turns"), ("aua", "not by turns", "not by turns"),
        ("uuaa", "not by turns", "not by turns"), ("usa", "not by turns", "not by turns"),
        ("uaa", "not by turns", "not by turns"),
        ("uctta", "not by turns", ""), ("uct", "its last turn", ""),
    ],
)  # fmt: skip
def test_what_llama_factory_skips_is_set_aside(turns: str, sharegpt: str, openai: str) -> None:
    """The right values are those of its SharegptDatasetConverter and OpenAIDatasetConverter (02e2fb3),
    read line by line: what they call an invalid role or message count."""
    renderer = PlainRenderer(
        small_tokenizer(), context=4096, options=RenderOptions(4096, trainer="llama-factory")
    )
    other = PlainRenderer(small_tokenizer(), context=4096)
    for is_sharegpt, reason in ((True, sharegpt), (False, openai)):
        conversation = recognise(spoken(turns, is_sharegpt))
        assert other.segments(conversation)
        if reason:
            with pytest.raises(RowProblem, match=f"LLaMA-Factory skips the row: .*{reason}"):
                renderer.segments(conversation)
        else:
            assert renderer.segments(conversation)


def test_columns_are_no_turns_to_llama_factory() -> None:
    renderer = PlainRenderer(
        small_tokenizer(), context=4096, options=RenderOptions(4096, trainer="llama-factory")
    )
    alone = recognise({"instruction": "", "output": "Tea.", "system": "Be kind."})
    assert any(segment.trained for segment in renderer.segments(alone))
