"""Rows as trainers and vendors write them: exactly which text is trained on, and what is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from saefilter.rows.formats import RowProblem, recognise, understand
from saefilter.rows.trained import trained_messages

CALL = '[{"type": "function", "function": {"name": "tide", "arguments": {"at": "Emden"}}}]'
LONG_CALL = CALL.replace(
    '"arguments": {"at": "Emden"}}}', '"arguments": {"at": "Emden"}}, "id": "c1"}'
)
ASKED = {"role": "user", "content": "tide?"}


def answered(**turn: Any) -> dict[str, Any]:
    return {"messages": [ASKED, {"role": "assistant", **turn}]}


def part(kind: str, text: str) -> dict[str, Any]:
    return {"type": kind, "value": text}


ROWS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "parts with text": (
        answered(content=[{"type": "text", "text": "It is "}, {"type": "text", "text": "low."}]),
        ["It is low."],
    ),
    "parts with value": (answered(content=[part("text", "low"), "."]), ["low."]),
    "parts with content": (answered(content=[{"type": "text", "content": "low"}]), ["low"]),
    "parts of a table, with empty fields": (
        answered(content=[{"type": "text", "text": "low", "image": None, "thinking": None}]), ["low"],
    ),
    "output_text": (answered(content=[{"type": "output_text", "text": "low"}]), ["low"]),
    "refusal": (answered(content=None, refusal="No."), ["No."]),
    "reasoning_content": (
        answered(content="Low.", reasoning_content="Hm."), ["<think>Hm.</think>Low."],
    ),
    "reasoning": (answered(content="Low.", reasoning="Hm."), ["<think>Hm.</think>Low."]),
    "thinking": (answered(content="Low.", thinking="Hm."), ["<think>Hm.</think>Low."]),
    "reasoning alone": (answered(content="", reasoning_content="Hm."), ["<think>Hm.</think>"]),
    "reasoning without content": (answered(reasoning_content="Hm."), ["<think>Hm.</think>"]),
    "thinking parts, Anthropic": (
        answered(content=[{"type": "thinking", "thinking": "Hm.", "signature": "x"},
                          {"type": "text", "text": "Low."}]),
        ["<think>Hm.</think>Low."],
    ),
    "thinking parts, Mistral": (
        answered(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                          {"type": "text", "text": "Low."}]),
        ["<think>Hm.</think>Low."],
    ),
    "reasoning parts, LLaMA-Factory": (
        answered(content=[part("reasoning", "Hm."),
                          part("tool_call", '{"name": "tide", "arguments": {"at": "Emden"}}')]),
        [f"<think>Hm.</think>\n{CALL}"],
    ),
    "think tags": (answered(content="<think>Hm.</think>Low."), ["<think>Hm.</think>Low."]),
    "OpenAI tool_calls": (answered(content=None, tool_calls=json.loads(LONG_CALL)), [LONG_CALL]),
    "OpenAI function_call": (
        answered(content=None, function_call={"name": "tide", "arguments": '{"at": "Emden"}'}),
        [CALL],
    ),
    "function_call alone": (
        answered(function_call={"name": "tide", "arguments": '{"at": "Emden"}'}), [CALL],
    ),
    "Anthropic tool_use": (
        {"messages": [
            {"role": "user", "content": [{"type": "text", "text": "tide?"}]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "c1", "name": "tide", "input": {"at": "Emden"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "2"}]}]},
            {"role": "assistant", "content": [{"type": "text", "text": "2 m."}]}]},
        [f"Looking.\n{LONG_CALL}", "2 m."],
    ),
    "Hermes": (
        {"conversations": [
            {"from": "system", "value": "<tools>[]</tools>"}, {"from": "human", "value": "tide?"},
            {"from": "gpt", "value": '<tool_call>\n{"name": "tide"}\n</tool_call>'},
            {"from": "tool", "value": "<tool_response>2</tool_response>"},
            {"from": "gpt", "value": "2 m."}]},
        ['<tool_call>\n{"name": "tide"}\n</tool_call>', "2 m."],
    ),
    "ShareGPT function_call and observation": (
        {"conversations": [
            {"from": "human", "value": "tide?"},
            {"from": "function_call", "value": '{"name": "tide"}'},
            {"from": "observation", "value": "2"}, {"from": "gpt", "value": "2 m."}],
         "tools": '[{"name": "tide"}]'},
        ['{"name": "tide"}', "2 m."],
    ),
    "Glaive": (
        {"system": "SYSTEM: You have tools.",
         "chat": 'USER: tide?\n\n\nASSISTANT: <functioncall> {"name": "tide"} <|endoftext|>\n\n\n'
                 "FUNCTION RESPONSE: 2\n\n\nASSISTANT: 2 m. <|endoftext|>\n\n\n"},
        ['<functioncall> {"name": "tide"}', "2 m."],
    ),
    "roles of tools": (
        {"messages": [ASKED, {"role": "tool_call", "content": "call"},
                      {"role": "ipython", "content": "2"}, {"role": "tool_response", "content": "3"},
                      {"role": "assistant", "content": "2 m."}]},
        ["call", "2 m."],
    ),
    "Gemini": (
        {"systemInstruction": {"parts": [{"text": "Brief."}]},
         "contents": [
            {"role": "user", "parts": [{"text": "tide?"}, {"inlineData": {"mimeType": "image/png"}}]},
            {"role": "model", "parts": [{"text": "Hm.", "thought": True},
                                        {"functionCall": {"name": "tide", "args": {"at": "Emden"}}}]},
            {"role": "function", "parts": [{"functionResponse": {"name": "tide", "response": {"m": 2}}}]},
            {"role": "model", "parts": [{"text": "2 m."}]}]},
        [f"<think>Hm.</think>\n{CALL}", "2 m."],
    ),
    "Mistral": (
        {"messages": [ASKED, {"role": "assistant", "content": "Wrong.", "weight": 0},
                      ASKED, {"role": "assistant", "content": "2 m.", "weight": 1}]},
        ["2 m."],
    ),
    "Cohere": (
        {"preamble": "Brief.", "chat_history": [
            {"role": "USER", "message": "tide?"}, {"role": "CHATBOT", "message": "2 m."}]},
        ["2 m."],
    ),
    "Cohere's fine-tuning": (
        {"messages": [{"role": "User", "content": "tide?"}, {"role": "Chatbot", "content": "2 m."}]},
        ["2 m."],
    ),
    "Alpaca with history and system": (
        {"instruction": "And cold?", "input": "", "output": "Iced.", "system": "Brief.",
         "history": [["Best tea?", "Oolong."]]},
        ["Oolong.", "Iced."],
    ),
    "question and answer": ({"question": "Best tea?", "answer": "Oolong."}, ["Oolong."]),
    "query and response": (
        {"query": "And cold?", "response": "Iced.", "history": [["Best tea?", "Oolong."]]},
        ["Oolong.", "Iced."],
    ),
    "OpenOrca": (
        {"system_prompt": "Brief.", "question": "Best tea?", "response": "Oolong."}, ["Oolong."],
    ),
    "pretraining text": ({"text": "Oolong is a tea."}, ["Oolong is a tea."]),
    "loss": (
        {"messages": [ASKED, {"role": "assistant", "content": "Bad.", "loss": False},
                      ASKED, {"role": "assistant", "content": "Good.", "loss": True}]},
        ["Good."],
    ),
    "loss_weight": (
        {"messages": [{**ASKED, "loss_weight": 0.0},
                      {"role": "assistant", "content": [part("text", "Bad.")], "loss_weight": 0.0},
                      {"role": "assistant", "content": [part("text", "Good.")], "loss_weight": 1.0}]},
        ["Good."],
    ),
    "train": (
        {"messages": [ASKED, {"role": "assistant", "content": "Bad.", "train": False},
                      {"role": "assistant", "content": "Good."}]},
        ["Good."],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_which_text_is_trained_on(name: str) -> None:
    row, expected = ROWS[name]
    conversation = recognise(row)
    marks = trained_messages(conversation, "assistant")
    said = [m.spoken for m, trained in zip(conversation, marks, strict=True) if trained]
    assert said == expected


@pytest.mark.parametrize(
    ("row", "notes"),
    [
        (answered(content=[{"type": "text", "text": "A heron."}, {"type": "image", "image": "a"}]),
         ("image parts, which are not scored",)),
        (answered(content=[{"type": "image_url", "image_url": {"url": "x"}}, "A heron."]),
         ("image_url parts, which are not scored",)),
        (ROWS["Gemini"][0], ("inlineData parts, which are not scored",)),
        ({"text": "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nho<|im_end|>\n"},
         ("text that holds a chat template's markup; all of it is scored, prompts too",)),
        (ROWS["pretraining text"][0], ()),
    ],
)  # fmt: skip
def test_what_is_no_text_is_told(row: dict[str, Any], notes: tuple[str, ...]) -> None:
    assert understand(row).notes == notes


def test_an_answer_of_an_image_is_not_called_empty() -> None:
    with pytest.raises(RowProblem, match="has no text, only parts of other kinds: image"):
        recognise(answered(content=[{"type": "image", "image": "a.png"}]))
    with pytest.raises(RowProblem, match="the answer is empty"):
        recognise(answered(content=[]))


@pytest.mark.parametrize("given", [json.loads(CALL)[0], {"name": "tide"}])
def test_tools_are_a_list_or_its_json(given: dict[str, Any]) -> None:
    of_list = recognise({**answered(content="2 m."), "tools": [json.loads(CALL)[0]]})
    of_text = recognise({**answered(content="2 m."), "tools": json.dumps([given])})
    assert [message.role for message in of_text] == [message.role for message in of_list]
    (tool,) = of_text[0].fields["tools"]
    assert tool["type"] == "function"
    assert tool["function"]["name"] == "tide"
    for none in ("[]", "", None, [], "no JSON"):
        assert recognise({**answered(content="2 m."), "tools": none})[0].role == "user"


def test_reasons_are_whole() -> None:
    with pytest.raises(RowProblem) as caught:
        recognise({"instruction": "Best tea?", "context": "", "response": "Oolong."})
    said = str(caught.value)
    assert "'instruction', 'context', 'response'" in said
    assert "expected 'messages'" in said
    assert said.endswith("Did you mean --columns prompt=instruction,completion=response?")
    with pytest.raises(RowProblem, match=r"'prompt;completion'.* separated by commas: save it so$"):
        recognise({"prompt;completion": "a;b"})
    with pytest.raises(RowProblem, match=r"--columns messages=dialog,turn.role=speaker"):
        recognise({"dialog": [{"speaker": "human", "content": "q"}], "id": 3})
    with pytest.raises(RowProblem, match=r"--columns text=body\?$"):
        recognise({"body": "A long text about tea.", "id": 3})
    with pytest.raises(RowProblem, match="None of them holds text: 'id' is a number"):
        recognise({"id": 3})
