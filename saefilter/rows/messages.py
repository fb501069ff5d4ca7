"""A turn as people have it, to messages: text, reasoning, tool calls, and parts of any kind.

OpenAI, Anthropic, Gemini, Mistral, Cohere, ShareGPT and LLaMA-Factory write the same few things in
their own ways; what each is called is in the tables here (ROLES, PARTS, MARKS). Text is kept for
scoring, what is no text is told by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from saefilter.columns import Columns
from saefilter.rows.parse import json_type, parse_text
from saefilter.rows.parts import Said, as_json, as_text, parsed

TEXT = "text"
"""Role of a row that is one plain text: all of it is trained on."""
ASSISTANT = "assistant"
TOOLS = "tools"
"""Role of an entry that is no turn: the tools offered, in its `fields`."""
CARRIED = ("tool_calls", "tool_call_id", "name", "thinking", "reasoning_content", "tool_plan")
"""Fields of a turn that chat templates read, besides role and content."""
REASONING = ("reasoning_content", "thinking", "tool_plan")
"""Those of them that the model says before its answer."""

ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": ASSISTANT, "gpt": ASSISTANT, "chatgpt": ASSISTANT, "bot": ASSISTANT,
    "model": ASSISTANT, "chatbot": ASSISTANT, "function_call": ASSISTANT, "tool_call": ASSISTANT,
    "tool": "tool", "function": "tool", "function_response": "tool", "observation": "tool",
    "ipython": "tool", "tool_response": "tool", "tool_result": "tool",
}  # fmt: skip

Conversation = tuple["Message", ...]


class RowProblem(Exception):
    """Why a row cannot be scored, in words for its quarantine entry: never cut, so whoever quotes of
    the row quotes little."""


class Ambiguous(RowProblem):
    """A row that fits two readings which score different text."""


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
    """By which key it says so, one of MARKS."""
    part: str = field(default="", compare=False)
    """`prompt` or `completion`, each also as `... text`; empty where the row has no such columns."""
    others: tuple[str, ...] = field(default=(), compare=False)
    """What it holds besides text: `image`, `audio`, ..."""
    role_key: str = field(default="", compare=False)
    """The key that says who speaks, such as `role` or ShareGPT's `from`; empty where a column does."""

    @property
    def reasoning(self) -> str:
        """What the model thinks before it answers; empty where it does not."""
        return next((self.fields[name] for name in REASONING if self.fields.get(name)), "")

    @property
    def spoken(self) -> str:
        """All that the turn says, as one text: reasoning between the tags that most models write, the
        content, and tool calls as the JSON that the model would write."""
        thought = f"<think>{self.reasoning}</think>" if self.reasoning else ""
        calls = self.fields.get("tool_calls")
        return "\n".join(filter(None, [thought + self.content, as_json(calls) if calls else ""]))

    @property
    def says_something(self) -> bool:
        """Whether there is anything to train on."""
        return bool(self.content.strip() or self.reasoning.strip() or self.fields.get("tool_calls"))


MARKS: Mapping[str, type] = {
    "train": bool, "training": bool, "weight": float, "loss": bool, "loss_weight": float,
    "loss_scale": float,
}  # fmt: skip
"""Keys by which a turn says whether it is trained on, first one first: axolotl's `train` and
`training`, OpenAI's and Mistral's `weight`, ms-swift's `loss` and `loss_scale`, LLaMA-Factory's
`loss_weight`."""


def turns(column: str, value: Any, columns: Columns, keys: tuple[str, str]) -> Conversation:
    """The messages of a list of turns. `column` is its name for messages, `keys` those of role and
    content where `columns` does not say otherwise. Raises RowProblem."""
    role_key = columns.turn.get("role", keys[0])
    content_key = columns.turn.get("content", keys[1])
    messages: list[Message] = []
    for number, turn in enumerate(decoded_list(column, value), start=1):
        where = f"turn {number} of '{column}'"
        if isinstance(
            turn, str
        ):  # a cell of JSON, as `datasets` writes what differs from row to row
            turn = parsed(turn) if turn.lstrip().startswith("{") else turn
        if not isinstance(turn, dict):
            raise RowProblem(f"{where} is {json_type(turn)}; an object was expected")
        role = turn.get(role_key)
        known = role.lower() if isinstance(role, str) else ""
        if known not in columns.roles and known not in ROLES:
            shown = json.dumps(role, default=str)[:40]
            raise RowProblem(f"{where} has the unknown '{role_key}' {shown}")
        messages += _messages_of(
            turn, columns.roles.get(known) or ROLES[known], (role_key, content_key), where, columns
        )
    if not messages:
        raise RowProblem(f"'{column}' is an empty list")
    return tuple(messages)


def _messages_of(
    turn: dict[str, Any], role: str, keys: tuple[str, str], where: str, columns: Columns
) -> Iterable[Message]:
    """One turn: the results of tools that it holds, and what else it says. `keys`: those of role and
    content."""
    role_key, content_key = keys
    said = Said()
    fields = {name: turn[name] for name in CARRIED if turn.get(name)}
    for name in REASONING:  # of another type than text no template takes it
        if name in fields and not isinstance(fields[name], str):
            fields[name] = as_text(fields[name])
    if isinstance(legacy := parsed(turn.get("function_call")), dict) and legacy.get("name"):
        said.call(legacy["name"], legacy.get("arguments") or {})
    if isinstance(turn.get("reasoning"), str) and turn["reasoning"]:
        said.reasoning.append(turn["reasoning"])
    if isinstance(turn.get("refusal"), str):
        said.text.append(turn["refusal"])
    held = said.calls or said.reasoning or said.text or fields.get("tool_calls")
    silent = held or any(name in fields for name in REASONING)
    _add_content(said, turn.get(content_key), f"'{content_key}' of {where}", role, bool(silent))
    if said.calls:
        fields["tool_calls"] = [*fields.get("tool_calls", ()), *said.calls]
    if (thoughts := "\n".join(filter(None, said.reasoning))) and not any(
        name in fields for name in REASONING
    ):
        fields |= {"reasoning_content": thoughts, "thinking": thoughts}
    if isinstance(turn.get("audio"), dict) and not said.text:
        said.others.append("audio")
    mark, key = _own_mark(turn, columns)
    for content, number in said.results:
        yield Message(
            "tool",
            content,
            mark,
            {"tool_call_id": number} if number else {},
            key,
            role_key=role_key,
        )
    content, others = "".join(said.text), tuple(dict.fromkeys(said.others))
    if said.results and not (content or fields or others):
        return
    yield Message(role, content, mark, fields, key, others=others, role_key=role_key)


def _add_content(said: Said, value: Any, where: str, role: str, silent: bool) -> None:
    """`silent`: a turn that only calls a tool, say, has no content."""
    if isinstance(value, str):
        said.text.append(value)
    elif isinstance(value, (list, tuple)):
        for item in value:
            said.add(item)
        if role == "tool" and not said.text:  # the value itself, and no parts
            said.text.append(as_json(value))
    elif isinstance(value, dict):
        if isinstance(value.get("parts"), list):
            _add_content(said, value["parts"], where, role, silent)
        elif role == "tool" and "type" not in value and "text" not in value:
            said.text.append(as_json(value))
        else:
            said.add(value)
    elif value is not None or not silent:
        raise RowProblem(f"{where} is {json_type(value)}; a string was expected")


def _own_mark(turn: dict[str, Any], columns: Columns) -> tuple[bool | None, str]:
    """What the turn says of being trained on, and by which key."""
    own = columns.turn.get("train")
    if own and isinstance(turn.get(own), (bool, int, float)):
        return turn[own] > 0, "train"  # as the trainer was told to read it
    if isinstance(stretches := turn.get("train_detail"), (list, tuple)) and stretches:
        trained = {one.get("train") for one in stretches if isinstance(one, dict)}
        if trained not in ({True}, {False}):
            raise RowProblem(
                "a turn is trained on in stretches (axolotl's 'train_detail'), which cannot be scored; leave "
                "the key out to score whole turns"
            )
        return trained == {True}, "train_detail"
    for name, kind in MARKS.items():
        value = turn.get(name)
        if kind is bool and isinstance(value, bool):
            return value, name
        if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return value > 0, name
    return None, ""


def decoded_list(column: str, value: Any) -> list[Any]:
    """A list of turns, also when a CSV cell or a string column holds it as JSON. Raises RowProblem."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value, problem = parse_text(value)
        if problem:
            raise RowProblem(f"'{column}' is a string that holds a damaged list: {problem}")
    if not isinstance(value, (list, tuple)):
        raise RowProblem(f"'{column}' is {json_type(value)}; a list of turns was expected")
    return list(value)


def offered_tools(value: Any) -> Message | None:
    """The tools that a row offers, a list or the JSON of one, as an entry of its conversation."""
    tools = parsed(value)
    if not isinstance(tools, (list, tuple)) or not tools:
        return None
    if isinstance(value, str):  # ShareGPT's are bare functions, which no template takes
        tools = [
            {"type": "function", "function": one}
            if isinstance(one, dict) and "function" not in one and "type" not in one
            else one
            for one in tools
        ]
    return Message(TOOLS, json.dumps(tools, default=str), fields={"tools": list(tools)})
