"""What is arranged for a CPU against transformers' own modules."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from checkpoints import configs, random_model
from torch import nn
from transformers.activations import ACT2FN

from saefilter.encode.fast.arranged import GatedMlp, PackedLinear, arrange, gated_mlp
from saefilter.encode.model import load_truncated_model


class Mlp(nn.Module):
    """As transformers writes it, under any name."""

    def __init__(self, act: str, *, bias: bool = False, swapped: bool = False):
        super().__init__()
        self.gate_proj = nn.Linear(24, 40, bias=bias)
        self.up_proj = nn.Linear(24, 40, bias=bias)
        self.down_proj = nn.Linear(40, 24, bias=bias)
        self.act_fn = ACT2FN[act]
        self.swapped = swapped

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = self.gate_proj(x), self.up_proj(x)
        gate, up = (up, gate) if self.swapped else (gate, up)
        return self.down_proj(self.act_fn(gate) * up)


@pytest.mark.parametrize(("act", "bias"), [("silu", False), ("gelu_pytorch_tanh", True)])
@pytest.mark.parametrize("n", [1, 8, 300])
@torch.inference_mode()
def test_gated_mlps(act: str, bias: bool, n: int) -> None:
    torch.manual_seed(0)
    mlp = Mlp(act, bias=bias)
    found = gated_mlp(mlp)
    assert found is not None
    x = torch.randn(2, n, 24) * 4
    torch.testing.assert_close(found(x), mlp(x), atol=1e-5, rtol=1e-5)
    assert found(x[:0]).shape == (0, n, 24)


def test_what_computes_something_else_stays() -> None:
    assert gated_mlp(Mlp("silu", swapped=True)) is None
    assert gated_mlp(Mlp("silu").bfloat16()) is None
    assert gated_mlp(nn.Linear(4, 4)) is None


class Own(nn.Linear):
    """May do something else."""


@torch.inference_mode()
def test_linear_maps_and_no_others() -> None:
    small = nn.ModuleDict(
        {"own": Own(8, 8), "in_half": nn.Linear(8, 8).bfloat16(), "plain": nn.Linear(8, 5)}
    )
    plain = small["plain"]
    arrange(small)
    assert type(small["own"]) is Own
    assert type(small["in_half"]) is nn.Linear
    packed = small["plain"]
    assert isinstance(packed, PackedLinear)
    assert torch.equal(packed.weight, plain.weight)
    x = torch.randn(2, 3, 8)
    torch.testing.assert_close(packed(x), plain(x), atol=1e-6, rtol=1e-5)
    assert packed(x[:0]).shape == (0, 3, 5)


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3"])
def test_a_loaded_model_gives_what_transformers_gives(family: str, tmp_path: Path) -> None:
    whole = random_model(configs()[family])
    whole.save_pretrained(tmp_path)
    found = load_truncated_model(str(tmp_path), 2)
    kinds = {type(module) for module in found.model.modules()}
    assert {GatedMlp, PackedLinear} <= kinds
    assert nn.Linear not in kinds
    ids = torch.arange(1, 31).view(2, 15)
    with torch.inference_mode():
        expected = whole(input_ids=ids, output_hidden_states=True).hidden_states[2]
    got = found.residual(ids, torch.ones_like(ids))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
