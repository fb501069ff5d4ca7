"""Excerpts of a row's text, cut so that a person can read them. They are untrusted wherever they go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from saefilter.columns import Columns
from saefilter.rows.formats import ASSISTANT, TEXT, Message, RowProblem, Understood, understand
from saefilter.rows.row import Row
from saefilter.rows.sides import SIDES, sides_of
from saefilter.rows.trained import trained_messages
from saefilter.text import is_function_word

TURN_CHARACTERS = 1500
LINE_CHARACTERS = 240
SIDE_CHARACTERS = 70
SNIPPET_CHARACTERS = 60


@dataclass(frozen=True)
class Turn:
    """One message as shown to a reader, cut to a readable length."""

    role: str
    text: str
    scored: bool = False
    """Whether it is trained on, and so was scored."""


def turns_of(row: Row, columns: Columns | None = None, by: str | None = None) -> list[Turn]:
    """A row's turns, each cut to a readable length; of a pair the prompt's and those of either answer,
    which say so. `by`: the trainer or value of --train-on that tells which were scored; none without."""
    try:
        understood = understand(row.data or {}, columns)
    except RowProblem as problem:
        return [Turn("unreadable", str(problem))]
    turns = [_turn(role, message) for role, message in _roles(understood)]
    if by is None:
        return turns
    scored = _scored(understood, by)
    return [replace(turn, scored=one) for turn, one in zip(turns, scored, strict=False)]


def _scored(understood: Understood, by: str) -> Iterator[bool]:
    """Of each turn, in the order of `_roles`."""
    first, *others = (trained_messages(side, by) for side in sides_of(understood))
    yield from first
    if (pair := understood.preference) is not None:
        for side in others:
            yield from side[len(pair.prompt) :]
    while True:  # what follows the answer that KTO learns from
        yield False


def _roles(understood: Understood) -> Iterator[tuple[str, Message]]:
    pair = understood.preference
    if pair is None:
        learnt = {None: "", True: " (desirable)", False: " (undesirable)"}[understood.desirable]
        for message in understood.conversation:
            yield message.role + (learnt if message.role == ASSISTANT else ""), message
        return
    for side, messages in (("", pair.prompt), ("chosen", pair.chosen), ("rejected", pair.rejected)):
        for message in messages:
            yield f"{message.role} ({side})" if side else message.role, message


def _turn(role: str, message: Message) -> Turn:
    text = message.spoken
    return Turn(role, text if len(text) <= TURN_CHARACTERS else text[:TURN_CHARACTERS] + " […]")


def preview_of(row: Row, columns: Columns | None = None) -> str:
    """A row's turns, a blank line between them; of a pair what is asked last, and the beginnings of the
    chosen and of the rejected answer."""
    turns = turns_of(row, columns)
    answers = [turn for turn in turns if turn.role.endswith(("(chosen)", "(rejected)"))]
    if not answers:
        return "\n\n".join(turn.text for turn in turns)
    asked = [turn.text for turn in turns if turn not in answers][-1:]
    said = [
        f"{turn.role.rpartition('(')[2][:-1]}: {_cut(turn.text, SIDE_CHARACTERS)}"
        for turn in answers
    ]
    return "\n\n".join([_cut(text, SIDE_CHARACTERS) for text in asked] + said)


def last_exchange(row: Row, columns: Columns | None = None) -> tuple[str, str]:
    """The last prompt and the last answer, a line each; empty where there is none."""
    turns = turns_of(row, columns)
    answers = [turn.text for turn in turns if turn.role.startswith((ASSISTANT, TEXT))]
    prompts = [turn.text for turn in turns if turn.role == "user"]
    sides = [
        [turn.text for turn in turns if turn.role == f"{ASSISTANT} ({side})"][-1:] for side in SIDES
    ]
    if all(sides):
        answers = [" / ".join(f"{n}: {_cut(one[0], SIDE_CHARACTERS)}" for n, one in zip(SIDES, sides, strict=True))]  # fmt: skip
    return _cut(prompts[-1] if prompts else ""), _cut(answers[-1] if answers else "")


def _cut(text: str, length: int = LINE_CHARACTERS) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def surrounding_word(text: str, start: int, end: int) -> str:
    """The whole word that a span of characters lies in."""
    while start > 0 and text[start - 1].isalnum() and text[start].isalnum():
        start -= 1
    while end < len(text) and text[end].isalnum() and text[end - 1].isalnum():
        end += 1
    return text[start:end].strip()


def snippet_around(text: str, start: int, end: int) -> str:
    """A span with its surroundings, on one line, cut at words."""
    before = text[max(0, start - SNIPPET_CHARACTERS) : start]
    after = text[end : end + SNIPPET_CHARACTERS]
    if start > SNIPPET_CHARACTERS:
        before = "…" + before.partition(" ")[2]
    if end + SNIPPET_CHARACTERS < len(text):
        after = after.rpartition(" ")[0] + "…"
    return " ".join(f"{before}{text[start:end]}{after}".split())


def word_evidence(text: str, spans: Sequence[tuple[int, int]]) -> list[str]:
    """The words around some token spans, in the order given, each once."""
    words = (surrounding_word(text, start, end) for start, end in spans)
    return list(dict.fromkeys(w.lower() for w in words if any(char.isalnum() for char in w)))


def content_evidence(text: str, spans: Sequence[tuple[int, int]]) -> list[str]:
    """The same without function words, which say nothing of why; with them where there are no others."""
    words = word_evidence(text, spans)
    return [word for word in words if not is_function_word(word)] or words
