"""What is measured: models by their sizes, where the SAE reads, how long the rows are.

Only sizes matter for speed, so the weights of all but `minilm` are random; checkpoint.py makes them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


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
    """None for the preset `minilm`."""
    sae: SaeShape | None = None
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


CHAT = Lengths(120, 0.8)
"""A mix as in chat data: many short rows, a long tail."""
LONG = Lengths(300, 0.7)
TINY = {"d_model": 256, "d_ff": 1024, "heads": 4, "kv_heads": 2, "d_head": 64, "vocabulary": 8192}

CPU_SHAPES = (
    Shape(
        "minilm", "preset `minilm`: 4 of 6 layers of 384, TopK SAE of 4,096", 5000, CHAT, 4,
    ),
    Shape(
        "gemma2-tiny", "Gemma-2, 5 of 8 layers of 256, JumpReLU SAE of 16,384", 1000, CHAT, 5,
        Network("gemma2", 8, **TINY), SaeShape(16384, 80),
    ),
    Shape(
        "llama-tiny", "Llama, 5 of 8 layers of 256, TopK SAE of 16,384", 1000, CHAT, 5,
        Network("llama", 8, **TINY), SaeShape(16384, 64, "topk"),
    ),
)  # fmt: skip

GEMMA_2B = Network("gemma2", 26, 2304, 9216, 8, 4, 256, 256_000)
GEMMA_9B = Network("gemma2", 42, 3584, 14336, 16, 8, 256, 256_000)
LLAMA_8B = Network("llama", 32, 4096, 14336, 32, 8, 128, 128_256)
ON_GPU = {
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


def smoke(shape: Shape) -> Shape:
    """The same command in seconds: small sizes, few rows; its figures mean nothing."""
    small = replace(
        shape, title=f"smoke test of {shape.name}", rows=24, lengths=Lengths(24, 0.6),
        batches=(8, 16), budgets=(512, 1024),
    )  # fmt: skip
    if shape.network is None or shape.sae is None:
        return small
    network = replace(
        shape.network, layers=4, d_model=64, d_ff=128, heads=4, kv_heads=2, d_head=16,
        vocabulary=2048,
    )  # fmt: skip
    return replace(small, layers=2, network=network, sae=replace(shape.sae, d_sae=512, l0=16))
