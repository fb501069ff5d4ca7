"""How long an experiment would take on a GPU, and what a judge would be asked: arithmetic, not measured.

python examples/paper/estimate.py examples/paper/paper-gemma-2-2b.toml
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from data import read_questions
from settings import Run, Settings, load, runs_of

from saefilter.encode.presets import load_preset
from saefilter.errors import SaefilterError

# The assumptions. One H100 SXM: its data sheet has 989 TFLOP/s in bf16 (dense) and 3.35 TB/s.
PEAK_FLOPS, PEAK_BYTES = 989e12, 3.35e12
USE_TRAINING = 0.3
"""Of the peak, in training and scoring: short rows, Hugging Face code, padding."""
USE_MEMORY = 0.5
"""Of the memory's speed, when weights are read once for every token that is generated."""
STEP_SECONDS = 0.035
"""At least, for one token of a batch: `generate` is bound by Python before it is by the GPU."""
LOAD_SECONDS = 30
"""Of one model, from disk."""
TRAINING_FLOPS_PER_PARAMETER = 6
"""Of a token: 2 forward, 2 backward through frozen weights (no gradients of them), 2 forward again for
gradient checkpointing. The adapter's own are under 2 % and left out."""
GRADE_TOKENS, JUDGEMENT_TOKENS = 300, 50
"""Of a prompt without the text that it is about, and of a judgement."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    try:
        for line in estimate(load(args.settings, args.set)):
            print(line)
    except SaefilterError as error:
        raise SystemExit(f"error: {error}") from error


def estimate(settings: Settings) -> list[str]:
    """A line for each stage. Raises SaefilterError without a preset, which has the model's size."""
    if settings.preset is None:
        raise SaefilterError("only a model of a preset can be estimated: its size is in the preset")
    preset = load_preset(settings.preset)
    assert preset.millions is not None
    assert preset.millions_to_hook is not None
    size, to_hook = preset.millions * 1e6, preset.millions_to_hook * 1e6
    runs = list(runs_of(settings))
    speed = PEAK_FLOPS * USE_TRAINING
    row_tokens = {mix.name: mix.tokens_per_row for mix in settings.mix}
    tokens = sum(mix.rows * mix.tokens_per_row for mix in settings.mix)
    scoring = 2 * to_hook * tokens / speed
    trained = sum(_tokens(settings, run, row_tokens) for run in runs)
    training = TRAINING_FLOPS_PER_PARAMETER * size * trained / speed
    asked = settings.answers
    batches = len(read_questions()) * math.ceil(asked.per_question / asked.batch)
    step = max(STEP_SECONDS, 2 * size / (PEAK_BYTES * USE_MEMORY))
    generating = len(runs) * batches * asked.max_new_tokens * step
    loading = len(runs) * LOAD_SECONDS
    grades = 2 * len(runs) * len(read_questions()) * asked.per_question
    judged = sum(mix.rows for mix in settings.mix) if "judge" in settings.arms else 0
    sent = grades * (GRADE_TOKENS + asked.max_new_tokens) + judged * GRADE_TOKENS
    sent += tokens if judged else 0
    return [
        f"{settings.name}: {len(runs)} models",
        f"score: {tokens / 1e6:.1f} M tokens, {_time(scoring)}",
        f"fine-tune: {trained / 1e6:.0f} M tokens, {_time(training)}",
        f"answer: {len(runs) * batches * asked.batch:,} answers, {_time(generating)} at most",
        f"load: {_time(loading)}",
        f"one GPU, all of it: {_time(scoring + training + generating + loading)}",
        f"judge: {judged:,} rows and {grades:,} grades, {sent / 1e6:.0f} M tokens sent, "
        f"{(judged + grades) * JUDGEMENT_TOKENS / 1e6:.1f} M received",
    ]


def _tokens(settings: Settings, run: Run, row_tokens: dict[str, int]) -> int:
    if run.mix is None:
        return 0
    train = settings.train
    return train.steps * train.batch * train.accumulate * row_tokens[run.mix]


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"


if __name__ == "__main__":
    main()
