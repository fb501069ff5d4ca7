"""The rows of each format, read to messages: its columns to prompts and answers.

Which columns mark which format is in formats.py, what a turn holds in messages.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from saefilter.columns import Columns
from saefilter.rows.messages import (
    ASSISTANT,
    TEXT,
    Ambiguous,
    Conversation,
    Message,
    RowProblem,
    turns,
)
from saefilter.rows.parse import json_type

PROMPT, COMPLETION = "prompt", "completion"
PROMPT_TEXT, COMPLETION_TEXT = "prompt text", "completion text"
"""What part of a row a message is, where its columns say so, and that it was a text, no chat."""
OPENAI, SHAREGPT = ("role", "content"), ("from", "value")


class Cells(dict[str, Any]):
    """A row's cells by the names that formats know them by, with what they are called in the data."""

    def __init__(self, row: Mapping[str, Any], columns: Columns):
        super().__init__(row)
        self.columns = columns
        for ours, theirs in columns.named.items():
            self[ours] = row.get(theirs) if theirs else None

    def called(self, column: str) -> str:
        """For messages."""
        return self.columns.named.get(column) or column

    def text(self, column: str) -> str:
        """A cell that must hold a text. Raises RowProblem."""
        value = self[column]
        if not isinstance(value, str):
            raise RowProblem(
                f"'{self.called(column)}' is {json_type(value)}; a string was expected"
            )
        return value

    def turns(self, column: str, keys: tuple[str, str] = OPENAI) -> Conversation:
        """A cell that must hold turns. Raises RowProblem."""
        value = self[column]
        return turns(self.called(column), value, self.columns, keys_of(value, keys))

    def has_turns(self, column: str) -> bool:
        """Whether it holds turns, also as the JSON of them."""
        value = self[column]
        return isinstance(value, (list, tuple)) or (
            isinstance(value, str) and value.lstrip().startswith("[{")
        )

    def system(self, *names: str) -> Conversation:
        """The system prompt that a column holds, if any."""
        for name in names:
            value = self.get(name)
            if isinstance(value, str) and value.strip():
                return (Message("system", value),)
        return ()


def two_readings(one: Iterable[str], other: Iterable[str]) -> Ambiguous:
    first = [name for name in one if name not in other] or list(one)
    second = [name for name in other if name not in one] or list(other)
    shown = [" and ".join(f"'{name}'" for name in names) for names in (first, second)]
    options = [",".join(f"{name}={name}" for name in names) for names in (one, other)]
    return Ambiguous(
        f"{shown[0]} beside {shown[1]}: two readings that train on different text; say which with "
        f"--columns {options[0]} or --columns {options[1]}"
    )


def messages(cells: Cells) -> Conversation:
    return cells.system("system") + cells.turns("messages")


def conversations(cells: Cells) -> Conversation:
    return cells.system("system") + cells.turns("conversations", SHAREGPT)


def keys_of(value: Any, usual: tuple[str, str]) -> tuple[str, str]:
    """By which keys its turns are written, where OpenAI's and ShareGPT's are told apart: the first's."""
    if usual not in (OPENAI, SHAREGPT):
        return usual
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    if isinstance(first, dict):
        return OPENAI if "role" in first else SHAREGPT if "from" in first else usual
    if isinstance(first, str):
        return OPENAI if '"role"' in first else SHAREGPT if '"from"' in first else usual
    return usual


def gemini(cells: Cells) -> Conversation:
    for name in ("systemInstruction", "system_instruction"):
        if isinstance(value := cells.get(name), dict):
            said = turns(name, [{"role": "system", **value}], Columns(), ("role", "parts"))
            return said + cells.turns("contents", ("role", "parts"))
    return cells.system("system_instruction", "system") + cells.turns("contents", ("role", "parts"))


def cohere(cells: Cells) -> Conversation:
    return cells.system("preamble") + cells.turns("chat_history", ("role", "message"))


SPEAKERS = re.compile(r"(?:^|\s)(SYSTEM|USER|ASSISTANT|FUNCTION RESPONSE): ")
GLAIVE = {"SYSTEM": "system", "USER": "user", "ASSISTANT": ASSISTANT, "FUNCTION RESPONSE": "tool"}


def glaive(cells: Cells) -> Conversation:
    """One text with `USER:`, `ASSISTANT:`, `FUNCTION RESPONSE:`, and a call as `<functioncall> {...}`;
    other data have turns in such a column."""
    if cells.has_turns("chat"):
        return cells.system("system") + cells.turns("chat")
    system = cells.get("system")
    said = cells.text("chat")
    if isinstance(system, str) and system.strip():
        said = f"{'' if system.startswith('SYSTEM: ') else 'SYSTEM: '}{system}\n{said}"
    _, *pieces = SPEAKERS.split(said)
    if not pieces:
        raise RowProblem(f"'{cells.called('chat')}' holds no 'USER: ' and 'ASSISTANT: '")
    return tuple(
        Message(GLAIVE[who], text.replace("<|endoftext|>", "").strip())
        for who, text in zip(pieces[::2], pieces[1::2], strict=True)
    )


def prompt_completion(cells: Cells) -> Conversation:
    return prompt_of(cells, "prompt") + answer_of(cells, "completion")


def prompt_of(cells: Cells, column: str) -> Conversation:
    """A prompt that is a text or a chat. Raises RowProblem."""
    if cells.has_turns(column):
        return of_part(PROMPT, cells.turns(column))
    return (Message("user", cells.text(column), part=PROMPT_TEXT),)


def answer_of(cells: Cells, column: str) -> Conversation:
    """An answer that is a text, a turn or a chat. Raises RowProblem."""
    if cells.has_turns(column) or isinstance(cells[column], dict):
        value = cells[column] if not isinstance(cells[column], dict) else [cells[column]]
        keys = keys_of(value, OPENAI)
        return of_part(COMPLETION, turns(cells.called(column), value, cells.columns, keys))
    return (Message(ASSISTANT, cells.text(column), part=COMPLETION_TEXT),)


def of_part(part: str, messages: Iterable[Message]) -> Conversation:
    """Messages as the prompt or the completion of a row."""
    return tuple(replace(message, part=part) for message in messages)


def instruction_turns(cells: Cells, question: str, system: tuple[str, ...]) -> Conversation:
    """System prompt, earlier exchanges and the request: Alpaca's, also of `query` and `question`.
    Raises RowProblem."""
    history: list[Message] = []
    for number, pair in enumerate(cells.get("history") or (), start=1):
        if not isinstance(pair, (list, tuple)) or [type(one) for one in pair] != [str, str]:
            raise RowProblem(
                f"item {number} of '{cells.called('history')}' is {json_type(pair)}; a list of a "
                "request and its answer was expected"
            )
        history += [Message("user", pair[0]), Message(ASSISTANT, pair[1])]
    request = cells.text(question)
    if question == "instruction" and cells.get("input"):
        request = f"{request}\n\n{cells.text('input')}"
    return of_part(PROMPT, (*cells.system(*system), *history, Message("user", request)))


def asked(question: str, answer: str) -> Callable[[Cells], Conversation]:
    def read(cells: Cells) -> Conversation:
        asked = instruction_turns(cells, question, ("system", "system_prompt"))
        return (*asked, Message(ASSISTANT, cells.text(answer), part=COMPLETION))

    return read


def plain_text(cells: Cells) -> Conversation:
    return (Message(TEXT, cells.text("text")),)
