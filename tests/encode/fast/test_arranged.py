"""What is arranged for a CPU against transformers' own modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from checkpoints import GROUPED, TOKENS, configs, save_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.activations import ACT2FN

from saefilter.encode.fast import linear
from saefilter.encode.fast.arranged import (
    QUERIES,
    GatedMlp,
    PackedLinear,
    arrange,
    gated_mlp,
    soft_capped_attention,
)
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


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("act", ["silu", "gelu_pytorch_tanh", "gelu", "relu"])
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


@torch.inference_mode()
def test_of_wanted_tokens_alone() -> None:
    torch.manual_seed(0)
    mlp = Mlp("silu")
    found = gated_mlp(mlp)
    assert found is not None
    x, wanted = torch.randn(2, 9, 24), torch.rand(2, 9) < 0.5
    found.wanted = lambda: wanted
    torch.testing.assert_close(found(x)[wanted], mlp(x)[wanted], atol=1e-5, rtol=1e-5)
    assert not found(x)[~wanted].any()
    whole = torch.randn(5, 24)  # as a mixture of experts hands it on
    torch.testing.assert_close(found(whole), mlp(whole), atol=1e-5, rtol=1e-5)


def test_what_computes_something_else_stays() -> None:
    assert gated_mlp(Mlp("silu", swapped=True)) is None
    assert gated_mlp(Mlp("silu").bfloat16()) is None
    assert gated_mlp(nn.Linear(4, 4)) is None


class Small(nn.Module):
    config = hf.LlamaConfig()

    def __init__(self) -> None:
        super().__init__()
        self.own = Own(8, 8)
        self.in_half = nn.Linear(8, 8).bfloat16()
        self.inner = nn.ModuleList([nn.Linear(8, 5)])


class Own(nn.Linear):
    """May do something else."""


@torch.inference_mode()
def test_linear_maps_and_no_others() -> None:
    small = Small()
    (plain,) = small.inner
    arrange(small, causal=True)
    assert type(small.own) is Own
    assert type(small.in_half) is nn.Linear
    (packed,) = small.inner
    assert isinstance(packed, PackedLinear)
    assert torch.equal(packed.weight, plain.weight)
    x = torch.randn(2, 3, 8)
    torch.testing.assert_close(packed(x), plain(x), atol=1e-6, rtol=1e-5)
    assert packed(x[:0]).shape == (0, 3, 5)


def test_without_one_dnn_all_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saefilter.encode.fast.arranged.has_one_dnn", lambda: False)
    small = Small()
    arrange(small, causal=True)
    assert type(small.inner[0]) is nn.Linear


def test_models_on_the_cpu_are_arranged(tmp_path: Path) -> None:
    """Else this module would be tested and not used."""
    save_model(configs()["gemma2"], tmp_path)
    model = load_truncated_model(str(tmp_path), 2).model
    kinds = [type(module) for module in model.modules()]
    assert (GatedMlp in kinds, nn.Linear in kinds) == (
        linear.has_one_dnn(),
        not linear.has_one_dnn(),
    )
    in_bf16 = load_truncated_model(str(tmp_path), 2, dtype="bf16").model
    assert nn.Linear in [type(module) for module in in_bf16.modules()]


def capped(query: Any, key: Any, value: Any, scaling: float, cap: float, window: int | None) -> Any:
    """As the formula says, over all pairs, in double precision."""
    query, key, value = (x.double() for x in (query, key, value))
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    logits = cap * torch.tanh(scaling * query @ key.transpose(-1, -2) / cap)
    place = torch.arange(key.shape[2])
    behind = place[-query.shape[2] :, None] - place
    hidden = behind < 0
    if window:
        hidden = hidden | (behind >= window)
    weights = torch.softmax(logits.masked_fill(hidden, -torch.inf), dim=-1)
    return (weights @ value).transpose(1, 2).float()


@settings(deadline=None)
@given(
    tokens=st.integers(1, 2 * QUERIES + 3),
    before=st.integers(0, QUERIES + 3),
    groups=st.integers(1, 3),
    window=st.one_of(st.none(), st.integers(1, 2 * QUERIES)),
    size=st.sampled_from([0.1, 3.0, 30.0]),
)
@torch.inference_mode()
def test_soft_capped_attention(
    tokens: int, before: int, groups: int, window: int | None, size: float
) -> None:
    generator = torch.Generator().manual_seed(tokens)
    query = size * torch.randn(2, 2 * groups, tokens, 8, generator=generator)
    key = torch.randn(2, 2, before + tokens, 8, generator=generator)
    value = torch.randn(2, 2, before + tokens, 8, generator=generator)
    found, _ = soft_capped_attention(
        nn.Identity(), query, key, value, None, scaling=0.3, softcap=20.0, sliding_window=window
    )
    expected = capped(query, key, value, 0.3, 20.0, window)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def test_long_rows_of_gemma2(tmp_path: Path) -> None:
    """More blocks of queries than one, sliding windows, some tokens scored: transformers' numbers."""
    config = hf.Gemma2Config(**GROUPED, **TOKENS, head_dim=8, sliding_window=70)
    whole = save_model(config, tmp_path)
    ids = torch.randint(3, 60, (2, 200), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = whole(input_ids=ids, output_hidden_states=True).hidden_states[3]
    ours = load_truncated_model(str(tmp_path), 3)
    mask = torch.ones_like(ids)
    torch.testing.assert_close(ours.residual(ids, mask), expected, atol=1e-4, rtol=1e-4)
