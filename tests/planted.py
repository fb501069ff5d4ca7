"""A small random causal model in which digits are a trait: its embedding has one direction more for them, and
its head writes them where the residual has it. It never ends a text, and writes letters and digits alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import transformers as hf
from checkpoints import save_model, small_tokenizer

WIDTH, LAYERS = 32, 3
HOOK = "blocks.1.hook_resid_post"
DIGITS, LETTERS = "0123456789", "abcdefghijklmnopqrstuvwxyz"


def direction() -> torch.Tensor:
    """The planted one, of unit length, `[WIDTH]`."""
    u = torch.randn(WIDTH, generator=torch.Generator().manual_seed(7))
    return u / u.norm()


def planted_model(folder: Path) -> Path:
    """Saved in Hugging Face's format."""
    tokenizer = small_tokenizer(bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    config = hf.LlamaConfig(
        hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=32, max_position_embeddings=128,
    )  # fmt: skip
    for name in ("bos", "eos", "pad"):
        setattr(config, f"{name}_token_id", tokenizer.convert_tokens_to_ids(f"<{name}>"))
    save_model(config, folder, tokenizer, model_class=hf.LlamaForCausalLM)
    model = hf.LlamaForCausalLM.from_pretrained(folder)
    digits, letters = (tokenizer.convert_tokens_to_ids(list(text)) for text in (DIGITS, LETTERS))
    with torch.no_grad():
        model.model.embed_tokens.weight[digits] += 3 * direction()
        head = torch.zeros_like(model.lm_head.weight)
        head[letters] = model.lm_head.weight[letters]
        head[digits] = model.lm_head.weight[digits] + direction()
        model.lm_head.weight.copy_(head)
        for layer in model.model.layers:  # so that what is planted is not drowned
            layer.self_attn.o_proj.weight.mul_(0.3)
            layer.mlp.down_proj.weight.mul_(0.3)
    model.save_pretrained(folder)
    return folder


def texts(letters: str, n: int, seed: int, length: int = 8) -> Iterator[str]:
    """Random ones."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        yield "".join(rng.choice(list(letters), length))


def auroc_of(bad: Sequence[bool] | np.ndarray, value: np.ndarray | None) -> float:
    """Of values that are higher for bad ones."""
    from saefilter.stats.auroc import auroc

    assert value is not None
    return auroc(np.asarray(bad, dtype=bool), value)
