"""Recognise what a row is: a conversation, a prompt with its answer, plain text, a pair to prefer in.

FORMATS is the table: which columns mark a format, and what reads it. A row that fits two of them which
would score different text is an error, never a guess. What a turn holds is read in messages.py, pairs
in preferences.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from saefilter.columns import Columns
from saefilter.rows.guess import no_format
from saefilter.rows.messages import (
    ASSISTANT,
    TEXT,
    TOOLS,
    Ambiguous,
    Conversation,
    Message,
    RowProblem,
    offered_tools,
)
from saefilter.rows.preferences import Preference, pair_reader, ranked_reader
from saefilter.rows.readers import (
    COMPLETION,
    COMPLETION_TEXT,
    PROMPT,
    PROMPT_TEXT,
    Cells,
    asked,
    cohere,
    conversations,
    gemini,
    glaive,
    messages,
    plain_text,
    prompt_completion,
    two_readings,
)

__all__ = [
    "ASSISTANT", "COMPLETION", "COMPLETION_TEXT", "PROMPT", "PROMPT_TEXT", "TEXT", "TOOLS", "Ambiguous", "Conversation", "Message", "Preference", "RowProblem",
    "Understood", "recognise", "understand",
]  # fmt: skip
"""Messages come with the formats that they are read from."""

MARKUP = re.compile(
    r"<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>|\[INST\]|<\|(?:user|assistant|start)\|>"
)
"""What a chat template writes, and nobody else."""


@dataclass(frozen=True)
class Understood:
    """What a row was understood as."""

    format: str
    """Of FORMATS, by name."""
    conversation: Conversation = ()
    """Empty where it is a pair."""
    preference: Preference | None = None
    desirable: bool | None = None
    """KTO's label: whether training is to make the answer more likely; None where there is none."""
    notes: tuple[str, ...] = ()
    """What of it is not scored, or is odd, each a phrase that many rows may share."""

    @property
    def trains_by_preference(self) -> bool:
        """Whether the row says which answer is better, and not only what to learn."""
        return self.preference is not None or self.desirable is not None

    def refuse_preference(self) -> None:
        """Raises RowProblem for a row that trains by preference, where what is said is to be scored as
        if it were learnt."""
        if self.preference is not None:
            raise RowProblem(
                "a preference row (a chosen and a rejected answer), where an answer to learn as it "
                "stands is asked for; --columns messages=chosen or "
                "prompt=prompt,completion=chosen scores one side"
            )
        if self.desirable is not None:
            raise RowProblem(
                f"a KTO row (`label` is {str(self.desirable).lower()}), where an answer to learn as it "
                "stands is asked for: rows labelled false are unlearnt; --columns that leaves `label` out scores all as if learnt"
            )


Read = Conversation | Preference


class Format(NamedTuple):
    """How some data are written."""

    name: str
    """For people."""
    columns: tuple[str, ...]
    """That mark it: all of them are there and hold something."""
    read: Callable[[Cells], Read]


def recognise(row: Mapping[str, Any], columns: Columns | None = None) -> Conversation:
    """The row's conversation. Raises RowProblem when there is none, or nothing to train on; so also
    for preference rows, which are not learnt from as they stand."""
    understood = understand(row, columns)
    understood.refuse_preference()
    return understood.conversation


def understand(row: Mapping[str, Any], columns: Columns | None = None) -> Understood:
    """What the row is, by its own columns or by those that a user named. Raises RowProblem, and
    Ambiguous where it may be two things."""
    columns = columns or Columns()
    cells = Cells(row, columns)
    fitting = _candidates(cells)
    _refuse_half_a_pair(cells, fitting)
    if not fitting:
        raise no_format(row, columns, [one.columns for one in FORMATS])
    readings: list[tuple[Format, Understood]] = []
    problem: RowProblem | None = None
    for one in fitting:
        try:
            readings.append((one, _understood(one, cells)))
        except Ambiguous:
            raise
        except RowProblem as why:
            problem = problem or why
    if not readings:
        assert problem is not None
        raise problem
    for other, understood in readings[1:]:
        if _trained(understood) != _trained(readings[0][1]):
            raise two_readings(readings[0][0].columns, other.columns)
    return readings[0][1]


def _candidates(cells: Cells) -> list[Format]:
    """The formats whose columns are there. One whose columns are among another's gives way to it:
    `conversations` with `chosen` and `rejected` is one format and not two."""
    there = [one for one in FORMATS if all(_holds(cells.get(name)) for name in one.columns)]
    if not there:  # so that an empty answer is called one
        there = [one for one in FORMATS if all(cells.get(name) is not None for name in one.columns)]
    named = {name for name, theirs in cells.columns.named.items() if theirs}
    if named:
        whole = [one for one in there if set(one.columns) <= named]
        there = whole or [one for one in there if set(one.columns) & named]
    return [
        one
        for one in there
        if not any(set(one.columns) < set(other.columns) for other in there if other is not one)
    ]


def _holds(value: Any) -> bool:
    """Whether a cell holds something: CSV has empty cells where other formats have none."""
    if isinstance(value, str):  # of a long one no copy is made
        return bool(value) and not value.isspace()
    return value is not None and value != []


def _understood(one: Format, cells: Cells) -> Understood:
    """The row read in one way, with its tools and what is to be told of it."""
    read = one.read(cells)
    if isinstance(read, Preference):
        _refuse_empty(read.chosen)
        _refuse_empty(read.rejected)
        notes = _notes((*read.prompt, *read.chosen, *read.rejected))
        return Understood(one.name, preference=read, notes=notes)
    _refuse_empty(read)
    tools = offered_tools(cells.get("tools") or cells.get("functions"))
    if tools is not None and all(message.role != TEXT for message in read):
        read = (tools, *read)
    label = cells.get("label", cells.get("kto_tag"))
    is_kto = isinstance(label, bool) and one.columns != ("text",)
    if cells.columns.named and not cells.columns.named.get("label"):
        is_kto = False
    return Understood(one.name, read, desirable=label if is_kto else None, notes=_notes(read))


def _refuse_empty(conversation: Conversation) -> None:
    trained = [message for message in conversation if message.role in (ASSISTANT, TEXT)]
    if not trained:
        raise RowProblem("no assistant turn, so there is nothing to train on")
    if any(message.says_something for message in trained):
        return
    if others := sorted({kind for message in trained for kind in message.others}):
        raise RowProblem(f"the answer has no text, only parts of other kinds: {', '.join(others)}")
    raise RowProblem("the answer is empty" if trained[0].role != TEXT else "the text is empty")


def _notes(conversation: Conversation) -> tuple[str, ...]:
    kinds = Counter(kind for message in conversation for kind in set(message.others))
    notes = [f"{kind} parts, which are not scored" for kind in sorted(kinds)]
    if any(m.role == TEXT and MARKUP.search(m.content) for m in conversation):
        notes.append("text that holds a chat template's markup; all of it is scored, prompts too")
    return tuple(notes)


def _trained(understood: Understood) -> tuple[Any, ...]:
    """What two readings must have in common to be one."""
    parts = tuple(message.part for message in understood.conversation)
    return understood.conversation, parts, understood.preference


def _refuse_half_a_pair(cells: Cells, fitting: list[Format]) -> None:
    """Raises RowProblem for one side of a pair without the other, and Ambiguous where something else
    could be learnt from beside it."""
    here = [name for name in PAIR if _holds(cells.get(name))]
    named = cells.columns.named
    if len(here) != 1 or (named and not named.get(here[0])):
        return
    (lacking,) = set(PAIR) - set(here)
    if cells.get(lacking) is not None:
        raise RowProblem(f"'{cells.called(lacking)}' is empty, so there is no pair")
    if fitting:
        raise two_readings(here, fitting[0].columns)
    raise RowProblem(f"'{cells.called(here[0])}' without '{lacking}', so there is no pair")


PAIR = ("chosen", "rejected")
FORMATS: tuple[Format, ...] = (
    Format("messages", ("messages",), messages),
    Format("ShareGPT conversations", ("conversations",), conversations),
    Format("Gemini contents", ("contents",), gemini),
    Format("Cohere chat history", ("chat_history",), cohere),
    Format("Glaive chat", ("chat",), glaive),
    Format("prompt and completion", ("prompt", "completion"), prompt_completion),
    Format("Alpaca", ("instruction", "output"), asked("instruction", "output")),
    Format("question and answer", ("question", "answer"), asked("question", "answer")),
    Format("question and answer", ("question", "response"), asked("question", "response")),
    Format("query and response", ("query", "response"), asked("query", "response")),
    Format("text", ("text",), plain_text),
    Format("preference pair", PAIR, pair_reader(PAIR, "")),
    Format("preference pair", ("prompt", *PAIR), pair_reader(PAIR, "prompt")),
    Format("ShareGPT preference pair", ("conversations", *PAIR), pair_reader(PAIR, "conversations")),
    Format("preference pair", ("messages", *PAIR), pair_reader(PAIR, "messages")),
    Format("Alpaca preference pair", ("instruction", *PAIR), pair_reader(PAIR, "instruction")),
    Format("preference pair", ("question", *PAIR), pair_reader(PAIR, "question")),
    Format("preference pair", ("chosen_messages", "rejected_messages"),
           pair_reader(("chosen_messages", "rejected_messages"), "")),
    Format("ranked answers", ("instruction", "output"), ranked_reader("instruction", "output", "")),
    *(Format("ranked answers", (prompt, "responses", order), ranked_reader(prompt, "responses", order))
      for prompt in ("prompt", "instruction", "question") for order in ("ranks", "scores")),
)  # fmt: skip
"""Whose columns are all there is taken. `--columns` gives columns these names."""
