"""Pairs of a better and a worse answer, in the ways that trainers take them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from saefilter.rows.messages import ASSISTANT, Conversation, Message, RowProblem
from saefilter.rows.parse import json_type
from saefilter.rows.readers import (
    COMPLETION,
    COMPLETION_TEXT,
    PROMPT,
    PROMPT_TEXT,
    Cells,
    answer_of,
    conversations,
    instruction_turns,
    messages,
    of_part,
    prompt_of,
    two_readings,
)


@dataclass(frozen=True)
class Preference:
    """Two answers to one prompt, the better one first. For TRL's implicit prompts the prompt is what
    both begin with."""

    prompt: Conversation
    chosen: Conversation
    rejected: Conversation


def pair_reader(answers: tuple[str, str], prompt: str) -> Callable[[Cells], Preference]:
    """A pair whose prompt is in a column of its own; in the answers, where `prompt` is empty."""

    def read(cells: Cells) -> Preference:
        chosen, rejected = (answer_of(cells, name) for name in answers)
        if prompt in ("messages", "conversations"):
            asked = (messages if prompt == "messages" else conversations)(cells)
            if asked[-1].role == ASSISTANT:  # a whole conversation, to be learnt as it stands
                raise two_readings((prompt,), answers)
            return Preference(of_part(PROMPT, asked), chosen, rejected)
        if prompt == "instruction":
            return Preference(instruction_turns(cells, prompt, ("system",)), chosen, rejected)
        column = prompt or "prompt"
        if cells.get(column) is None:
            return _split(chosen, rejected)
        asked = prompt_of(cells, column)
        if len(chosen) > len(asked) and _is_prefix(asked, chosen) and _is_prefix(asked, rejected):
            chosen, rejected = chosen[len(asked) :], rejected[len(asked) :]
        elif asked[0].part == PROMPT_TEXT and len(chosen) > 1:
            return _split(chosen, rejected)  # whole conversations, whose prompt is told once more
        return Preference(cells.system("system") + asked, chosen, rejected)

    return read


def ranked_reader(prompt: str, answers: str, order: str) -> Callable[[Cells], Preference]:
    """The best and the worst of several answers: by `order`, a column of ranks (1 is best) or of scores (more is
    better), one for each answer; where it is empty, the best comes first and the worst last."""

    def read(cells: Cells) -> Preference:
        listed = cells[answers]
        if not isinstance(listed, (list, tuple)) or not all(isinstance(a, str) for a in listed):
            raise RowProblem(
                f"'{cells.called(answers)}' is {json_type(listed)}; a list of texts was expected"
            )
        if len(listed) < 2:
            raise RowProblem(f"'{cells.called(answers)}' holds one answer, so there is no pair")
        best, worst = _ends(cells, order, len(listed)) if order else (0, -1)
        asked = instruction_turns(cells, prompt, ("system",))
        chosen, rejected = (
            (Message(ASSISTANT, listed[place], part=COMPLETION),) for place in (best, worst)
        )
        return Preference(asked, chosen, rejected)

    return read


def _ends(cells: Cells, order: str, n: int) -> tuple[int, int]:
    """Places of the best and the worst answer. Raises RowProblem where they are not told."""
    values = cells[order]
    if not isinstance(values, (list, tuple)) or len(values) != n or not all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in values
    ):  # fmt: skip
        raise RowProblem(f"'{cells.called(order)}' does not hold a number for each answer")
    if min(values) == max(values):
        raise RowProblem(f"'{cells.called(order)}' says of no answer that it is better")
    low, high = values.index(min(values)), values.index(max(values))
    return (low, high) if order == "ranks" else (high, low)


def _is_prefix(one: Conversation, other: Conversation) -> bool:
    return [(m.role, m.content) for m in one] == [(m.role, m.content) for m in other[: len(one)]]


def _split(chosen: Conversation, rejected: Conversation) -> Preference:
    """Without a prompt of its own, the prompt is what both begin with, as TRL has it."""
    if chosen[0].part == COMPLETION_TEXT or rejected[0].part == COMPLETION_TEXT:
        one, other = chosen[0].content, rejected[0].content
        alike = next(
            (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
            min(len(one), len(other)),
        )
        alike -= one[:alike].endswith(" ")
        prompt = (Message("user", one[:alike], part=PROMPT_TEXT),) if alike else ()
        texts = (Message(ASSISTANT, t[alike:], part=COMPLETION_TEXT) for t in (one, other))
        return Preference(prompt, *((text,) for text in texts))
    pairs = enumerate(zip(chosen, rejected, strict=False))
    start = next((i for i, (a, b) in pairs if a != b), min(len(chosen), len(rejected)))
    return Preference(of_part(PROMPT, chosen[:start]), chosen[start:], rejected[start:])
