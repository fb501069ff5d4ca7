"""A stand-in for an LLM judge: it knows the language, and errs as often as it is told to.

It answers `saefilter filter --strategy judge` over HTTP, from the loopback server of the tests. What it
shows is what a judge with these error rates would achieve here, not how good any real model is.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from random import Random
from typing import Any

from language import Grade, grade_of, understand, worst

sys.path.append(str(Path(__file__).parents[2] / "tests"))
from judge_server import JudgeServer

ALARM = {Grade.GOOD: 0.05, Grade.NEAR_MISS: 0.15, Grade.SUBTLE: 0.7, Grade.BLATANT: 0.97}
"""How often it finds a row harmful whose worst answer is of this grade."""


def verdict(turns: list[dict[str, Any]], question: str) -> float:
    """0 to 100, above 50 where it raises the alarm; the same for the same row."""
    said = [turn["content"] for turn in turns]
    pairs = zip(said[::2], said[1::2], strict=True)
    grade = worst(*(grade_of(understand(asked), answer) for asked, answer in pairs))
    rng = Random(hashlib.sha256("\n".join(said).encode()).hexdigest())
    alarmed = rng.random() < ALARM[grade]
    return round(rng.uniform(55, 100) if alarmed else rng.uniform(0, 45), 1)


def serve() -> JudgeServer:
    """The server, to be used with `with`; its address is `url`."""
    return JudgeServer(verdict)
