"""BERT up to the hook on a CPU, restated: the numbers of transformers' BertModel in less time.

For the embedded default, which runs in CI on every change: importing transformers' class takes
longer than a small dataset, and its forward pass computes the last layer for tokens that nobody
scores. Every other model, and this one on a GPU, goes through transformers (encode/model.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from saefilter.encode.batches import PaddedBatch
from saefilter.encode.checkpoint import find_file, truncated_checkpoint
from saefilter.encode.fast.linear import Linear, blocks, padded
from saefilter.errors import SaefilterError

EXPECTED = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
}
"""What a configuration must say, where it says anything, for the arithmetic here to be its own."""


def bert_config(model: str, revision: str | None = None) -> dict[str, Any] | None:
    """The configuration of a model that this module computes; None for any other."""
    path = find_file(model, "config.json", revision)
    if path is None:
        return None
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None  # whoever loads it says what is wrong with it
    if not isinstance(config, dict) or config.get("quantization_config"):
        return None
    same = all(config.get(name, value) == value for name, value in EXPECTED.items())
    return config if same and "model_type" in config else None


def count_parameters(config: dict[str, Any], layers: int) -> int:
    """Parameters up to the hook."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    looked_up = sum(
        config[name] for name in ("vocab_size", "max_position_embeddings", "type_vocab_size")
    )
    per_layer = 4 * width * (width + 1) + width * (inner + 1) + inner * (width + 1) + 4 * width
    return int(width * (looked_up + 2) + layers * per_layer)


@dataclass(frozen=True)
class _Norm:
    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True)
class _Layer:
    query_key_value: Linear
    attended: Linear
    attended_norm: _Norm
    up: Linear
    """With its GELU."""
    down: Linear
    norm: _Norm

    def after_attention(self, attended: Tensor, x: Tensor) -> Tensor:
        """Everything that concerns one token alone."""
        x = self.attended_norm(self.attended(attended).add_(x))
        return self.norm(self.down(self.up(x)).add_(x))


class Bert:
    """The first layers of a BERT model on the CPU, read at the output of the last of them."""

    device = torch.device("cpu")
    shares_prefixes = None  # what comes after a token changes what is computed of it

    def __init__(self, config: dict[str, Any], weights: dict[str, Tensor], layers: int):
        """`weights` by their names in the checkpoint, without a prefix."""
        self.d_model: int = config["hidden_size"]
        self.heads: int = config["num_attention_heads"]
        self.n_parameters = count_parameters(config, layers)
        eps = float(config.get("layer_norm_eps", 1e-12))

        def linear(name: str, *, gelu: bool = False) -> Linear:
            return Linear(weights[f"{name}.weight"], weights[f"{name}.bias"], gelu=gelu)

        def norm(name: str) -> _Norm:
            return _Norm(weights[f"{name}.weight"], weights[f"{name}.bias"], eps)

        def layer(at: str) -> _Layer:
            names = [f"{at}.attention.self.{name}" for name in ("query", "key", "value")]
            joined = Linear(
                torch.cat([weights[f"{name}.weight"] for name in names]),
                torch.cat([weights[f"{name}.bias"] for name in names]),
            )
            return _Layer(
                joined,
                linear(f"{at}.attention.output.dense"),
                norm(f"{at}.attention.output.LayerNorm"),
                linear(f"{at}.intermediate.dense", gelu=True),
                linear(f"{at}.output.dense"),
                norm(f"{at}.output.LayerNorm"),
            )

        self.words = weights["embeddings.word_embeddings.weight"]
        # every token is of the first type, at the position it stands at
        self.positions = (
            weights["embeddings.position_embeddings.weight"]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        self.embedding_norm = norm("embeddings.LayerNorm")
        self.layers = [layer(f"encoder.layer.{number}") for number in range(layers)]

    @classmethod
    def load(
        cls, model: str, config: dict[str, Any], layers: int, *, revision: str | None, dtype: torch.dtype
    ) -> Bert:  # fmt: skip
        """Load from a folder or hub id. Raises SaefilterError when tensors are missing, or the hook
        is beyond the last layer."""
        from safetensors import SafetensorError, safe_open

        available = int(config["num_hidden_layers"])
        if not 1 <= layers <= available:
            raise SaefilterError(
                f"the hook is after layer {layers} and {model} has {available} layers"
            )
        weights: dict[str, Tensor] = {}
        try:
            with truncated_checkpoint(model, revision, layers, text_only=False) as folder:
                for file in sorted(folder.glob("*.safetensors")):
                    with safe_open(Path(file), framework="pt") as tensors:
                        for name in tensors.keys():  # noqa: SIM118 - it is no dict
                            weights[name.removeprefix("bert.")] = tensors.get_tensor(name)
            return cls(
                config,
                {name: value.to(dtype) for name, value in weights.items()},
                layers,
            )
        except KeyError as error:
            raise SaefilterError(
                f"the checkpoint of {model} lacks the tensor {error}",
                remedy="Download the model again.",
            ) from error
        except (SafetensorError, OSError) as error:
            raise SaefilterError(
                f"the weights of {model} cannot be loaded ({str(error).splitlines()[0]})",
                remedy="If a file is damaged, download the model again.",
            ) from error

    @torch.inference_mode()
    def scored_residuals(self, batch: PaddedBatch) -> Tensor:
        """The residuals at the hook of the scored tokens, row after row, `[n_scored, d_model]`."""
        rows, tokens = batch.ids.shape
        n = rows * tokens
        x = functional.embedding(batch.ids, self.words) + self.positions[:tokens]
        x = padded(self.embedding_norm(x).view(n, self.d_model))
        joined = x.new_empty(len(x), 3 * self.d_model)
        for block in blocks(n):
            joined[block] = self.layers[0].query_key_value(x[block])
        mask = None if bool(batch.attention.all()) else batch.attention.bool()[:, None, None, :]
        for layer, following in zip(self.layers, [*self.layers[1:], None], strict=True):
            attended = self._attended(joined[:n].view(rows, tokens, -1), mask)
            if following is None:  # nobody reads the others any more
                wanted = batch.scored.view(-1)
                attended, x, n = attended[wanted], x[:n][wanted], int(wanted.sum())
                x = padded(x)
            attended = padded(attended)
            for block in blocks(n):
                x[block] = layer.after_attention(attended[block], x[block])
                if following is not None:
                    joined[block] = following.query_key_value(x[block])
        return x[:n]

    def _attended(self, joined: Tensor, mask: Tensor | None) -> Tensor:
        """What each token takes from its row, `[rows * tokens, d_model]`, of queries, keys and values,
        `[rows, tokens, 3 * d_model]`."""
        rows, tokens, _ = joined.shape
        # -> three of [rows, heads, tokens, d_head]
        query, key, value = joined.view(rows, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value, mask)
        return attended.transpose(1, 2).reshape(rows * tokens, self.d_model)
