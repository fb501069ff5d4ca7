"""Linear maps on a CPU by oneDNN: weights in the order its kernels read them, bias and, with AVX-512, GELU
in the same pass. torch's own map is of MKL and a pass more for each.

oneDNN makes a kernel for every number of rows that it meets and keeps it, half a megabyte each. So maps
are given blocks of rows, and the last block is rounded up: there are few sizes, whatever the batches.
"""

from __future__ import annotations

import platform
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

BLOCK_ROWS = 256
"""Enough rows for the full rate, few enough that what is computed of them stays near the core."""
STEP_ROWS = 8
"""A block has a multiple of these many rows."""


def padded(x: Tensor) -> Tensor:
    """`[n, d]` with rows of zeros after it, as many as the last block lacks."""
    return functional.pad(x, (0, 0, 0, missing)) if (missing := -len(x) % STEP_ROWS) else x


def blocks(n: int) -> list[slice]:
    """The blocks of `n` rows that were `padded`."""
    end = n + -n % STEP_ROWS
    return [slice(at, min(at + BLOCK_ROWS, end)) for at in range(0, end, BLOCK_ROWS)]


@cache
def has_one_dnn() -> bool:
    """Whether torch offers oneDNN's fused maps here, and they work. They are the operators that its
    own compiler emits, not a public interface, hence the trial; other processors were not measured."""
    one_dnn: bool = torch._C._has_mkldnn
    if platform.machine() not in ("x86_64", "AMD64") or not one_dnn:
        return False
    try:
        with torch.inference_mode():
            weight, bias, x = torch.eye(8), torch.ones(8), torch.ones(8, 8)
            y = _fused(torch.ops.mkldnn._reorder_linear_weight(weight, 8), bias, x, "gelu")
            return torch.allclose(y, functional.gelu(x + bias), atol=1e-5)
    except (AttributeError, RuntimeError, TypeError):
        return False


@cache
def _fuses_gelu() -> bool:
    """Whether GELU in the map's pass takes less time than after it: oneDNN reads it from a table, which
    AVX2 is slow at (measured: 21 instead of 17 us for 384 x 1,536)."""
    return "AVX512" in torch.backends.cpu.get_cpu_capability()


def _fused(weight: Tensor, bias: Tensor | None, x: Tensor, activation: str) -> Tensor:
    algorithm = "none" if activation == "gelu" else ""  # the exact one, by the error function
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], algorithm)
    return y


class Linear:
    """`x @ weight.T + bias`, and an activation of it, for blocks of fp32 rows; by torch alone where
    oneDNN is not at hand, and in other precisions."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False):
        """`weight`: `[d_out, d_in]`; `bias`: `[d_out]`."""
        self.bias = bias
        self.activation = "gelu" if gelu else "none"
        self.d_out = len(weight)
        self._packs = weight.dtype == torch.float32 and has_one_dnn()
        # either of the two: an SAE's weights may be gigabytes
        self._weight: Tensor = (
            torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), BLOCK_ROWS)
            if self._packs else weight
        )  # fmt: skip

    @property
    def weight(self) -> Tensor:
        """As it was given."""
        return self._weight.to_dense() if self._packs else self._weight

    def __call__(self, block: Tensor) -> Tensor:
        """Of one of the `blocks` of some rows, `[n, d_in]`: `[n, d_out]`."""
        if self._packs and (self.activation == "none" or _fuses_gelu()):
            return _fused(self._weight, self.bias, block, self.activation)
        if self._packs:
            y = _fused(self._weight, self.bias, block, "none")
        else:
            y = functional.linear(block, self._weight, self.bias)
        return functional.gelu(y) if self.activation == "gelu" else y

    def of_all(self, x: Tensor) -> Tensor:
        """Of any number of rows."""
        n, x = len(x), padded(x)
        done = [self(x[block]) for block in blocks(n)]
        return done[0][:n] if len(done) == 1 else torch.cat([x.new_empty(0, self.d_out), *done])[:n]
