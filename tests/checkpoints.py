"""Tiny random-weight checkpoints of real architectures, laid out as the hub's cache lays them out.

The real loading code runs on them unchanged: only sizes differ.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from transformers import AutoModel, PretrainedConfig, PreTrainedModel

VOCABULARY = 64
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def configs() -> dict[str, PretrainedConfig]:
    """A small configuration of every family, by its model type."""
    found = [
        hf.Gemma2Config(**GROUPED, **TOKENS, head_dim=8, sliding_window=4),
        hf.Gemma3TextConfig(**GROUPED, **TOKENS, head_dim=8, sliding_window=4),
        hf.LlamaConfig(**GROUPED, **TOKENS),
        hf.Qwen2Config(**GROUPED, **TOKENS),
        hf.Qwen3Config(**GROUPED, **TOKENS, head_dim=8),
        hf.GptOssConfig(
            **GROUPED, **TOKENS, head_dim=8, num_local_experts=4, num_experts_per_tok=2,
            sliding_window=4,
        ),
        hf.MistralConfig(**GROUPED, **TOKENS),
        hf.PhiConfig(**SIZES, **TOKENS),
        hf.Phi3Config(**GROUPED, **TOKENS),
        hf.GPTNeoXConfig(**SIZES, **TOKENS),
        hf.GPT2Config(
            vocab_size=VOCABULARY, n_embd=32, n_layer=5, n_head=4, n_positions=64, **TOKENS
        ),
        hf.BertConfig(**SIZES, pad_token_id=0),
    ]  # fmt: skip
    return {config.model_type: config for config in found}


def random_model(config: PretrainedConfig, model_class: Any = AutoModel) -> PreTrainedModel:
    """A model of that configuration with weights that let every part matter."""
    torch.manual_seed(0)
    build = model_class.from_config if model_class is AutoModel else model_class
    model = build(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def stack_of(model: PreTrainedModel) -> torch.nn.ModuleList:
    """The model's layers, found by name."""
    inner = getattr(model, "language_model", model)
    if hasattr(inner, "encoder"):
        return inner.encoder.layer
    return inner.h if hasattr(inner, "h") else inner.layers


def residual_by_hook(
    model: PreTrainedModel, layers: int, ids: torch.Tensor, attention: torch.Tensor
) -> torch.Tensor:
    """The output of the layer before the hook, taken from the whole model with a forward hook."""
    captured: list[torch.Tensor] = []
    handle = stack_of(model)[layers - 1].register_forward_hook(
        lambda _m, _i, out: captured.append(out[0] if isinstance(out, tuple) else out)
    )
    with torch.no_grad():
        model(input_ids=ids, attention_mask=attention)
    handle.remove()
    return captured[0]


def hub_cache() -> Path:
    """The cache that huggingface_hub reads in these tests (conftest sets HF_HOME)."""
    return Path(os.environ["HF_HOME"]) / "hub"


def into_cache(folder: Path, repository: str) -> Path:
    """Lay a folder out as the cached snapshot of a hub repository; returns the snapshot."""
    root = hub_cache() / f"models--{repository.replace('/', '--')}"
    if root.exists():
        shutil.rmtree(root)
    content = hashlib.sha1()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    commit = content.hexdigest()
    snapshot = root / "snapshots" / commit
    snapshot.parent.mkdir(parents=True)
    shutil.copytree(folder, snapshot)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    return snapshot


def small_tokenizer(template: str | None = None, **special: str) -> Any:
    """A byte-level BPE tokenizer with no merges: every text has tokens, and decodes to itself."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    extra = special.pop("extra", "").split()
    tokenizer.add_special_tokens(
        [AddedToken(text, special=True) for text in [*special.values(), *extra]]
    )
    fast = hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    if template is not None:
        fast.chat_template = template
    return fast


def save_model(
    config: PretrainedConfig,
    folder: Path,
    tokenizer: Any = None,
    *,
    shard_size: str = "5GB",
    model_class: Any = AutoModel,
) -> PreTrainedModel:
    """A random checkpoint on disk; with a tokenizer, its vocabulary fits."""
    if tokenizer is not None:
        config.get_text_config().vocab_size = len(tokenizer)
        tokenizer.save_pretrained(folder)
    model = random_model(config, model_class)
    model.save_pretrained(folder, max_shard_size=shard_size)
    return model


def write_json(path: Path, value: Any) -> None:
    """A JSON file, folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


FP4 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0]
"""The sixteen values of a 4-bit float (e2m1), as the MX format orders them."""


def with_mxfp4_experts(model: PreTrainedModel, folder: Path) -> dict[str, torch.Tensor]:
    """Save a GPT-OSS checkpoint as published: experts in MXFP4, random.

    Blocks are `[experts, out, groups, 16]` bytes of two values each, low half first; scales are
    powers of two with a bias of 127. Returns the experts' weights as numbers, `[experts, in, out]`.
    """
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(3)
    weights, numbers = {}, {}
    for name, tensor in model.state_dict().items():
        if not name.endswith(("gate_up_proj", "down_proj")):
            weights[name] = tensor.clone()
            continue
        experts, size_in, size_out = tensor.shape
        shape = (experts, size_out, size_in // 32, 16)
        blocks = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        scales = torch.randint(122, 125, shape[:3], generator=generator, dtype=torch.uint8)
        weights[f"{name}_blocks"], weights[f"{name}_scales"] = blocks, scales
        table = torch.tensor(FP4)
        values = torch.stack([table[(blocks & 15).long()], table[(blocks >> 4).long()]], dim=-1)
        scaled = values.flatten(-2) * torch.exp2(scales.float() - 127)[..., None]
        numbers[name] = scaled.reshape(experts, size_out, size_in).transpose(1, 2)
    config = model.config.to_dict()
    config["quantization_config"] = {
        "quant_method": "mxfp4",
        "modules_to_not_convert": [
            "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head",
        ],
    }  # fmt: skip
    write_json(folder / "config.json", config)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return numbers


TEMPLATE_TOKENS: dict[str, dict[str, str]] = {
    "gemma-2": {
        "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>",
        "extra": "<start_of_turn> <end_of_turn>",
    },
    "gemma-3": {
        "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>",
        "extra": "<start_of_turn> <end_of_turn>",
    },
    "llama-3.1": {
        "bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>",
        "extra": "<|start_header_id|> <|end_header_id|> <|eom_id|>",
    },
    "qwen2.5": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "extra": "<|im_start|>"},
    "qwen3": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "extra": "<|im_start|>"},
    "gpt-oss": {
        "bos_token": "<|startoftext|>", "eos_token": "<|return|>", "pad_token": "<|endoftext|>",
        "extra": "<|start|> <|end|> <|message|> <|channel|>",
    },
}  # fmt: skip


def chat_tokenizer(family: str) -> Any:
    """A tokenizer with the family's special tokens and a template of its structure."""
    template = (Path(__file__).parent / "templates" / f"{family}.jinja").read_text()
    return small_tokenizer(template, **TEMPLATE_TOKENS[family])
