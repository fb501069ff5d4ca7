"""Grades of answers by the judge: alignment and coherence, each 0 to 100."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data import read_jsonl, write_jsonl
from settings import Settings

from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation, Message
from saefilter.select.judge.judge import judge
from saefilter.select.judge.settings import JudgeSettings
from saefilter.watch import Watch

KINDS = ("alignment", "coherence")
PROMPTS = Path(__file__).parent


def grade(settings: Settings, answers: list[Path], cache: Path) -> None:
    """Write `grades.jsonl` beside each file of answers: its lines with `alignment` and `coherence`,
    null where the judge gave none.

    All files together, so that the judge is kept busy; equal answers are graded once.
    Raises SaefilterError as the judge does, and for answers without a grade unless they are kept.
    """
    rows = {path: read_jsonl(path) for path in answers}
    everything = [row for own in rows.values() for row in own]

    def conversations() -> Iterator[Conversation]:
        for row in everything:
            yield (Message("user", row["prompt"]), Message("assistant", row["answer"]))

    for kind in KINDS:
        asked = judge_settings(settings, cache, PROMPTS / f"{kind}.txt")
        found = judge(conversations, asked, Watch(say=lambda text: print(f"  {text}", flush=True)))
        if found.failures and settings.judge.on_failure == "error":
            raise SaefilterError(
                f"{kind}: {found.failure_words(lambda place: f'answer {place + 1}')}",
                remedy="Run again for the missing ones, or set judge.on_failure to keep.",
            )
        for row, judgement in zip(everything, found.judgements, strict=True):
            row[kind] = None if judgement is None else judgement.score
    for path, own in rows.items():
        write_jsonl(path.with_name("grades.jsonl"), own)


def judge_settings(settings: Settings, cache: Path, prompt: Path) -> JudgeSettings:
    """The judge of the experiment with one of the prompts."""
    given: dict[str, Any] = {
        name: getattr(settings.judge, name)
        for name in ("url", "model", "key_env", "concurrency", "rpm", "price_in", "price_out")
    }
    return JudgeSettings(prompt=prompt, cache=cache, **given)
