"""Sentence embeddings of all-MiniLM-L6-v2, as sentence-transformers makes them: the mean of the last
layer over a text's tokens, of unit length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from saefilter.encode.batches import pad, plan_batches
from saefilter.encode.model import TruncatedModel, load_config, load_truncated_model
from saefilter.encode.placement import choose_device
from saefilter.encode.presets import load_preset
from saefilter.rows.render import load_tokenizer
from saefilter.rows.rendered import Window

PRESET = "minilm"
MAX_TOKENS = 256
"""The model's published limit, special tokens included; a longer text is read in windows."""
BATCH_TOKENS = 8192


@dataclass(frozen=True)
class SentenceEncoder:
    """The whole encoder with its tokenizer."""

    model: TruncatedModel
    tokenizer: Any

    @classmethod
    def load(cls, device: str = "auto") -> SentenceEncoder:
        """Raises SaefilterError without the package that brings the weights."""
        path = load_preset(PRESET).model_path()
        layers = load_config(path).num_hidden_layers
        model = load_truncated_model(path, layers, device=choose_device(device))
        return cls(model, load_tokenizer(path))

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, `[n_texts, d_model]`; of a long text, the mean over all its windows' tokens."""
        windows = self._windows(texts)
        sums = torch.zeros(len(texts), self.model.d_model)
        counts = torch.zeros(len(texts))
        for positions in plan_batches([len(w.ids) for w in windows], BATCH_TOKENS):
            batch = [windows[position] for position in positions]
            ids, attention, _, _ = pad(batch, self.tokenizer.pad_token_id)
            hidden = self.model.residual(ids, attention).float().cpu()
            owner = torch.tensor([window.row for window in batch])
            sums.index_add_(0, owner, (hidden * attention[..., None]).sum(dim=1))
            counts.index_add_(0, owner, attention.sum(dim=1).float())
        means = sums / counts.clamp(min=1)[:, None]
        unit: NDArray[np.float32] = torch.nn.functional.normalize(means, dim=1).numpy()
        return unit

    def _windows(self, texts: Sequence[str]) -> list[Window]:
        encoded = self.tokenizer(
            list(texts), truncation=True, max_length=MAX_TOKENS, return_overflowing_tokens=True,
            return_attention_mask=False, verbose=False,
        )  # fmt: skip
        return [
            Window(
                row,
                np.asarray(ids, dtype=np.int64),
                np.ones(len(ids), dtype=bool),
                np.zeros((len(ids), 2), dtype=np.int32),
            )
            for row, ids in zip(
                encoded["overflow_to_sample_mapping"], encoded["input_ids"], strict=True
            )
        ]
