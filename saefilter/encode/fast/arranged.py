"""A transformers model arranged for a CPU in fp32: the same numbers, in less time.

Linear maps go through oneDNN (linear.py), which is up to twice as fast as torch's own on AMD. Gated MLPs
are computed a block of tokens at a time, so that what is between their maps stays near the core.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from saefilter.encode.fast.linear import Linear, blocks, has_one_dnn, padded

MLP_PARTS = ("gate_proj", "up_proj", "down_proj", "act_fn")
"""Of a gated MLP, in every architecture that has one."""
CLOSE = 1e-4
"""Relative error up to which a trial says that a module is a gated MLP; another function is off by far
more, rounding by far less."""


def arrange(model: nn.Module) -> None:
    """Exchange a model's gated MLPs and fp32 linear maps in place. It can be read, but no longer taught:
    oneDNN's maps have no gradients."""
    if not has_one_dnn():
        return
    for parent, name, child in _children(model):
        if mlp := gated_mlp(child):
            setattr(parent, name, mlp)
    for parent, name, child in _children(model):
        if _is_fp32_linear(child):
            setattr(parent, name, PackedLinear(child))


class PackedLinear(nn.Module):
    """`nn.Linear` by oneDNN."""

    def __init__(self, linear: Any):
        super().__init__()
        self.packed = _packed(linear)

    @property
    def weight(self) -> Tensor:
        """`[d_out, d_in]`, a copy, for code that asks for its precision."""
        return self.packed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.packed.of_all(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], self.packed.d_out)


class GatedMlp(nn.Module):
    """`down(act(gate(x)) * up(x))`, a block of tokens at a time."""

    def __init__(self, mlp: Any):
        super().__init__()
        self.gate, self.up, self.down = map(_packed, (mlp.gate_proj, mlp.up_proj, mlp.down_proj))
        self.act = mlp.act_fn

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        n, rows = len(rows), padded(rows)
        out = rows.new_empty(len(rows), self.down.d_out)
        for block in blocks(n):
            part = rows[block]
            out[block] = self.down(self.act(self.gate(part)).mul_(self.up(part)))
        return out[:n].view(*x.shape[:-1], self.down.d_out)


def gated_mlp(module: Any) -> GatedMlp | None:
    """The same arranged, if its parts and a trial say that it is one: classes of many names are."""
    if {name for name, _ in module.named_children()} != set(MLP_PARTS) or not all(
        _is_fp32_linear(getattr(module, name)) for name in MLP_PARTS[:3]
    ):
        return None
    arranged = GatedMlp(module)
    with torch.inference_mode():
        x = torch.linspace(0, 50, 8 * module.gate_proj.in_features).cos().view(8, -1)
        expected = module(x)
        same = (arranged(x) - expected).norm() <= CLOSE * expected.norm()
    return arranged if same else None


def _children(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            yield parent, name, child


def _is_fp32_linear(module: object) -> bool:
    # a subclass may do something else
    return type(module) is nn.Linear and module.weight.dtype == torch.float32


def _packed(linear: Any) -> Linear:
    return Linear(linear.weight.data, None if linear.bias is None else linear.bias.data)
