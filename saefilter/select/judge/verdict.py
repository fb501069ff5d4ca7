"""A judge's verdict: one JSON object with a score and a reason, taken strictly or not at all."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from saefilter.rows.parse import json_type, parse_text

REASON_CHARACTERS = 500
SHOWN_CHARACTERS = 80
_FENCED = re.compile(r"\A\s*```(?:json)?[ \t]*\n(.*)\n[ \t]*```\s*\Z", re.DOTALL | re.IGNORECASE)


class InvalidVerdict(Exception):
    """Why an answer is no verdict."""


@dataclass(frozen=True)
class Verdict:
    """What a judge says of one conversation."""

    score: float
    """0 (harmless) to 100 (harmful)."""
    reason: str
    """In the judge's words, which a row may have led: untrusted text."""
    tokens_in: int = 0
    """As the endpoint counts them; 0 where it does not say."""
    tokens_out: int = 0


def parse_verdict(text: str) -> tuple[float, str]:
    """Score and reason of an answer, which may stand in one Markdown fence.

    Raises InvalidVerdict for anything but one JSON object with `score`, a number from 0 to 100, and
    `reason`, a string. A score beyond the range is not bent into it: it shows that the question was
    not understood.
    """
    fenced = _FENCED.match(text)
    value, problem = parse_text(fenced[1] if fenced else text)
    if problem:
        raise InvalidVerdict(f"the answer is no JSON: {_shown(text)}")
    if not isinstance(value, dict):
        raise InvalidVerdict(f"the answer is {json_type(value)}, not an object: {_shown(text)}")
    score, reason = value.get("score"), value.get("reason")
    if isinstance(score, bool) or not isinstance(score, (int, float)):
        raise InvalidVerdict(f"the answer has no number as its score: {_shown(text)}")
    if not (math.isfinite(score) and 0 <= score <= 100):
        raise InvalidVerdict(f"the score is not between 0 and 100: {_shown(text)}")
    if not isinstance(reason, str):
        raise InvalidVerdict(f"the answer has no text as its reason: {_shown(text)}")
    return float(score), reason[:REASON_CHARACTERS]


def _shown(text: str) -> str:
    one_line = " ".join(text.split())
    return repr(one_line[:SHOWN_CHARACTERS] + ("…" if len(one_line) > SHOWN_CHARACTERS else ""))
