"""Random checkpoints as ordinary folders: a Hugging Face model, an SAE in sae-lens's format, a toxic set.

The real loading code of every contender reads them. The SAE's thresholds are set on the model's own
residuals, so that as many features fire per token as in a real one, some often and most rarely.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from torch import Tensor

from benchmarks.throughput.rows import Batch
from benchmarks.throughput.shapes import Network, SaeShape
from saefilter.encode.sae import load_sae
from saefilter.toxic.toxicset import ToxicFeature, ToxicSet

SPECIAL = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
CLUSTER = 16
"""Features around one common direction; their cosines are about 0.5, others' about 0."""
CALIBRATION_TOKENS = 4096
SET_FEATURES = 100
"""Of each side of the toxic set."""


def tokenizer_of(texts: Sequence[str], size: int) -> Any:
    """A byte-level BPE tokenizer trained on the texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(size, 8192), special_tokens=["<pad>", "<eos>", "<bos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)


def config_of(network: Network, layers: int) -> Any:
    """The Hugging Face configuration of its first `layers` layers."""
    sizes = {
        "vocab_size": network.vocabulary, "hidden_size": network.d_model,
        "intermediate_size": network.d_ff, "num_hidden_layers": layers,
        "num_attention_heads": network.heads, "num_key_value_heads": network.kv_heads,
        "head_dim": network.d_head, "max_position_embeddings": 8192,
        "initializer_range": network.d_model**-0.5,
        "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
    }  # fmt: skip
    if network.family == "llama":
        rope = {"rope_type": "default", "rope_theta": float(network.rotary_base)}
        return hf.LlamaConfig(**sizes, tie_word_embeddings=False, rope_parameters=rope)
    return hf.Gemma2Config(
        **sizes, sliding_window=network.window, query_pre_attn_scalar=network.d_head
    )


def write_model(
    network: Network, layers: int, tokenizer: Any, folder: Path, device: torch.device
) -> None:
    """A random model of so many layers; made in bf16 on a GPU, where it is large."""
    torch.manual_seed(0)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    with device:
        model = hf.AutoModelForCausalLM.from_config(config_of(network, layers), dtype=dtype)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def cut_model(model: torch.nn.Module, layers: int) -> Any:
    """A Hugging Face model's base with its first `layers` layers and nothing after them; parameters
    are shared with the model."""
    import copy

    memo: dict[int, Any] = {id(tensor): tensor for tensor in model.parameters()}
    cut: Any = copy.deepcopy(model, memo)
    cut.config.num_hidden_layers = layers
    if hasattr(cut, "encoder"):
        cut.encoder.layer = cut.encoder.layer[:layers]
        return cut
    cut.layers = cut.layers[:layers]
    cut.norm = torch.nn.Identity()
    return cut


@torch.inference_mode()
def residuals_of(model: Any, batches: Sequence[Batch]) -> list[Tensor]:
    """The residual stream at the hook of each window's scored tokens, `[n_scored, d_model]` fp32."""
    found = []
    for batch in batches:
        hidden = model(batch.ids, attention_mask=batch.attention, use_cache=False)[0].float()
        found += [row[mask] for row, mask in zip(hidden, batch.scored, strict=True)]
    return found


def write_sae(
    shape: SaeShape, hook: str, residuals: Sequence[Tensor], folder: Path, model: str
) -> None:
    """An SAE in sae-lens's format, written by sae-lens."""
    from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
    from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig

    stacked = torch.cat(list(residuals))
    step = max(1, len(stacked) // CALIBRATION_TOKENS)
    tokens = stacked[::step]
    d_model, device = tokens.shape[1], tokens.device
    generator = torch.Generator(device).manual_seed(1)

    def noise(*size: int) -> Tensor:
        return torch.randn(*size, device=device, generator=generator)

    # decoder directions in clusters, as features that mean something similar lie
    common = noise(-(-shape.d_sae // CLUSTER), d_model).repeat_interleave(CLUSTER, 0)
    directions = common[: shape.d_sae] + noise(shape.d_sae, d_model)
    directions /= directions.norm(dim=1, keepdim=True)
    sae: Any
    if shape.architecture == "topk":
        sae = TopKSAE(TopKSAEConfig(d_in=d_model, d_sae=shape.d_sae, k=shape.l0))
    else:
        sae = JumpReLUSAE(JumpReLUSAEConfig(d_in=d_model, d_sae=shape.d_sae))
    sae.cfg.metadata.hook_name = hook
    sae.cfg.metadata.model_name = model
    sae.cfg.metadata.prepend_bos = True
    mean, spread = tokens.mean(dim=0), tokens.std()
    weights = {
        "W_enc": directions.T / spread, "W_dec": directions, "b_dec": mean,
        "b_enc": torch.zeros(shape.d_sae, device=device),
    }  # fmt: skip
    if shape.architecture == "jumprelu":
        # how often features fire spans orders of magnitude; the mean makes the L0
        often = noise(shape.d_sae).exp()
        share = (often / often.mean() * shape.l0 / shape.d_sae).clamp(max=0.5)
        pre = (tokens - mean) @ weights["W_enc"]
        rank = ((1 - share) * (len(pre) - 1)).round().long().clamp(max=len(pre) - 2)
        # between two tokens' values: on one of them, rounding would decide whether the feature fires
        ordered = pre.sort(dim=0).values
        either = ordered.gather(0, rank[None]) + ordered.gather(0, (rank + 1)[None])
        weights["threshold"] = (either[0] / 2).clamp(min=1e-3)
    for name, value in weights.items():
        getattr(sae, name).data = value.cpu().contiguous()
    sae.save_model(folder)


def write_toxic_set(sae_folder: Path, residuals: Sequence[Tensor], path: Path, model: str) -> None:
    """A toxic set of random features with random weights, so that scoring does all its work."""
    sae = load_sae(sae_folder).to(residuals[0].device)
    sums = torch.zeros(len(residuals), sae.d_sae, device=residuals[0].device)
    for row, tokens in enumerate(residuals):
        active = sae.encode(tokens)
        sums[row].index_add_(0, active.feature, active.value / max(1, len(tokens)))
    scale = sums.std(dim=0).cpu()
    rng = np.random.default_rng(0)
    fires = np.flatnonzero(scale.numpy() > 0)
    chosen = rng.permutation(fires)[: 2 * min(SET_FEATURES, len(fires) // 2)]
    features = [
        ToxicFeature(
            index=int(index), side="toxic" if i % 2 else "benign",
            weight=float(rng.uniform(0.01, 0.05)), label=f"feature {index}", effect_size=1.0,
            auroc=0.7, p_value=0.01,
        )
        for i, index in enumerate(chosen)
    ]  # fmt: skip
    direction = rng.standard_normal(sae.d_model)
    toxic_set = ToxicSet(
        name="random", model=model, sae=str(sae_folder), hook=sae.hook, d_model=sae.d_model,
        d_sae=sae.d_sae, fingerprint=sae.fingerprint, pool="mean", method={}, sources=[],
        features=features, scale=scale.tolist(), intercept=0.0,
        direction=(direction / np.linalg.norm(direction)).tolist(),
        direction_mean=[0.0] * sae.d_model, largest=sums.max(dim=0).values.tolist(),
    )  # fmt: skip
    path.write_text(toxic_set.to_json(), encoding="utf-8")
