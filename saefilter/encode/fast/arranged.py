"""A transformers model arranged for a CPU in fp32: the same numbers, in less time.

Linear maps go through oneDNN (linear.py). Gated MLPs are computed a block of tokens at a time, so that
what is between their maps stays near the core. Attention with a soft cap (Gemma-2), which transformers
computes for all pairs of tokens and in many passes, is computed for what a token may look at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from saefilter.encode.fast.linear import Linear, blocks, has_one_dnn, padded

SOFT_CAPPED = "saefilter_soft_capped"
"""By this name transformers knows `soft_capped_attention`."""
QUERIES = 64
"""A block of queries looks at no token after its last one."""
MLP_PARTS = ("gate_proj", "up_proj", "down_proj", "act_fn")
"""Of a gated MLP, in every architecture that has one."""
TWO_SLOPES = 2 * (2 / torch.pi) ** 0.5
"""GELU is `x * sigmoid(TWO_SLOPES * (x + 0.044715 x^3))` where it is approximated."""


def arrange(model: Any, *, causal: bool) -> None:
    """Rearrange a transformers model in place. `causal`: no token sees a later one, and the model is
    given no mask."""
    if causal and getattr(model.config, "attn_logit_softcapping", None):
        from transformers import AttentionInterface

        AttentionInterface.register(SOFT_CAPPED, soft_capped_attention)
        model.set_attn_implementation(SOFT_CAPPED)
    if has_one_dnn():
        for parent, name, child in _children(model):
            if mlp := gated_mlp(child):
                setattr(parent, name, mlp)
        for parent, name, child in _children(model):
            if _is_fp32_linear(child):
                setattr(parent, name, PackedLinear(cast("nn.Linear", child)))


def _children(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            yield parent, name, child


def _is_fp32_linear(module: object) -> bool:
    # a subclass may do something else
    return type(module) is nn.Linear and module.weight.dtype == torch.float32


def _packed(linear: nn.Linear) -> Linear:
    bias = cast("Tensor | None", linear.bias)
    return Linear(linear.weight.data, None if bias is None else bias.data)


class PackedLinear(nn.Module):
    """`nn.Linear` by oneDNN."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.packed = _packed(linear)

    @property
    def weight(self) -> Tensor:
        """`[d_out, d_in]`, for code that asks for its precision."""
        return self.packed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.packed.of_all(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], self.packed.d_out)


class GatedMlp(nn.Module):
    """`down(act(gate(x)) * up(x))`, a block of tokens at a time."""

    wanted: Callable[[], Tensor | None] | None = None
    """Says of which tokens, `[batch, tokens]`, anybody will read the result; None: of all."""

    def __init__(self, mlp: Any):
        super().__init__()
        self.gate, self.up, self.down = map(_packed, (mlp.gate_proj, mlp.up_proj, mlp.down_proj))
        self.act = _faster(mlp.act_fn)

    def forward(self, x: Tensor) -> Tensor:
        wanted = None if self.wanted is None else self.wanted()
        if wanted is None or wanted.shape != x.shape[:-1]:
            return self._of_rows(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], self.down.d_out)
        out = x.new_zeros(*x.shape[:-1], self.down.d_out)
        out[wanted] = self._of_rows(x[wanted])
        return out

    def _of_rows(self, x: Tensor) -> Tensor:
        n, x = len(x), padded(x)
        out = x.new_empty(len(x), self.down.d_out)
        for block in blocks(n):
            part = x[block]
            out[block] = self.down(self.up.times(part, self.act(self.gate(part))))
        return out[:n]


def gated_mlp(module: Any) -> GatedMlp | None:
    """The same arranged, if its parts and a trial say that it is one: classes of many names are."""
    if {name for name, _ in module.named_children()} != set(MLP_PARTS) or not all(
        _is_fp32_linear(getattr(module, name)) for name in MLP_PARTS[:3]
    ):
        return None
    found = GatedMlp(module)
    with torch.inference_mode():
        x = torch.linspace(0, 50, 8 * module.gate_proj.in_features).cos().view(8, -1)
        expected = module(x)
        same = (found(x) - expected).norm() <= 1e-4 * expected.norm()
    return found if same else None


def _faster(act: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """An activation function, or its equal that is faster."""
    x = torch.linspace(-8, 8, 101)
    same = torch.allclose(act(x), functional.gelu(x, approximate="tanh"), atol=1e-6)
    return _gelu_tanh if same else act


def _gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its approximation with tanh, by a sigmoid: torch's tanh takes three times as long."""
    y = x.square().mul_(0.044715 * TWO_SLOPES).add_(TWO_SLOPES).mul_(x)
    return y.sigmoid_().mul_(x)


def soft_capped_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *,
    scaling: float, softcap: float, sliding_window: int | None = None, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Causal attention whose logits are `softcap * tanh(logits / softcap)`, as transformers calls it:
    `query` is `[batch, heads, tokens, d_head]`; `key` and `value` have as many heads or fewer, and tokens
    before those of the queries or none. Returns `[batch, tokens, heads, d_head]`, and no weights."""
    assert attention_mask is None
    batch, heads, tokens, d_head = query.shape
    kv_heads, before = key.shape[1], key.shape[2] - tokens
    # by a sigmoid: it differs by a constant, which softmax does not see, and is three times as fast
    query = (query * (2 * scaling / softcap)).view(batch, kv_heads, -1, tokens, d_head)
    out = query.new_empty(batch, tokens, heads, d_head)
    for start in range(0, tokens, QUERIES):
        end = min(start + QUERIES, tokens)
        first = max(0, before + start + 1 - sliding_window) if sliding_window else 0
        seen = slice(first, before + end)
        some = query[:, :, :, start:end].reshape(batch, kv_heads, -1, d_head)
        logits = (some @ key[:, :, seen].transpose(-1, -2)).sigmoid_().mul_(2 * softcap)
        behind = before + torch.arange(start, end)[:, None] - torch.arange(first, before + end)
        hidden = behind < 0
        if sliding_window:
            hidden |= behind >= sliding_window
        shaped = logits.view(batch, kv_heads, -1, end - start, before + end - first)
        shaped.masked_fill_(hidden, -torch.inf)
        found = torch.softmax(logits, dim=-1) @ value[:, :, seen]
        out[:, start:end] = found.view(batch, heads, end - start, d_head).transpose(1, 2)
    return out, None
