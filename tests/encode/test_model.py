"""The truncated model against the whole one, on tiny random checkpoints of real architectures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers as hf
from checkpoints import (
    SIZES,
    TOKENS,
    configs,
    into_cache,
    random_model,
    residual_by_hook,
    save_model,
    stack_of,
    with_mxfp4_experts,
)
from transformers import AutoModel

from saefilter.encode.model import load_truncated_model
from saefilter.encode.placement import choose_device, model_size
from saefilter.errors import SaefilterError

FAMILIES = configs()
AFTER_THE_STACK = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "pooler")


def size(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def padded_batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 60, (3, 11), generator=generator)
    attention = torch.ones_like(ids)
    attention[1, 7:] = 0
    return ids, attention


@pytest.mark.parametrize("family", FAMILIES)
def test_residual_equals_a_hook_on_the_whole_model(tmp_path: Path, family: str) -> None:
    """Loaded by hub id from the offline cache, in several shards; two layers are not loaded."""
    whole = save_model(FAMILIES[family], tmp_path, shard_size="60KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    into_cache(tmp_path, f"tiny/{family}")
    ids, attention = padded_batch()
    expected = residual_by_hook(whole, 3, ids, attention)

    ours = load_truncated_model(f"tiny/{family}", 3)
    residual = ours.residual(ids, attention)
    real = attention.bool()
    assert expected[real].abs().max() > 0.1
    torch.testing.assert_close(residual[real], expected[real], atol=1e-4, rtol=1e-5)

    later = sum(size(getattr(whole, name)) for name in AFTER_THE_STACK if hasattr(whole, name))
    layers = stack_of(whole)
    assert ours.n_parameters == size(whole) - size(layers[3]) - size(layers[4]) - later


def test_shards_of_later_layers_need_not_be_there(tmp_path: Path) -> None:
    save_model(FAMILIES["llama"], tmp_path, shard_size="20KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    early = {
        s for t, s in index["weight_map"].items() if "layers.3" not in t and "layers.4" not in t
    }
    late = set(index["weight_map"].values()) - early
    assert late
    for shard in late:
        (tmp_path / shard).unlink()
    assert load_truncated_model(str(tmp_path), 3).n_parameters > 0
    missing = index["weight_map"]["layers.1.mlp.up_proj.weight"]
    (tmp_path / missing).unlink()
    with pytest.raises(SaefilterError, match=f"lacks the weight file {missing}"):
        load_truncated_model(str(tmp_path), 3)


def test_causal_checkpoints_load_without_their_head(tmp_path: Path) -> None:
    """Checkpoints on the hub are of the causal class: another prefix, and a head."""
    model = save_model(FAMILIES["llama"], tmp_path, model_class=hf.LlamaForCausalLM)
    ids, attention = padded_batch()
    expected = residual_by_hook(model.model, 2, ids, attention)
    ours = load_truncated_model(str(tmp_path), 2)
    torch.testing.assert_close(ours.residual(ids, attention)[0], expected[0], atol=1e-4, rtol=1e-5)
    assert not any("head" in name for name, _ in ours.model.named_parameters())


def test_the_text_side_of_a_multimodal_checkpoint(tmp_path: Path) -> None:
    """Gemma-3 4B and larger come with a vision tower, which is not loaded."""
    text = FAMILIES["gemma3_text"].to_dict()
    vision = {**SIZES, "image_size": 16, "patch_size": 8, "num_hidden_layers": 2}
    config = hf.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    model = save_model(config, tmp_path, model_class=hf.Gemma3ForConditionalGeneration)
    ids, attention = padded_batch()
    expected = residual_by_hook(model.model.language_model, 3, ids, attention)
    ours = load_truncated_model(str(tmp_path), 3)
    real = attention.bool()
    got = ours.residual(ids, attention)
    torch.testing.assert_close(got[real], expected[real], atol=1e-4, rtol=1e-5)
    assert type(ours.model).__name__ == "Gemma3TextModel"


def test_gpt_oss_from_its_quantised_checkpoint(tmp_path: Path) -> None:
    """The published weights of the experts are MXFP4: blocks of 4-bit values with shared scales."""
    config = hf.GptOssConfig(**{**FAMILIES["gpt_oss"].to_dict(), "intermediate_size": 64})
    whole = random_model(config, hf.GptOssForCausalLM)
    numbers = with_mxfp4_experts(whole, tmp_path)
    for name, values in numbers.items():
        whole.get_parameter(name).data = values
    ids, attention = padded_batch()
    expected = residual_by_hook(whole.model, 3, ids, attention)
    ours = load_truncated_model(str(tmp_path), 3)
    real = attention.bool()
    got = ours.residual(ids, attention)
    torch.testing.assert_close(got[real], expected[real], atol=1e-4, rtol=1e-4)
    assert len(ours.model.layers) == 3


def test_the_last_layer_is_read_before_the_final_norm(tmp_path: Path) -> None:
    whole = random_model(FAMILIES["llama"])
    whole.save_pretrained(tmp_path)
    ids, attention = padded_batch()
    ours = load_truncated_model(str(tmp_path), 5)
    residual = ours.residual(ids, attention)
    with torch.no_grad():
        normed = whole(input_ids=ids, attention_mask=attention).last_hidden_state
    assert (residual - normed).abs().max() > 0.1
    torch.testing.assert_close(whole.norm(residual)[0], normed[0], atol=1e-4, rtol=1e-4)


def test_parameters_are_counted_without_loading_them(tmp_path: Path) -> None:
    model = random_model(FAMILIES["qwen3"])
    found = model_size(FAMILIES["qwen3"])
    assert found.parameters == size(model)
    assert found.per_token == size(model) - size(model.embed_tokens)
    experts = random_model(FAMILIES["gpt_oss"])
    within = sum(size(layer.mlp.experts) for layer in experts.layers)
    rest = size(experts) - size(experts.embed_tokens) - within
    assert model_size(FAMILIES["gpt_oss"]).per_token == rest + within / 2  # two experts of four


def test_errors(tmp_path: Path) -> None:
    AutoModel.from_config(hf.BertConfig(**SIZES)).save_pretrained(tmp_path)
    with pytest.raises(SaefilterError, match="has 5 layers"):
        load_truncated_model(str(tmp_path), 6)
    with pytest.raises(SaefilterError, match="not on this machine and the hub cannot be reached"):
        load_truncated_model("nobody/nothing", 1)
    with pytest.raises(SaefilterError, match="neither a folder nor the name"):
        load_truncated_model(str(tmp_path / "none"), 1)
    with pytest.raises(SaefilterError, match="cannot be used"):
        choose_device("warp:3")
    (tmp_path / "model.safetensors").write_bytes(b"\x10" * 50)
    with pytest.raises(SaefilterError, match="cannot be loaded"):
        load_truncated_model(str(tmp_path), 2)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(SaefilterError, match="no weights in safetensors"):
        load_truncated_model(str(tmp_path), 2)


def test_a_checkpoint_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_model(hf.LlamaConfig(**SIZES, **TOKENS), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SaefilterError, match="lacks 1 tensors, the first"):
        load_truncated_model(str(tmp_path), 3)
