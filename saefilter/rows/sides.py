"""What of a row is scored: its one answer, or the two of a preference pair; and which kind of training a
file is for. Nothing of a prompt is learnt from where an answer is preferred (DPO, KTO), whatever turns of
the assistant it has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from saefilter.rows.formats import (
    ASSISTANT,
    COMPLETION,
    PROMPT,
    Conversation,
    Message,
    Understood,
)
from saefilter.rows.readers import of_part
from saefilter.rows.trained import PROMPTED

ANSWERS, PAIRS, LABELLED = "answers", "pairs", "labelled"
"""What a file trains on: answers as they stand, pairs of a better and a worse one, or answers of which
each is labelled as desirable or not (KTO)."""
KINDS = {
    ANSWERS: "rows that train on an answer as it stands",
    PAIRS: "preference pairs",
    LABELLED: "KTO rows (labelled true or false)",
}
"""For people."""
SIDES = ("chosen", "rejected")


def kind_of(understood: Understood) -> str:
    """Of KINDS."""
    if understood.preference is not None:
        return PAIRS
    return ANSWERS if understood.desirable is None else LABELLED


def sides_of(understood: Understood) -> tuple[Conversation, ...]:
    """What is rendered and scored: of a pair the prompt with the chosen answer and with the rejected one,
    else the conversation."""
    if (pair := understood.preference) is not None:
        asked = _prompted(pair.prompt)
        return asked + pair.chosen, asked + pair.rejected
    if understood.desirable is None:
        return (understood.conversation,)
    return (_last_answer(understood.conversation),)


def learnt_of(understood: Understood) -> Conversation:
    """One conversation to group rows by: that of a pair is the prompt with the chosen answer."""
    return sides_of(understood)[0]


def _prompted(messages: Iterable[Message]) -> Conversation:
    return tuple(replace(message, train=False, train_key=PROMPTED) for message in messages)


def _last_answer(conversation: Conversation) -> Conversation:
    """KTO learns from the completion: where no column tells it, from the last turn of the assistant."""
    if not any(message.part for message in conversation):
        last = max(i for i, message in enumerate(conversation) if message.role == ASSISTANT)
        asked, answer = conversation[:last], conversation[last : last + 1]
        return _prompted(of_part(PROMPT, asked)) + of_part(COMPLETION, answer)
    return tuple(
        message if message.part.startswith(COMPLETION) else _prompted([message])[0]
        for message in conversation
    )
