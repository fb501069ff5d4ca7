"""The parts of a turn's content, of any kind: text, reasoning, tool calls and their results, and what
is no text. PARTS says how each kind is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from saefilter.rows.parse import json_type, parse_text


class Said:
    """What the parts of one turn hold."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.results: list[tuple[str, str | None]] = []
        """Of tools, with the id of the call."""
        self.others: list[str] = []

    def add(self, item: Any) -> None:
        """One part. What is no text is noted by its kind."""
        if isinstance(item, str):
            self.text.append(item)
            return
        if not isinstance(item, dict):
            self.others.append(json_type(item))
            return
        kind = item.get("type")
        kind = kind if isinstance(kind, str) else next(filter(item.get, UNTYPED), "")
        if kind in PARTS:
            PARTS[kind](self, item)
        elif isinstance(item.get("text"), str) and not kind.startswith(NO_TEXT):
            self.text.append(item["text"])
        else:
            self.others.append(kind[:KIND_CHARACTERS] or "unknown")

    def call(self, name: Any, arguments: Any, number: Any = None) -> None:
        """A call of a tool, as OpenAI has them."""
        made: dict[str, Any] = {
            "type": "function", "function": {"name": name, "arguments": parsed(arguments)},
        }  # fmt: skip
        self.calls.append(made | ({"id": number} if isinstance(number, str) else {}))


KIND_CHARACTERS = 24
NO_TEXT = (
    "image",
    "audio",
    "video",
    "file",
    "document",
    "input_image",
    "input_audio",
    "input_file",
)
"""What the types of parts begin with that are no text, though some carry one (a file name, a title)."""
UNTYPED = ("functionCall", "function_call", "functionResponse", "function_response", "inlineData",
           "fileData", "text")  # fmt: skip
"""Keys that tell a part which has no `type`: Gemini's."""


def _text_part(said: Said, item: dict[str, Any]) -> None:
    said.text.append(_text_in(item, "text", "value", "content"))


def _thought(said: Said, item: dict[str, Any]) -> None:
    said.reasoning.append(_text_in(item, "thinking", "reasoning", "text", "value", "content"))


def _refusal(said: Said, item: dict[str, Any]) -> None:
    said.text.append(_text_in(item, "refusal", "text"))


def _tool_use(said: Said, item: dict[str, Any]) -> None:
    said.call(item.get("name"), item.get("input") or {}, item.get("id"))


def _tool_call(said: Said, item: dict[str, Any]) -> None:
    """LLaMA-Factory's, whose value is the call as JSON; OpenAI's within parts."""
    value = next((item[key] for key in ("value", "function", "tool_call") if item.get(key)), item)
    for call in value if isinstance(value := parsed(value), list) else [value]:
        if isinstance(call, dict) and call.get("name"):
            said.call(call["name"], call.get("arguments") or {}, item.get("id"))
        else:  # no JSON; the model writes it all the same
            said.text.append(call if isinstance(call, str) else as_json(call))


def _tool_result(said: Said, item: dict[str, Any]) -> None:
    inner = item.get("content", item.get("output"))
    number = item.get("tool_use_id") or item.get("tool_call_id")
    said.results.append((as_text(inner), number if isinstance(number, str) else None))


def _gemini_call(said: Said, item: dict[str, Any]) -> None:
    call = item.get("functionCall") or item.get("function_call")
    call = call if isinstance(call, dict) else {}
    said.call(call.get("name"), call.get("args") or {})


def _gemini_result(said: Said, item: dict[str, Any]) -> None:
    result = item.get("functionResponse") or item.get("function_response")
    said.results.append((as_text((result or {}).get("response")), None))


def _gemini_text(said: Said, item: dict[str, Any]) -> None:
    (_thought if item.get("thought") is True else _text_part)(said, item)


PARTS: Mapping[str, Callable[[Said, dict[str, Any]], None]] = {
    "text": _gemini_text, "input_text": _text_part, "output_text": _text_part,
    "thinking": _thought, "reasoning": _thought, "reasoning_content": _thought, "think": _thought,
    "refusal": _refusal,
    "tool_use": _tool_use, "tool_call": _tool_call, "function": _tool_call,
    "tool_result": _tool_result, "tool_response": _tool_result,
    "functionCall": _gemini_call, "function_call": _gemini_call,
    "functionResponse": _gemini_result, "function_response": _gemini_result,
}  # fmt: skip
"""How each kind of part is read; another kind is text where it has a `text`, else told by its name."""


def _text_in(item: dict[str, Any], *keys: str) -> str:
    """The first of these that is there, as text."""
    return next((as_text(item[key]) for key in keys if item.get(key) is not None), "")


def as_text(value: Any) -> str:
    """A text, the text of parts, or the JSON of anything else."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        said = Said()
        for item in value:
            said.add(item)
        if said.text:
            return "".join(said.text)
    return as_json(value)


def parsed(value: Any) -> Any:
    """What a text holds as JSON, where it is an object or a list; everything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        parsed, problem = parse_text(value)
        return value if problem else parsed
    return value


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
