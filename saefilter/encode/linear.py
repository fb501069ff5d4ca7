"""A linear map on a CPU, with what oneDNN does in one go with it.

torch's own first copies the bias out and passes over the result once more for a sum or a GELU; oneDNN
also keeps the weights in the order in which its kernels read them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

ONE_DNN: Any = torch.ops.mkldnn
FUSES: bool = torch._C._has_mkldnn and hasattr(ONE_DNN, "_linear_pointwise")
TYPICAL_ROWS = 512
"""For how many rows at a time the order of the weights is chosen."""


class Linear:
    """`x @ weight.T + bias`; where oneDNN is not in torch, by torch alone."""

    def __init__(self, weight: Tensor, bias: Tensor):
        """`weight`: `[d_out, d_in]`; `bias`: `[d_out]`."""
        self._bias = bias
        weight = weight.contiguous()
        # either of the two: an SAE's weights may be gigabytes
        self._packed = ONE_DNN._reorder_linear_weight(weight, TYPICAL_ROWS) if FUSES else None
        self._plain = None if FUSES else weight

    def __call__(self, x: Tensor) -> Tensor:
        """The map of `x`, `[n, d_in]`."""
        if self._plain is not None:
            return functional.linear(x, self._plain, self._bias)
        return self._fused(x, "none", "")

    def gelu(self, x: Tensor) -> Tensor:
        """GELU of the map."""
        if self._plain is not None:
            return functional.gelu(functional.linear(x, self._plain, self._bias))
        return self._fused(x, "gelu", "none")

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """The map plus `other`, `[n, d_out]`."""
        if self._plain is not None:
            return functional.linear(x, self._plain, self._bias).add_(other)
        sum_: Tensor = ONE_DNN._linear_pointwise.binary(x, other, self._packed, self._bias, "add")
        return sum_

    def _fused(self, x: Tensor, function: str, algorithm: str) -> Tensor:
        y: Tensor = ONE_DNN._linear_pointwise(x, self._packed, self._bias, function, [], algorithm)
        return y
