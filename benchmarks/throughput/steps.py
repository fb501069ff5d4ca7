"""What is measured on a GPU, most telling first, each with the minutes that it may take.

A step is named on the command line of its own process (step.py), which gpu.py starts and, when its time is up,
stops. What it returns is the step's entry in the results: a `figure` in words and whatever it is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.throughput import switches
from benchmarks.throughput.prepare import Prepared, prepare
from benchmarks.throughput.results import outcome_fields
from benchmarks.throughput.rounds import BARE, FLOOR, INSIDE, OURS, measure
from benchmarks.throughput.shapes import GPU_SHAPES, REAL_ON_GPU, Shape, smoke

PEER_TOKENS = 60_000
"""What alternatives read of a shape, evenly over its rows; their rates are per token."""
PEERS = ("tutorial", "stop")
"""sae-lens's ways."""


@dataclass(frozen=True)
class Asked:
    """What a step is told."""

    folder: Path
    """Where shapes are made ready, for this step and those that use them again."""
    smoke: bool
    """Tiny sizes on the CPU: does everything run?"""
    data: tuple[Path, ...]
    """Rows of these files instead of written ones."""
    until: float
    """No further round begins after it, of `time.monotonic()`."""
    say: Callable[[str], None]

    @property
    def device(self) -> torch.device:
        return torch.device("cpu" if self.smoke else "cuda")

    @property
    def dtype(self) -> str:
        """A CPU without units for it takes long for bf16; the smoke test is to be short."""
        return "fp32" if self.smoke else "bf16"

    def ready(self, shape: Shape) -> Prepared:
        """The shape's checkpoint and rows."""
        shape = smoke(shape) if self.smoke else shape
        place = self.folder / shape.name
        return prepare(shape, place, self.data, shape.rows, self.device)


@dataclass(frozen=True)
class Step:
    """One line of the table."""

    name: str
    title: str
    wanted: str
    """What would be good, in words; empty where nothing is promised."""
    minutes: float
    """It may take; what is left goes to those after it."""
    shape: str
    """Whose checkpoint it reads; empty for none."""
    run: Callable[[Asked, Step], dict[str, Any]]


def shape_of(name: str) -> Shape:
    """A shape by its name."""
    return next(shape for shape in (*GPU_SHAPES, *REAL_ON_GPU) if shape.name == name)


def rate(asked: Asked, step: Step) -> dict[str, Any]:
    """Ours, the bare forward pass and the arithmetic, in turn."""
    return _measured(asked, step, (), None)


def peers(asked: Asked, step: Step) -> dict[str, Any]:
    """The same beside sae-lens's ways."""
    return _measured(asked, step, PEERS, None if asked.smoke else PEER_TOKENS)


def _measured(
    asked: Asked, step: Step, only: Sequence[str], peer_tokens: int | None
) -> dict[str, Any]:
    prepared = asked.ready(shape_of(step.shape))
    runs = 1 if asked.smoke else 3
    outcome = measure(
        prepared, asked.dtype, runs, asked.folder, asked.say, peer_tokens,
        only=only, until=asked.until,
    )  # fmt: skip
    fields = outcome_fields(outcome, prepared)
    shown = fields["contenders"]
    share = shown[INSIDE]["tokens_per_second"] / (shown[FLOOR]["tokens_per_second"] or 1.0)
    told = [
        f"{prepared.n_rows:,} rows of {prepared.tokens / prepared.n_rows:.0f} tokens in "
        f"{fields['ours']['scoring_seconds']:.1f} s after start-up, whole process "
        f"{prepared.tokens / shown[OURS]['tokens_per_second']:.1f} s",
        f"{shown[INSIDE]['tokens_per_second']:,.0f} tokens/s, {share:.0%} of the measured "
        f"{asked.dtype} rate ({outcome.floor['model_rate'] / 1e12:,.2f} TFLOP/s)",
    ]
    for key in (BARE, *only):
        one = shown[key]
        if not one["tokens_per_second"]:
            told.append(f"{one['title']} does not run: {one['problem']}")
            continue
        inside = shown[INSIDE]["tokens_per_second"] / one["tokens_per_second"]
        told.append(f"{inside:.2f} x {one['title'].partition(' ')[2]} ({one['ours_over_it']:.2f} x "
                    "with start-up)")  # fmt: skip
    rounds = len(shown[OURS]["rounds"])
    return fields | {
        "rows": prepared.n_rows, "tokens": prepared.tokens, "share": share,
        "figure": "; ".join(told) + f"; medians of {rounds}",
    }  # fmt: skip


def precisions(asked: Asked, step: Step) -> dict[str, Any]:
    return switches.precisions(asked.ready(shape_of(step.shape)), asked.folder)


def lanes(asked: Asked, step: Step) -> dict[str, Any]:
    return switches.lanes(asked.ready(shape_of(step.shape)), asked.dtype, asked.until)


def prefixes(asked: Asked, step: Step) -> dict[str, Any]:
    return switches.prefixes(asked.ready(shape_of(step.shape)), asked.dtype, asked.until)


def nearest(asked: Asked, _step: Step) -> dict[str, Any]:
    """At the sizes of Gemma-2-2B's SAE of 65,536."""
    if asked.smoke:
        return switches.nearest(asked.device, 512, 64, (20, 100))
    return switches.nearest(asked.device, 65_536, 2304)


STEPS = (
    Step("8b-rows", "1,000 rows of 300 tokens, Llama-3.1-8B shape", "under 6 s; 50 % of the bf16 rate",
         5, "llama-8b-1000x300", rate),
    Step("9b", "Gemma-2-9B shape, rows as in long chats", "50 % of the bf16 rate", 5,
         "gemma2-9b-16k", rate),
    Step("2b", "Gemma-2-2B shape, rows as in long chats", "40 % of the bf16 rate", 4,
         "gemma2-2b-16k", rate),
    Step("8b-sae-lens", "1,000 rows of 300 tokens, Llama-3.1-8B shape, beside sae-lens's ways", "5 times as fast", 5, "llama-8b-1000x300",
         peers),
    Step("8b-precision", "rankings in bf16 and fp32, the same shape", "Spearman over 0.999", 4,
         "llama-8b-1000x300", precisions),
    Step("8b-lanes", "two lanes against one, the same shape", "", 2, "llama-8b-1000x300", lanes),
    Step("8b-prefixes", "a system prompt of 200 tokens computed once, the same shape", "", 3,
         "llama-8b-1000x300", prefixes),
    Step("nearest", "nearest directions by FAISS and by torch", "", 1, "", nearest),
    Step("smollm2", "SmolLM2-135M, real weights, beside sae-lens's ways", "", 4, "smollm2-135m",
         peers),
    Step("smollm2-precision", "its rankings in bf16 and fp32", "Spearman over 0.999", 2,
         "smollm2-135m", precisions),
    Step("gemma-3-270m", "Gemma-3 270M, real weights", "", 3, "gemma-3-270m", rate),
    Step("2b-65k", "Gemma-2-2B shape with an SAE of 65,536", "", 2, "gemma2-2b-65k", rate),
)  # fmt: skip
