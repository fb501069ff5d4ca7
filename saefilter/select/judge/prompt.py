"""The question that a judge is asked about a conversation, how a row's text is kept apart in it, and what
is taken for an answer: one JSON object with a score and a reason, strictly or not at all.

A row may say anything. Each turn becomes a JSON object on a line of its own, so that its text can
neither begin a line nor end the string that holds it; around them stand two lines with a mark made
from the text's own hash, which the text cannot contain. That makes it plain to a reader what is data.
It does not make a language model obey.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation
from saefilter.rows.parse import json_type, parse_text
from saefilter.text import json_safe

PLACEHOLDER = "{conversation}"
OWN = Path(__file__).with_name("prompt.txt")
RENDERING = 1
"""Raised when conversations are written differently: old judgements are then not taken for new."""
REASON_CHARACTERS = 500
SHOWN_CHARACTERS = 80
_FENCED = re.compile(r"\A\s*```(?:json)?[ \t]*\n(.*)\n[ \t]*```\s*\Z", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Prompt:
    """A question with a place for the conversation."""

    text: str
    name: str
    """File name, or `default`."""

    @classmethod
    def load(cls, path: Path | None) -> Prompt:
        """Read a prompt file. Raises SaefilterError when it is missing or cannot lead to a judgement."""
        try:
            text = (path or OWN).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise SaefilterError(
                f"the prompt cannot be read ({error})", where=str(path), remedy="Check the name."
            ) from error
        if text.count(PLACEHOLDER) != 1:
            raise SaefilterError(
                f"{PLACEHOLDER} stands {text.count(PLACEHOLDER)} times in the prompt",
                where=str(path),
                remedy="Put it once where the conversation goes; other braces are plain text.",
            )
        missing = [word for word in ("JSON", "score", "reason") if word.lower() not in text.lower()]
        if missing:
            raise SaefilterError(
                f"the prompt does not say {' and '.join(missing)}",
                where=str(path),
                remedy='It must ask for a JSON object such as {"reason": "...", "score": 0}, the score '
                "from 0 to 100.",
            )
        return cls(text, path.name if path else "default")

    @cached_property
    def sha256(self) -> str:
        """Of everything but the conversation that makes up the question."""
        return hashlib.sha256(f"{RENDERING}\n{self.text}".encode()).hexdigest()

    def about(self, section: str) -> str:
        """The whole question about a conversation; `section` is what `conversation_section` wrote."""
        before, _, after = self.text.partition(PLACEHOLDER)
        return f"{before}{section}{after}"


def conversation_section(conversation: Conversation) -> tuple[str, str]:
    """The section of the prompt that holds a conversation, between two marked lines, and the SHA-256 of
    the conversation: what judgements are kept by.

    The row's own 64-bit hash would not do: who writes rows could make a harmless and a harmful one
    that share it, and have the judgement on the first stand for the second.
    """
    lines = "\n".join(
        json_safe(json.dumps(_turn(message), ensure_ascii=False, default=str))
        for message in conversation
    )
    digest = hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()
    mark = digest[:24]
    while mark in lines:  # a chance of 2**-96, or a broken hash
        mark = hashlib.sha256((mark + lines).encode()).hexdigest()[:24]
    return f"--- sample {mark} begins ---\n{lines}\n--- sample {mark} ends ---", digest


def _turn(message: Any) -> dict[str, Any]:
    turn = {"role": message.role, "content": message.content}
    return turn | {name: value for name, value in message.fields.items() if name not in turn}


class InvalidJudgement(Exception):
    """Why an answer is no judgement."""


@dataclass(frozen=True)
class Judgement:
    """What a judge says of one conversation."""

    score: float
    """0 (harmless) to 100 (harmful)."""
    reason: str
    """In the judge's words, which a row may have led: untrusted text."""
    tokens_in: int = 0
    """As the endpoint counts them; 0 where it does not say."""
    tokens_out: int = 0


def parse_judgement(text: str) -> tuple[float, str]:
    """Score and reason of an answer, which may stand in one Markdown fence.

    Raises InvalidJudgement for anything but one JSON object with `score`, a number from 0 to 100, and
    `reason`, a string. A score beyond the range is not bent into it: it shows that the question was
    not understood.
    """
    fenced = _FENCED.match(text)
    value, problem = parse_text(fenced[1] if fenced else text)
    if problem:
        raise InvalidJudgement(f"the answer is no JSON: {_shown(text)}")
    if not isinstance(value, dict):
        raise InvalidJudgement(f"the answer is {json_type(value)}, not an object: {_shown(text)}")
    score, reason = value.get("score"), value.get("reason")
    if isinstance(score, bool) or not isinstance(score, (int, float)):
        raise InvalidJudgement(f"the answer has no number as its score: {_shown(text)}")
    if not (math.isfinite(score) and 0 <= score <= 100):
        raise InvalidJudgement(f"the score is not between 0 and 100: {_shown(text)}")
    if not isinstance(reason, str):
        raise InvalidJudgement(f"the answer has no text as its reason: {_shown(text)}")
    return float(score), reason[:REASON_CHARACTERS]


def _shown(text: str) -> str:
    one_line = " ".join(text.split())
    return repr(one_line[:SHOWN_CHARACTERS] + ("…" if len(one_line) > SHOWN_CHARACTERS else ""))
