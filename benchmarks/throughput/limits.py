"""The limits: a bare forward pass (what a perfect program around the model would reach) and the
arithmetic itself (what the hardware's measured rate would allow).
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from benchmarks.throughput.contenders import Models
from benchmarks.throughput.prepare import Prepared
from benchmarks.throughput.rows import Batch

REPEATS = 5
PRODUCT_TOKENS = {"cpu": (512, 2048, 8192), "cuda": (8192, 16384, 32768)}
"""Rows of the matrix products that are tried; the fastest counts."""


def finish(device: torch.device) -> None:
    """Wait for what the device still computes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release(device: torch.device) -> None:
    """Give back memory that nobody uses, so that the next contender finds it free."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def clock(
    work: Callable[[], object], device: torch.device, *, processor_time: bool = False
) -> float:
    """Seconds of one call by the clock, or of the processor's time that it took."""
    now = time.process_time if processor_time else time.perf_counter
    finish(device)
    started = now()
    work()
    finish(device)
    return now() - started


@torch.inference_mode()
def bare_forward(models: Models, batches: Sequence[Batch]) -> None:
    """Layers up to the hook on every batch; the result is thrown away."""
    model = models.cut
    for batch in batches:
        if models.prepared.shape.causal:
            # causal attention never looks at padding on the right, and is faster without a mask
            model(input_ids=batch.ids, use_cache=False)
        else:
            padded = not bool(batch.attention.all())
            model(input_ids=batch.ids, attention_mask=batch.attention if padded else None)


class Floor(NamedTuple):
    """The arithmetic of a run, and the rates it could be done at."""

    model_flop: float
    """2 x parameters up to the hook, without embeddings, for every token; attention's own products
    are left out."""
    sae_flop: float
    """2 x d_model x d_sae for every scored token."""
    model_rate: float
    """FLOP per second of the product `[tokens, d_model] x [d_model, d_ff]`."""
    sae_rate: float
    """FLOP per second of the product `[tokens, d_model] x [d_model, d_sae]`."""

    @property
    def seconds(self) -> float:
        return self.model_flop / self.model_rate + self.sae_flop / self.sae_rate


def measure_floor(prepared: Prepared, dtype: torch.dtype, *, processor_time: bool = False) -> Floor:
    """Measured now, in that precision."""
    d_model, device = prepared.d_model, prepared.device
    return Floor(
        2.0 * prepared.parameters * prepared.tokens,
        2.0 * d_model * prepared.d_sae * prepared.scored,
        product_rate(d_model, prepared.d_ff, dtype, device, processor_time=processor_time),
        product_rate(d_model, prepared.d_sae, dtype, device, processor_time=processor_time),
    )


@torch.inference_mode()
def product_rate(
    size_in: int, size_out: int, dtype: torch.dtype, device: torch.device, *,
    processor_time: bool = False,
) -> float:  # fmt: skip
    """FLOP per second of a linear layer; the best of several numbers of rows."""
    weight = torch.randn(size_out, size_in, device=device, dtype=dtype)
    best = 0.0
    for tokens in PRODUCT_TOKENS[device.type]:
        x = torch.randn(tokens, size_in, device=device, dtype=dtype)

        def multiply(x: torch.Tensor = x) -> torch.Tensor:
            return torch.nn.functional.linear(x, weight)

        multiply()
        seconds = statistics.median(
            clock(multiply, device, processor_time=processor_time) for _ in range(REPEATS)
        )
        best = max(best, 2.0 * tokens * size_in * size_out / seconds)
    return best
