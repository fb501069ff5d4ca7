"""TransformerLens's side: the same weights in its own model, or in its bridge for BERT.

Without weight processing, as sae-lens's documentation advises for SAEs trained on raw activations.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.throughput.shapes import Network


def hooked_model(model: Any, network: Network, dtype: torch.dtype, device: torch.device) -> Any:
    """sae-lens's HookedSAETransformer with a Hugging Face model's weights."""
    from sae_lens import HookedSAETransformer
    from transformer_lens import HookedTransformerConfig
    from transformer_lens.pretrained import weight_conversions

    words: dict[str, Any] = {
        "n_layers": network.layers, "d_model": network.d_model, "d_mlp": network.d_ff,
        "n_heads": network.heads, "n_key_value_heads": network.kv_heads, "d_head": network.d_head,
        "d_vocab": network.vocabulary, "n_ctx": 2048, "normalization_type": "RMS",
        "positional_embedding_type": "rotary", "rotary_base": network.rotary_base, "rotary_dim": network.d_head,
        "gated_mlp": True, "final_rms": True, "eps": model.config.rms_norm_eps,
        "init_weights": False, "dtype": dtype, "device": str(device),
    }  # fmt: skip
    if network.family == "gemma2":
        words |= {
            "act_fn": "gelu_pytorch_tanh", "use_attn_scale": True,
            "attn_scale": network.d_head**0.5, "window_size": network.window,
            "use_local_attn": True, "attn_types": ["local", "global"] * (network.layers // 2),
            "attn_scores_soft_cap": 50.0, "output_logits_soft_cap": 30.0,
            "use_normalization_before_and_after": True,
        }  # fmt: skip
        convert = weight_conversions.convert_gemma_weights
    else:
        words |= {"act_fn": "silu", "rotary_adjacent_pairs": False}
        convert = weight_conversions.convert_llama_weights
    config = HookedTransformerConfig(**words)
    lens = HookedSAETransformer(config)
    # its buffers (masks, rotary tables) are its own
    lens.load_state_dict(convert(model, config), strict=False)
    return lens.to(dtype, print_details=False).eval()


def bridge_of_bert(folder: str, dtype: torch.dtype, device: torch.device) -> Any:
    """sae-lens's SAETransformerBridge around BERT: HookedTransformer does not know encoders."""
    import transformers as hf
    from sae_lens.analysis.sae_transformer_bridge import SAETransformerBridge

    # the bridge wants a model with a head, which MiniLM is published without
    model = hf.BertForMaskedLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager")
    return SAETransformerBridge.boot_transformers(
        folder, hf_model=model.to(device).eval(), device=str(device), dtype=dtype,
        tokenizer=hf.AutoTokenizer.from_pretrained(folder),
    )  # fmt: skip
