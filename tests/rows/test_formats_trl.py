"""Rows in the shapes of public files, against what TRL's SFTTrainer learns from, token for token.

TRL takes `messages`, `prompt` with `completion`, and `text`; rows of other formats are given to it as
LLaMA-Factory's converter or TRL's users make them, which is written out here by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_trainers import Row, ours, trl, trl_tokenizer, turn

TOOL = {"type": "function", "function": {
    "name": "get_tide", "description": "The tide.",
    "parameters": {"type": "object", "properties": {"harbour": {"type": "string"}}},
}}  # fmt: skip
CALL = {"type": "function", "function": {"name": "get_tide", "arguments": {"harbour": "Emden"}}}
LONG = [
    turn("user", "One?"),
    turn("assistant", "First."),
    turn("user", "Two?"),
    turn("assistant", "2."),
]


def parts(role: str, *held: tuple[str, str], weight: float | None = None) -> Row:
    made = {"role": role, "content": [{"type": kind, "value": text} for kind, text in held]}
    return made if weight is None else {**made, "loss_weight": weight}


SHAPES: dict[str, tuple[Row, Row]] = {
    "alpaca_en_demo": (
        {"instruction": "Rewrite it.", "input": "Time waits.", "output": "It does not wait."},
        {"prompt": [turn("user", "Rewrite it.\n\nTime waits.")],
         "completion": [turn("assistant", "It does not wait.")]},
    ),
    "v1_sft_demo": (
        {"messages": [parts("user", ("text", "hi"), weight=0.0),
                      parts("assistant", ("text", "Hello!"), weight=1.0)]},
        {"messages": [turn("user", "hi"), turn("assistant", "Hello!")]},
    ),
    "reason_tool_use_demo_50": (
        {"messages": [parts("system", ("text", "Be brief.")), parts("user", ("text", "tide?")),
                      parts("assistant", ("reasoning", "Look it up."), ("text", "No tool fits."))]},
        {"messages": [turn("system", "Be brief."), turn("user", "tide?"),
                      turn("assistant", "No tool fits.", reasoning_content="Look it up.")]},
    ),
    "reason_tool_use_demo_50, with a call": (
        {"messages": [
            parts("user", ("text", "tide?")),
            parts("assistant", ("reasoning", "Look it up."),
                  ("tool_call", '{"name": "get_tide", "arguments": {"harbour": "Emden"}}')),
            parts("tool", ("text", "2.1")), parts("assistant", ("text", "2.1 m"))]},
        {"messages": [turn("user", "tide?"),
                      turn("assistant", "", reasoning_content="Look it up.", tool_calls=[CALL]),
                      turn("tool", "2.1"), turn("assistant", "2.1 m")]},
    ),
    "glaive_toolcall_en_demo": (
        {"conversations": [{"from": "human", "value": "One?"}, {"from": "gpt", "value": "First."},
                           {"from": "human", "value": "Two?"}, {"from": "gpt", "value": "2."}],
         "tools": "[]"},
        {"messages": LONG},
    ),
    "glaive_toolcall_en_demo, with a call": (
        {"conversations": [{"from": "human", "value": "tide?"},
                           {"from": "function_call", "value": '{"name": "get_tide"}'},
                           {"from": "observation", "value": "2.1"},
                           {"from": "gpt", "value": "2.1 m"}]},
        {"messages": [turn("user", "tide?"), turn("assistant", '{"name": "get_tide"}'),
                      turn("tool", "2.1"), turn("assistant", "2.1 m")]},
    ),
    "OpenAI's tools": (
        {"messages": [turn("user", "tide?"), turn("assistant", "", tool_calls=[CALL]),
                      turn("tool", "2.1"), turn("assistant", "2.1 m")], "tools": [TOOL]},
        {"messages": [turn("user", "tide?"), turn("assistant", "", tool_calls=[CALL]),
                      turn("tool", "2.1"), turn("assistant", "2.1 m")], "tools": [TOOL]},
    ),
    "pretraining": ({"text": "Oolong is a tea."}, {"text": "Oolong is a tea."}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_trl_learns_from_the_same_tokens(name: str, tmp_path: Path) -> None:
    row, as_trl_takes_it = SHAPES[name]
    everything = trl(trl_tokenizer("qwen3"), as_trl_takes_it, tmp_path)
    assert ours(trl_tokenizer("qwen3"), row, trainer="trl") == everything
    if "text" in row:
        return
    ids, loss = trl(trl_tokenizer("qwen3"), as_trl_takes_it, tmp_path, assistant_only_loss=True)
    tokenizer = trl_tokenizer("qwen3", training=True)
    assert ours(tokenizer, row, trainer="trl-assistant") == (ids, loss)
    mine, scored = ours(tokenizer, row)
    assert mine == ids
    assert not any(here and not there for here, there in zip(scored, loss, strict=True))


def test_the_shapes_say_exactly_which_text_is_scored() -> None:
    from saefilter.rows.formats import recognise
    from saefilter.rows.trained import trained_messages

    def said(row: Any) -> list[str]:
        conversation = recognise(row)
        marks = trained_messages(conversation, "assistant")
        return [m.spoken for m, here in zip(conversation, marks, strict=True) if here]

    call = '[{"type": "function", "function": {"name": "get_tide", "arguments": {"harbour": "Emden"}}}]'
    assert {name: said(row) for name, (row, _) in SHAPES.items()} == {
        "alpaca_en_demo": ["It does not wait."],
        "v1_sft_demo": ["Hello!"],
        "reason_tool_use_demo_50": ["<think>Look it up.</think>No tool fits."],
        "reason_tool_use_demo_50, with a call": [f"<think>Look it up.</think>\n{call}", "2.1 m"],
        "glaive_toolcall_en_demo": ["First.", "2."],
        "glaive_toolcall_en_demo, with a call": ['{"name": "get_tide"}', "2.1 m"],
        "OpenAI's tools": [call, "2.1 m"],
        "pretraining": ["Oolong is a tea."],
    }
