"""Tool calls and reasoning in real chat templates (those that TRL ships): what is scored of a turn that
the template rewrites, and that a tool's result never is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from checkpoints import small_tokenizer

from saefilter.rows.chat import ChatRenderer
from saefilter.rows.formats import RowProblem, recognise
from saefilter.rows.rendered import RenderOptions

SPECIAL = re.compile(
    r"<[|｜][\w▁/]+[|｜]?>|<(?:start|end)_of_\w+>|<turn\|>|<tool_(?:call|response)\|>"
)
CALL = {"type": "function", "function": {"name": "get_tide", "arguments": {"harbour": "Emden"}}}
COUNT = {"type": "function", "function": {"name": "count", "arguments": {"up_to": 5}}}


def tool_row(call: dict[str, Any] = CALL, **more: Any) -> dict[str, Any]:
    return {"messages": [
        {"role": "user", "content": "tide?"},
        {"role": "assistant", "content": "", "tool_calls": [call], **more},
        {"role": "tool", "content": "RESULT"}, {"role": "assistant", "content": "2.1 m"},
    ]}  # fmt: skip


def scored(name: str, row: dict[str, Any]) -> list[str]:
    """The trained stretches of the row's text in TRL's template of that name."""
    import trl

    template = (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text()
    extra = " ".join(sorted({*SPECIAL.findall(template)}))
    tokenizer = small_tokenizer(template, bos_token="<s>", eos_token="</s>", extra=extra)
    renderer = ChatRenderer(tokenizer, context=4096, options=RenderOptions(4096))
    return [segment.text for segment in renderer.segments(recognise(row)) if segment.trained]


TEMPLATES = ["gptoss", "gemma4", "glm4moe", "qwen3", "qwen3_5_think", "qwen2_5", "llama3_1"]


@pytest.mark.slow
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_call_is_scored_and_its_result_is_not(name: str) -> None:
    call, answer = scored(name, tool_row())
    assert "get_tide" in call
    assert "Emden" in call
    assert answer == "2.1 m"
    assert "RESULT" not in call
    number, _ = scored(name, tool_row(COUNT))
    assert "5" in number
    assert "RESULT" not in number


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "field"),
    [("gemma4", "reasoning_content"), ("glm4moe", "reasoning_content"),
     ("qwen3", "reasoning_content"), ("qwen3_5_think", "reasoning_content")],
)  # fmt: skip
def test_reasoning_before_a_call_is_scored(name: str, field: str) -> None:
    call, answer = scored(name, tool_row(**{field: "look it up"}))
    assert "look it up" in call
    assert "Emden" in call
    assert (answer, "RESULT" in call) == ("2.1 m", False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gptoss", "glm4moe", "qwen3", "qwen3_5_think"])
@pytest.mark.parametrize(
    "turn",
    [
        {"content": "I see.", "reasoning_content": "Hm.", "thinking": "Hm."},
        {"content": "I see.", "reasoning": "Hm."},
        {"content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "I see."}]},
        {"content": [{"type": "reasoning", "value": "Hm."}, {"type": "text", "value": "I see."}]},
    ],
)
def test_reasoning_in_every_form_is_scored(name: str, turn: dict[str, Any]) -> None:
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", **turn}]}
    (said,) = scored(name, row)
    assert re.search(r"Hm\..*I see\.", said, re.DOTALL)


@pytest.mark.slow
def test_what_a_template_leaves_out_is_said() -> None:
    """Gemma 4 writes reasoning only before a call: of a turn that only thinks nothing is trained on."""
    row = {"messages": [{"role": "user", "content": "q"},
                        {"role": "assistant", "content": "", "reasoning_content": "Hm."}]}  # fmt: skip
    with pytest.raises(RowProblem, match="leaves their reasoning or tool calls out"):
        scored("gemma4", row)
