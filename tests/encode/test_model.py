"""The truncated model against the whole one, on tiny random checkpoints of real architectures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, BertConfig, LlamaConfig, PretrainedConfig

from saefilter.encode.model import choose_device, load_truncated_model
from saefilter.errors import SaefilterError

SMALL = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
CONFIGS = [BertConfig(**SMALL), LlamaConfig(**SMALL, num_key_value_heads=2)]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_residual_equals_a_hook_on_the_whole_model(
    tmp_path: Path, config: PretrainedConfig
) -> None:
    torch.manual_seed(0)
    whole = AutoModel.from_config(config).eval()
    whole.save_pretrained(tmp_path)
    ids = torch.randint(0, 60, (3, 11))
    attention = torch.ones_like(ids)
    attention[1, 7:] = 0
    captured = []
    layers = whole.encoder.layer if config.model_type == "bert" else whole.layers
    layers[2].register_forward_hook(
        lambda _m, _i, out: captured.append(out[0] if isinstance(out, tuple) else out)
    )
    with torch.no_grad():
        whole(input_ids=ids, attention_mask=attention)

    ours = load_truncated_model(str(tmp_path), 3)
    residual = ours.residual(ids, attention)
    real = attention.bool()
    torch.testing.assert_close(residual[real], captured[0][real], atol=1e-5, rtol=1e-5)

    def size(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    pooler = size(whole.pooler) if config.model_type == "bert" else 0
    assert size(ours.model) == size(whole) - size(layers[3]) - size(layers[4]) - pooler


def test_the_last_layer_is_read_before_the_final_norm(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = AutoModel.from_config(LlamaConfig(**SMALL, num_key_value_heads=2)).eval()
    torch.nn.init.normal_(whole.norm.weight)
    whole.save_pretrained(tmp_path)
    ids = torch.randint(0, 60, (2, 6))
    ours = load_truncated_model(str(tmp_path), 5)
    with torch.no_grad():
        normed = whole(input_ids=ids).last_hidden_state
    residual = ours.residual(ids, torch.ones_like(ids))
    assert (residual - normed).abs().max() > 0.1
    torch.testing.assert_close(whole.norm(residual), normed, atol=1e-5, rtol=1e-5)


def test_errors(tmp_path: Path) -> None:
    AutoModel.from_config(BertConfig(**SMALL)).save_pretrained(tmp_path)
    with pytest.raises(SaefilterError, match="has 5 layers"):
        load_truncated_model(str(tmp_path), 6)
    with pytest.raises(SaefilterError, match="cannot be loaded"):
        load_truncated_model(str(tmp_path / "none"), 1)
    with pytest.raises(SaefilterError, match="cannot be used"):
        choose_device("warp:3")
