"""Recognise what a row is: a conversation, a prompt with its completion, or plain text.

Formats are told apart by their columns, in the order of FORMATS; each is a few lines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from saefilter.rows.parse import json_type, parse_text

TEXT = "text"
"""Role of a row that is one plain text: all of it is trained on."""
ASSISTANT = "assistant"
TOOLS = "tools"
"""Role of an entry that is no turn: the tools offered, in its `fields`."""
PROMPT, COMPLETION = "prompt", "completion"
PROMPT_TEXT, COMPLETION_TEXT = "prompt text", "completion text"
"""What part of a row a message is, where its columns say so, and that it was a text, no chat."""
CARRIED = ("tool_calls", "tool_call_id", "name", "thinking", "reasoning_content")
"""Fields of a turn that chat templates read, besides role and content."""

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": ASSISTANT,
    "gpt": ASSISTANT,
    "chatgpt": ASSISTANT,
    "bot": ASSISTANT,
    "model": ASSISTANT,
    "function_call": ASSISTANT,
    "tool": "tool",
    "function": "tool",
    "function_response": "tool",
    "observation": "tool",
}


REASON_CHARACTERS = 300


class RowProblem(Exception):
    """Why a row cannot be scored, in words for its quarantine entry.

    What they quote of the row may be of any length, so they are cut.
    """

    def __init__(self, reason: str):
        cut = len(reason) > REASON_CHARACTERS
        super().__init__(reason[: REASON_CHARACTERS - 1] + "…" if cut else reason)


@dataclass(frozen=True)
class Message:
    """One turn: who speaks, and what is said."""

    role: str
    """`system`, `user`, `assistant`, `tool`, `tools`, or `text` for a plain text."""
    content: str
    train: bool | None = None
    """Whether the row itself says that this turn is trained on (axolotl's `train`, OpenAI's
    `weight`); None when it does not say."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What else a chat template may read: tool calls, names, reasoning."""
    train_key: str = field(default="", compare=False)
    """By which key it says so: `train`, `training` or `weight`."""
    part: str = field(default="", compare=False)
    """`prompt` or `completion`, each also as `... text`; empty where the row has no such columns."""


Conversation = tuple[Message, ...]


def recognise(row: dict[str, Any]) -> Conversation:
    """The row's conversation. Raises RowProblem when there is none, or nothing to train on."""
    for columns, read in FORMATS:
        if all(row.get(column) is not None for column in columns):
            conversation = read(row)
            break
    else:
        names = ", ".join(repr(name[:24]) for name in list(row)[:8])
        raise RowProblem(
            f"no known format: the columns are {names}; expected 'messages', 'conversations', "
            "'prompt' and 'completion', 'instruction' and 'output', or 'text'"
        )
    trained = [message for message in conversation if message.role in (ASSISTANT, TEXT)]
    if not trained:
        raise RowProblem("no assistant turn, so there is nothing to train on")
    if not any(message.content.strip() or message.fields.get("tool_calls") for message in trained):
        raise RowProblem("the answer is empty" if trained[0].role != TEXT else "the text is empty")
    tools = row.get("tools")
    if isinstance(tools, (list, tuple)) and tools and trained[0].role != TEXT:
        offered = Message(TOOLS, json.dumps(tools, default=str), fields={"tools": list(tools)})
        return (offered, *conversation)
    return conversation


def _messages(row: dict[str, Any]) -> Conversation:
    return _turns("messages", row["messages"], "role", "content")


def _sharegpt(row: dict[str, Any]) -> Conversation:
    turns = _decoded("conversations", row["conversations"])
    openai_style = bool(turns) and isinstance(turns[0], dict) and "role" in turns[0]
    keys = ("role", "content") if openai_style else ("from", "value")
    system = row.get("system")
    head: Conversation = ()
    if isinstance(system, str) and system.strip():
        head = (Message("system", system),)
    return head + _turns("conversations", turns, *keys)


def _prompt_completion(row: dict[str, Any]) -> Conversation:
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, (list, tuple)):
        head = _of_part(PROMPT, _turns("prompt", prompt, "role", "content"))
    else:
        head = (Message("user", _string("prompt", prompt), part=PROMPT_TEXT),)
    if isinstance(completion, (list, tuple)):
        return head + _of_part(COMPLETION, _turns("completion", completion, "role", "content"))
    return (*head, Message(ASSISTANT, _string("completion", completion), part=COMPLETION_TEXT))


def _of_part(part: str, messages: Iterable[Message]) -> Conversation:
    return tuple(replace(message, part=part) for message in messages)


def _alpaca(row: dict[str, Any]) -> Conversation:
    request = _string("instruction", row["instruction"])
    if row.get("input"):
        request = f"{request}\n\n{_string('input', row['input'])}"
    messages = [Message("user", request), Message(ASSISTANT, _string("output", row["output"]))]
    if row.get("system"):
        messages.insert(0, Message("system", _string("system", row["system"])))
    return (*_of_part(PROMPT, messages[:-1]), *_of_part(COMPLETION, messages[-1:]))


def _text(row: dict[str, Any]) -> Conversation:
    return (Message(TEXT, _string("text", row["text"])),)


FORMATS: tuple[tuple[tuple[str, ...], Callable[[dict[str, Any]], Conversation]], ...] = (
    (("messages",), _messages),
    (("conversations",), _sharegpt),
    (("prompt", "completion"), _prompt_completion),
    (("instruction", "output"), _alpaca),
    (("text",), _text),
)
"""Columns that mark a format, and its reader; the first whose columns are all there is taken."""


def _decoded(column: str, value: Any) -> list[Any]:
    """A list of turns, also when a CSV cell or a string column holds it as JSON."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value, problem = parse_text(value)
        if problem:
            raise RowProblem(f"'{column}' is a string that holds a damaged list: {problem}")
    if not isinstance(value, (list, tuple)):
        raise RowProblem(f"'{column}' is {json_type(value)}; a list of turns was expected")
    return list(value)


def _turns(column: str, value: Any, role_key: str, content_key: str) -> Conversation:
    messages = []
    for number, turn in enumerate(_decoded(column, value), start=1):
        where = f"turn {number} of '{column}'"
        if not isinstance(turn, dict):
            raise RowProblem(f"{where} is {json_type(turn)}; an object was expected")
        role = turn.get(role_key)
        if not isinstance(role, str) or role.lower() not in ROLES:
            shown = json.dumps(role, default=str)[:40]
            raise RowProblem(f"{where} has the unknown '{role_key}' {shown}")
        content = _content(turn.get(content_key), f"'{content_key}' of {where}", turn)
        fields = {name: turn[name] for name in CARRIED if turn.get(name)}
        mark, key = _own_mark(turn)
        messages.append(Message(ROLES[role.lower()], content, mark, fields, key))
    if not messages:
        raise RowProblem(f"'{column}' is an empty list")
    return tuple(messages)


def _own_mark(turn: dict[str, Any]) -> tuple[bool | None, str]:
    """What the turn says of being trained on, and by which key."""
    for name in ("train", "training"):
        if isinstance(turn.get(name), bool):
            return bool(turn[name]), name
    weight = turn.get("weight")
    if isinstance(weight, (int, float)) and not isinstance(weight, bool):
        return weight > 0, "weight"
    return None, ""


def _content(value: Any, where: str, turn: dict[str, Any]) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):  # of items such as {"type": "text", "text": ...}
        texts = []
        for item in value:
            text = item.get("text") if isinstance(item, dict) else item
            if isinstance(text, str):
                texts.append(text)
        return "".join(texts)
    if value is None and turn.get("tool_calls"):
        return ""  # a turn that only calls a tool says nothing
    raise RowProblem(f"{where} is {json_type(value)}; a string was expected")


def _string(column: str, value: Any) -> str:
    if not isinstance(value, str):
        raise RowProblem(f"'{column}' is {json_type(value)}; a string was expected")
    return value
