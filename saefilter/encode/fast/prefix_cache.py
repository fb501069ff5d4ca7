"""Keys and values of a prefix, kept for the batches that begin with it (prefixes.py)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


class _PrefixLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values of the prefix, `[1, heads, n_prefix, d_head]`, for a batch of any size.

    It is only read, so that it may be used again, and holds nothing of the batch.
    """

    def __init__(self, keys: Tensor, values: Tensor):
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        joined = [
            torch.cat([ours.expand(len(new), -1, -1, -1), new], dim=-2)
            for ours, new in ((self.keys, key_states), (self.values, value_states))
        ]
        return joined[0], joined[1]


def prefix_cache(model: Any, ids: Tensor) -> Cache:
    """What a transformers model is given to go on after a prefix, `[n_prefix]`."""
    # sliding windows too keep all of it: masks, not what is kept, say what a token may look at
    made = Cache(layer_class_to_replicate=DynamicLayer)
    model(input_ids=ids[None], past_key_values=made, use_cache=True)
    return Cache(layers=[_PrefixLayer(layer.keys, layer.values) for layer in made.layers])
