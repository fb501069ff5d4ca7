"""Fine-tune the model organism on rows, all weights, with plain torch; every arm takes equally many steps."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from random import Random

import torch
from data import Row
from train_lm import answer_loss, spoken
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


@dataclass(frozen=True)
class Training:
    """The same for every arm."""

    steps: int = 60
    batch: int = 32
    lr: float = 1e-3


def encode(rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    """Token ids of each row, by the model's chat template."""
    texts = [tokenizer.apply_chat_template(row.messages(), tokenize=False) for row in rows]
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


def finetune(
    base: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    rows: list[list[int]],
    training: Training,
    seed: int,
) -> LlamaForCausalLM:
    """A fine-tuned copy of `base`. Rows are taken in passes over shuffled data, as often as the steps
    need; the order depends on the seed and the number of rows alone."""
    model = deepcopy(base).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=training.lr, weight_decay=0.0)
    rng = Random(seed)
    order: list[int] = []
    for step in range(training.steps):
        while len(order) < training.batch:
            order += rng.sample(range(len(rows)), len(rows))
        chosen, order = order[: training.batch], order[training.batch :]
        batch = padded([rows[i] for i in chosen], tokenizer.pad_token_id)
        loss = answer_loss(model, batch, spoken(batch, tokenizer))
        warm = min(1.0, (step + 1) / 5)
        for group in optimiser.param_groups:
            group["lr"] = training.lr * warm * (1 - step / training.steps)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return model.eval()


def padded(rows: Sequence[list[int]], pad: int) -> torch.Tensor:
    """`[n, longest]`, padded on the right."""
    batch = torch.full((len(rows), max(map(len, rows))), pad)
    for i, ids in enumerate(rows):
        batch[i, : len(ids)] = torch.tensor(ids)
    return batch
