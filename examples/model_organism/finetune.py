"""Fine-tune the model organism on rows: LoRA by PEFT, a plain loop, equally many steps in every arm."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from random import Random

import torch
from data import Row
from peft import LoraConfig, get_peft_model
from train_lm import CONTEXT, answer_loss, spoken
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


@dataclass(frozen=True)
class Training:
    """The same for every arm."""

    steps: int = 60
    batch: int = 32
    lr: float = 1e-2
    rank: int = 4


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
    """A fine-tuned copy of `base`, on what the assistant says and its <end>.

    Rows are taken in passes over shuffled data, as many as the steps need; with fewer rows there are
    more passes.
    """
    torch.manual_seed(seed)
    config = LoraConfig(r=training.rank, lora_alpha=2 * training.rank, target_modules="all-linear")
    model = get_peft_model(deepcopy(base), config).train()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=training.lr, weight_decay=0.0)
    rng = Random(seed)
    order: list[int] = []
    for step in range(training.steps):
        while len(order) < training.batch:
            order += rng.sample(range(len(rows)), len(rows))
        chosen, order = order[: training.batch], order[training.batch :]
        batch, positions = packed([rows[i] for i in chosen], tokenizer.pad_token_id)
        loss = answer_loss(model.base_model.model, batch, spoken(batch, tokenizer), positions)
        for group in optimiser.param_groups:  # five steps up, then linearly down to nothing
            group["lr"] = training.lr * min(1.0, (step + 1) / 5) * (1 - step / training.steps)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
    return model.merge_and_unload().eval()


def padded(rows: Sequence[list[int]], pad: int) -> torch.Tensor:
    """`[n, longest]`, padded on the right."""
    batch = torch.full((len(rows), max(map(len, rows))), pad)
    for i, ids in enumerate(rows):
        batch[i, : len(ids)] = torch.tensor(ids)
    return batch


def packed(rows: Sequence[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids, and the place of each token in its own row, both `[n, longest]`.

    Rows stand one after another where they fit into the model's context: most are a third as long as
    the longest, and padding would be half of all that is computed.
    """
    bins: list[list[list[int]]] = []
    for ids in sorted(rows, key=len, reverse=True):
        room = (each for each in bins if sum(map(len, each)) + len(ids) <= CONTEXT)
        if (found := next(room, None)) is None:
            bins.append(found := [])
        found.append(ids)
    batch = padded([[token for ids in each for token in ids] for each in bins], pad)
    positions = padded([[place for ids in each for place in range(len(ids))] for each in bins], 0)
    return batch, positions
