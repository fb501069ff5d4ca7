"""Against an independent implementation: TransformerLens with sae-lens's SAE in its stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from checkpoints import into_cache, save_model, small_tokenizer
from sae_files import random

from saefilter.encode.encoder import Encoder
from saefilter.encode.presets import resolve
from saefilter.rows.formats import recognise

D_MODEL, D_SAE, LAYERS = 32, 128, 4
TOKENS = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}


def gpt2(tokenizer: Any) -> tuple[Any, dict[str, Any], Any]:
    """A tiny GPT-2, and TransformerLens's words for the same architecture."""
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights

    config = hf.GPT2Config(vocab_size=len(tokenizer), n_embd=D_MODEL, n_layer=LAYERS, n_head=4)
    lens = {
        "act_fn": "gelu_new",
        "normalization_type": "LN",
        "positional_embedding_type": "standard",
        "n_ctx": 1024,
        "d_mlp": 4 * D_MODEL,
        "d_head": 8,
        "n_heads": 4,
        "scale_attn_by_inverse_layer_idx": False,
        "eps": 1e-5,
    }
    return config, lens, convert_gpt2_weights


def gemma2(tokenizer: Any) -> tuple[Any, dict[str, Any], Any]:
    """A tiny Gemma-2: soft caps, a sliding window, norms before and after."""
    from transformer_lens.pretrained.weight_conversions import convert_gemma_weights

    config = hf.Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=D_MODEL, num_hidden_layers=LAYERS, head_dim=8,
        num_attention_heads=4, num_key_value_heads=2, intermediate_size=48, sliding_window=8,
        query_pre_attn_scalar=8, max_position_embeddings=512,
    )  # fmt: skip
    lens = {
        "act_fn": "gelu_pytorch_tanh",
        "normalization_type": "RMS",
        "positional_embedding_type": "rotary",
        "rotary_base": 10000,
        "rotary_dim": 8,
        "n_ctx": 512,
        "d_mlp": 48,
        "d_head": 8,
        "n_heads": 4,
        "n_key_value_heads": 2,
        "use_attn_scale": True,
        "attn_scale": 8**0.5,
        "window_size": 8,
        "use_local_attn": True,
        "attn_types": ["local", "global"] * (LAYERS // 2),
        "attn_scores_soft_cap": 50.0,
        "output_logits_soft_cap": 30.0,
        "gated_mlp": True,
        "final_rms": True,
        "use_normalization_before_and_after": True,
        "eps": 1e-6,
        "initializer_range": 0.02,
    }
    return config, lens, convert_gemma_weights


@pytest.mark.parametrize("family", [gpt2, gemma2], ids=lambda f: f.__name__)
def test_activations_equal_those_of_transformer_lens(tmp_path: Path, family: Any) -> None:
    from sae_lens import HookedSAETransformer
    from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
    from transformer_lens import HookedTransformerConfig

    tokenizer = small_tokenizer(**TOKENS)
    config, words, convert = family(tokenizer)
    save_model(config, tmp_path / "model", tokenizer)
    into_cache(tmp_path / "model", f"tiny/lens-{family.__name__}")
    whole = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)

    lens_config = HookedTransformerConfig(
        n_layers=LAYERS, d_model=D_MODEL, d_vocab=len(tokenizer), default_prepend_bos=True, **words
    )
    saved = hf.AutoTokenizer.from_pretrained(tmp_path / "model")
    lens = HookedSAETransformer(lens_config, tokenizer=saved)
    state = convert(whole, lens_config)
    lens.load_state_dict(state, strict=False)

    sae_config = StandardSAEConfig(d_in=D_MODEL, d_sae=D_SAE)
    sae_config.metadata.hook_name = "blocks.2.hook_resid_post"
    sae_config.metadata.prepend_bos = True
    sae = StandardSAE(sae_config)
    for seed, parameter in enumerate(sae.parameters()):
        parameter.data = random(*parameter.shape, seed=seed)
    sae.save_model(tmp_path / "sae")

    text = "Two words, or a few more; longer than the window."
    with torch.no_grad():
        ids = lens.to_tokens(text, prepend_bos=True)
        _, cache = lens.run_with_cache_with_saes(ids, saes=[sae])
        expected = cache["blocks.2.hook_resid_post.hook_sae_acts_post"][0, 1:]  # without BOS
        expected = expected * sae.W_dec.norm(dim=-1)  # those of a unit decoder

    encoder = Encoder(resolve(None, f"tiny/lens-{family.__name__}", str(tmp_path / "sae")))
    renderer = encoder.renderer()
    (_row,), windows = renderer.render([recognise({"text": text})])
    assert windows[0].ids.tolist() == ids[0].tolist()
    encoded = encoder.encode(windows, 1)
    assert encoded.n_tokens[0] == len(expected)
    pooled = torch.from_numpy(encoded.features.toarray()[0])
    assert (pooled > 0).sum() > 10
    expected = expected.mean(dim=0)
    torch.testing.assert_close(
        pooled, expected, atol=1e-3 * float(sae.W_dec.norm(dim=-1).max()), rtol=1e-3
    )
