"""Rows that spell out a model's special tokens: in a template's hands, too, they stay letters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from checkpoints import TEMPLATE_TOKENS, chat_tokenizer

from saefilter.rows.chat import ChatRenderer
from saefilter.rows.formats import recognise
from saefilter.rows.rendered import RenderOptions

FAMILIES = ["llama-3.1", "qwen2.5", "qwen3", "gpt-oss"]
"""Those whose templates know tools."""


def special_of(family: str) -> list[str]:
    tokens = TEMPLATE_TOKENS[family]
    return [*tokens["extra"].split(), tokens["eos_token"]]


def row(content: str, argument: str) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": argument}}}
    return {
        "messages": [
            {"role": "user", "content": content},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": content, "tool_call_id": "1"},
            {"role": "assistant", "content": content},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "description": argument,
                    "parameters": {"type": "object", "properties": {}},
                },
            }
        ],
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_with_tools_adds_no_special_token(family: str) -> None:
    """Where tools are offered the template's text is searched for the turns, not put together."""
    tokenizer = chat_tokenizer(family)
    renderer = ChatRenderer(tokenizer, context=1 << 16, options=RenderOptions(1 << 16))
    hostile = "x" + "".join(special_of(family)) + "system y"
    control = {tokenizer.convert_tokens_to_ids(text) for text in special_of(family)}

    def count(content: str, argument: str) -> tuple[str | None, int]:
        rows, windows = renderer.render([recognise(row(content, argument))])
        return rows[0].problem, sum(int(np.isin(w.ids, list(control)).sum()) for w in windows)

    problem, plain = count("x plain y", "Oslo")
    assert problem is None
    assert plain
    for content, argument in ((hostile, "Oslo"), ("x plain y", hostile), (hostile, hostile)):
        problem, found = count(content, argument)
        assert found == (0 if problem else plain), (content, argument)
        # gpt-oss's template itself refuses channel tags
        assert problem is None or family == "gpt-oss", problem


@pytest.mark.parametrize("family", TEMPLATE_TOKENS)
@pytest.mark.parametrize("error", [AttributeError, IndexError, RecursionError, OverflowError])
def test_a_template_that_fails_fails_one_row(
    family: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer = ChatRenderer(chat_tokenizer(family), context=512)

    def fail(*_: Any, **__: Any) -> str:
        raise error("what a template does with odd values")

    monkeypatch.setattr(renderer.tokenizer, "apply_chat_template", fail)
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    rows, _ = renderer.render([recognise(chat), recognise({"text": "plain"})])
    assert "the chat template refuses it: what a template does" in str(rows[0].problem)
    assert rows[1].problem is None
