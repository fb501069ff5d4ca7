"""Where the turns of a conversation are in what a chat template makes of it, when their contents alone do
not tell: the template rewrites them, or writes tool calls and reasoning beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from saefilter.rows.messages import Message, RowProblem
from saefilter.rows.trained import Span, Trainer, alike

BEGIN, END = "\ufdd0", "\ufdd1"
SENTINEL = f"{BEGIN}{{}}{END}"
"""Stands for a message's content: its number between two of the code points that Unicode gives no
character and leaves to programs' own use. A row that holds the first is refused."""
HIDDEN = "\ufdd2"
"""Another of them, for each letter of a special token that a row spells out; refused as well."""
JSON_END = re.compile(r'(?:\s*(?:[\]},:"]|-?\d[\d.eE+-]*|true|false|null))*')
"""What closes the arguments of a call, numbers among them."""


class TurnFinder:
    """Finds turns by rendering them once more, changed."""

    def __init__(self, rule: Trainer | None, rendered: Callable[..., str]):
        """`rendered` is the template: of messages and tools it makes the text, with `prompt=True` with
        the generation prompt after it."""
        self.rule, self.rendered = rule, rendered

    def places(
        self, messages: list[Message], tools: Sequence[Message], marks: list[bool], real: str
    ) -> list[Span]:
        """Find each trained turn as what lies between the text before its content and after it."""
        contents: list[Span] = []
        done = 0
        for i, trained in enumerate(marks):
            if not trained:
                continue
            place = self._by_mark(i, messages, tools, real)
            if (
                place is None
                or place[0] < done
                or self._holds_results(place, messages, tools, real)
            ):
                place = self._by_hiding(i, messages, tools, real)
            if place is None or place[0] < done:
                raise RowProblem("the chat template's text cannot be matched with the row's turns")
            contents.append(place)
            done = place[1]
        return contents

    def _by_mark(
        self, i: int, messages: list[Message], tools: Sequence[Message], real: str
    ) -> Span | None:
        """Where a turn is, by a mark in the place of all that it says; None where the template has
        other text around it then, or refuses it (a tool's result without a call)."""
        mark = SENTINEL.format(i)
        marked = [*messages[:i], Message(messages[i].role, mark), *messages[i + 1 :]]
        try:
            before, separator, after = self.rendered(marked, tools).partition(mark)
            if not real.startswith(before):  # the template puts something before this content
                if self.rule is not None and self.rule.end == "eos":  # as axolotl finds it
                    before = before[: alike(before, real)]
                else:
                    before = self.rendered(messages[:i], tools, prompt=True) if i else ""
        except RowProblem:
            return None
        start, end = len(before), len(real) - len(after)
        placed = separator and real.startswith(before) and real.endswith(after)
        return (start, end) if placed and start <= end else None

    def _by_hiding(
        self, i: int, messages: list[Message], tools: Sequence[Message], real: str
    ) -> Span | None:
        """Where a turn is, from the first to the last of the texts that it says, each hidden in its own
        place; None where none is written, or the text around them is another one."""
        texts = []
        for names in (True, False):  # a tool's name may be written again before its result
            turn = replace(
                messages[i],
                content=_blank(messages[i].content),
                fields=_blank(dict(messages[i].fields), names=names),
            )
            try:
                texts.append(self.rendered([*messages[:i], turn, *messages[i + 1 :]], tools))
            except RowProblem:
                return None
        start, last = texts[0].find(HIDDEN), texts[1].rfind(HIDDEN)
        if start < 0 or real[:start] != texts[0][:start]:
            return None
        if last < 0:  # a call without arguments: its name alone
            after = texts[0][start:].lstrip(HIDDEN).partition(HIDDEN)[0]
            end = real.find(after, start)
        else:
            after = texts[1][last + 1 :]
            end = len(real) - len(after) if real.endswith(after) else -1
        if end >= 0 and messages[i].fields.get("tool_calls"):
            end += len(JSON_END.match(real, end)[0])  # type: ignore[index]  # it matches nothing, too
        return (start, end) if start <= end else None

    def _holds_results(
        self, place: Span, messages: list[Message], tools: Sequence[Message], real: str
    ) -> bool:
        """Whether tools' results lie in there: some templates write them into the assistant's turn."""
        if all(message.role != "tool" or not message.content for message in messages):
            return False
        hidden = [
            replace(m, content=HIDDEN * len(m.content)) if m.role == "tool" else m for m in messages
        ]
        try:
            text = self.rendered(hidden, tools)
        except RowProblem:
            return False
        return len(text) == len(real) and HIDDEN in text[slice(*place)]


def _blank(value: Any, key: str = "", *, names: bool = True) -> Any:
    """A turn's fields with every text hidden that the model says: not what only steers a template, and
    `names` of tools only where they are wanted."""
    if isinstance(value, str):
        kept = key in ("type", "id", "tool_call_id") or (key == "name" and not names)
        return HIDDEN if value and not kept else value
    if isinstance(value, dict):
        if key == "arguments":  # whose keys the model says as well
            return {HIDDEN * n: _blank(item) for n, item in enumerate(value.values(), start=1)}
        return {name: _blank(item, name, names=names) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_blank(item, names=names) for item in value]
    return value
