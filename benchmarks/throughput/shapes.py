"""What is measured: models by their sizes, where the SAE reads, how long the rows are.

Only sizes matter for speed, so the weights of all but presets' are random; checkpoint.py makes them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Network:
    """A causal model's architecture and sizes."""

    family: str
    """`gemma2` or `llama`."""
    layers: int
    d_model: int
    d_ff: int
    heads: int
    kv_heads: int
    d_head: int
    vocabulary: int
    window: int = 4096
    """Sliding window of every second layer (gemma2)."""
    rotary_base: int = 10_000


@dataclass(frozen=True)
class SaeShape:
    """A random SAE's sizes."""

    d_sae: int
    l0: int
    """Active features per token; thresholds are set so that it comes out."""
    architecture: str = "jumprelu"
    """`jumprelu` or `topk`."""


@dataclass(frozen=True)
class Lengths:
    """Tokens per row of written rows: log-normal, or all the same."""

    mean: int
    spread: float
    """Standard deviation of the logarithm; 0 for rows of one length."""


@dataclass(frozen=True)
class Shape:
    """One line of the benchmark."""

    name: str
    title: str
    rows: int
    """How many are scored unless told otherwise."""
    lengths: Lengths
    """Of the rows that are written where no data are given."""
    layers: int
    """Before the hook."""
    network: Network | None = None
    """Sizes of the causal model; None where only Hugging Face's classes run it."""
    sae: SaeShape | None = None
    """None for a preset's own."""
    preset: str | None = None
    """Real weights instead of random ones."""
    folder: str | None = None
    """Of a preset's model, inside that of `SAEFILTER_REAL_MODELS`; None where weights come with a
    package."""
    whole_on_disk: bool = True
    """Whether the checkpoint holds the layers after the hook too. Those that only contenders which run
    the whole model need are otherwise made up in memory."""
    batches: tuple[int, ...] = (4, 8, 16, 32, 64)
    """Rows per batch that the alternatives may choose from; 8 is interp_embed's default."""
    budgets: tuple[int, ...] = (1024, 2048, 4096, 8192, 16384)
    """Tokens per batch that the bare model may choose from."""

    @property
    def hook(self) -> str:
        """Where the SAE reads, in TransformerLens's words."""
        return f"blocks.{self.layers - 1}.hook_resid_post"

    @property
    def causal(self) -> bool:
        """Whether no token sees a later one."""
        return self.preset != "minilm"

    def real_model(self) -> Path | None:
        """Where a preset's model is. Raises FileNotFoundError with what to do where it is not."""
        if self.folder is None:
            return None
        path = Path(os.environ.get("SAEFILTER_REAL_MODELS", "")).resolve() / self.folder
        if "SAEFILTER_REAL_MODELS" not in os.environ or not (path / "config.json").exists():
            raise FileNotFoundError(f"SAEFILTER_REAL_MODELS names no folder with {self.folder}")
        return path


CHAT = Lengths(120, 0.8)
"""A mix as in chat data: many short rows, a long tail."""
LONG = Lengths(300, 0.7)
TINY: dict[str, Any] = {
    "d_model": 256,
    "d_ff": 1024,
    "heads": 4,
    "kv_heads": 2,
    "d_head": 64,
    "vocabulary": 8192,
}

SMOLLM2 = Network("llama", 30, 576, 1536, 9, 3, 64, 49_152, rotary_base=100_000)

CPU_SHAPES = (
    Shape(
        "minilm", "preset `minilm`: 4 of 6 layers of 384, TopK SAE of 4,096", 5000, CHAT, 4,
        preset="minilm",
    ),
    Shape(
        "gemma2-tiny", "Gemma-2, 5 of 8 layers of 256, JumpReLU SAE of 16,384", 1000, CHAT, 5,
        Network("gemma2", 8, **TINY), SaeShape(16384, 80),
    ),
    Shape(
        "llama-tiny", "Llama, 5 of 8 layers of 256, TopK SAE of 16,384", 1000, CHAT, 5,
        Network("llama", 8, **TINY), SaeShape(16384, 64, "topk"),
    ),
    Shape(
        "smollm2-135m", "SmolLM2-135M, real weights, 15 of 30 layers of 576, TopK SAE of 4,096",
        300, CHAT, 15, SMOLLM2, preset="smollm2-135m", folder="smollm2-135m-instruct",
    ),
)  # fmt: skip

GEMMA_2B = Network("gemma2", 26, 2304, 9216, 8, 4, 256, 256_000)
GEMMA_9B = Network("gemma2", 42, 3584, 14336, 16, 8, 256, 256_000)
LLAMA_8B = Network("llama", 32, 4096, 14336, 32, 8, 128, 128_256)
ON_GPU: dict[str, Any] = {
    "whole_on_disk": False,
    "batches": (2, 4, 8, 16, 32, 64, 128),
    "budgets": (8192, 16384, 32768, 65536),
}

GPU_SHAPES = (
    Shape("gemma2-2b-16k", "Gemma-2-2B after layer 12, JumpReLU SAE of 16,384", 4000, LONG, 13,
          GEMMA_2B, SaeShape(16384, 80), **ON_GPU),
    Shape("gemma2-2b-65k", "Gemma-2-2B after layer 12, JumpReLU SAE of 65,536", 4000, LONG, 13,
          GEMMA_2B, SaeShape(65536, 80), **ON_GPU),
    Shape("gemma2-9b-16k", "Gemma-2-9B after layer 20, JumpReLU SAE of 16,384", 2000, LONG, 21,
          GEMMA_9B, SaeShape(16384, 80), **ON_GPU),
    Shape("llama-8b-32k", "Llama-3.1-8B after layer 16, JumpReLU SAE of 32,768", 2000, LONG, 17,
          LLAMA_8B, SaeShape(32768, 64), **ON_GPU),
    Shape("llama-8b-1000x300", "Llama-3.1-8B after layer 16, 1,000 rows of 300 tokens", 1000,
          Lengths(300, 0), 17, LLAMA_8B, SaeShape(32768, 64), **ON_GPU),
)  # fmt: skip


REAL_ON_GPU = (
    replace(CPU_SHAPES[-1], rows=4000, batches=ON_GPU["batches"], budgets=ON_GPU["budgets"]),
    Shape("gemma-3-270m", "Gemma-3 270M, real weights, after layer 9, Gemma Scope 2 of 16,384", 4000,
          LONG, 10, preset="gemma-3-270m", folder="gemma-3-270m", **ON_GPU),
)  # fmt: skip


def smoke(shape: Shape) -> Shape:
    """The same command in seconds: small sizes, few rows; its figures mean nothing."""
    small = replace(
        shape, title=f"smoke test of {shape.name}", rows=24, lengths=Lengths(24, 0.6),
        batches=(8, 16), budgets=(512, 1024),
    )  # fmt: skip
    if not shape.causal:
        return small
    network = replace(
        shape.network or SMOLLM2, layers=4, d_model=64, d_ff=128, heads=4, kv_heads=2, d_head=16,
        vocabulary=2048,
    )  # fmt: skip
    sae = replace(shape.sae or SaeShape(0, 0, "topk"), d_sae=512, l0=16)
    return replace(small, layers=2, network=network, sae=sae, preset=None, folder=None)
