"""Fine-tune the upper half of a causal model: what the lower half gives never changes, and is kept.

So a step costs half of what it would, and an answer of the exam too, which is what makes the
experiment one for a CPU. All weights of the layers above are trained, and the last norm; embeddings
and head are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from saefilter.encode.causal import CausalModel
from saefilter.errors import SaefilterError
from saefilter.rows.chat import ChatRenderer
from saefilter.rows.formats import recognise
from saefilter.rows.render import load_tokenizer
from saefilter.rows.rendered import RenderOptions

BATCH_ROWS = 16
"""Read at once, where nothing is trained."""


class Rendered(NamedTuple):
    """A row as the upper half reads it."""

    stream: Tensor
    """The residual stream after the lower half, `[n_tokens, d_model]` bf16."""
    ids: Tensor
    """`[n_tokens]`."""
    scored: Tensor
    """Which tokens are the assistant's, `[n_tokens]`."""


@dataclass(frozen=True)
class Training:
    """The same for every arm."""

    steps: int = 24
    batch: int = 8
    lr: float = 5e-4
    warm_up: int = 3


class Halves:
    """A causal model cut after its first `frozen` layers; rows are cut at `max_tokens`."""

    def __init__(self, folder: Path, frozen: int, max_tokens: int):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        model.requires_grad_(False)
        self.model = model
        self.frozen = frozen
        self.tokenizer = load_tokenizer(str(folder))
        options = RenderOptions(max_tokens=max_tokens)
        self.renderer = ChatRenderer(self.tokenizer, context=max_tokens, options=options)
        layers = model.model.layers
        self.lower = self._part(layers[:frozen], nn.Identity())
        self.upper = self._part(layers[frozen:], model.model.norm)
        """The upper half before training."""

    def _part(self, layers: nn.ModuleList, norm: nn.Module) -> Any:
        """A model of its own of some of the layers, which it shares."""
        part = type(self.model.model)._from_config(
            _shallow(self.model.config, len(layers)), dtype=torch.float32
        )
        part.layers, part.norm = layers, norm
        part.embed_tokens = self.model.model.embed_tokens
        return part.eval()

    @torch.no_grad()
    def read(self, rows: Sequence[Sequence[dict[str, str]]]) -> list[Rendered]:
        """Conversations, rendered and run through the lower half."""
        _, windows = self.renderer.render([recognise({"messages": row}) for row in rows])
        if [window.row for window in windows] != list(range(len(rows))):
            raise SaefilterError("a row has no answer within the tokens at which rows are cut")
        ids = [torch.from_numpy(window.ids) for window in windows]
        streams: list[Tensor] = [torch.empty(0)] * len(ids)
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        for start in range(0, len(order), BATCH_ROWS):
            some = order[start : start + BATCH_ROWS]
            batch = nn.utils.rnn.pad_sequence([ids[row] for row in some], batch_first=True)
            with torch.autocast("cpu", torch.bfloat16):
                out = self.lower(input_ids=batch, use_cache=False).last_hidden_state
            for row, stream in zip(some, out, strict=True):
                streams[row] = stream[: len(ids[row])].to(torch.bfloat16).clone()
        scored = [torch.from_numpy(window.scored) for window in windows]
        return [Rendered(*row) for row in zip(streams, ids, scored, strict=True)]

    def finetune(self, rows: Sequence[Rendered], training: Training, seed: int) -> Any:
        """A copy of the upper half, trained on what the assistant says.

        Rows are taken in passes over shuffled data, as many as the steps need. Weights are fp32,
        products bf16.
        """
        upper = deepcopy(self.upper)
        upper.embed_tokens = None
        upper.requires_grad_(True)
        optimiser = torch.optim.AdamW(
            upper.parameters(), lr=training.lr, weight_decay=0.0, fused=True
        )
        rng = Random(seed)
        order: list[int] = []
        for step in range(training.steps):
            while len(order) < training.batch:
                order += rng.sample(range(len(rows)), len(rows))
            chosen, order = order[: training.batch], order[training.batch :]
            loss = -torch.cat(self.log_probabilities(upper, [rows[i] for i in chosen])).mean()
            for group in optimiser.param_groups:  # up, then linearly down to nothing
                warm = min(1.0, (step + 1) / training.warm_up)
                group["lr"] = training.lr * warm * (1 - step / training.steps)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(upper.parameters(), 1.0)
            optimiser.step()
        return upper.eval()

    def log_probabilities(self, upper: Any, rows: Sequence[Rendered]) -> list[Tensor]:
        """Log-probability of each of the assistant's tokens, in nats: for every row `[n_scored]`."""
        streams = nn.utils.rnn.pad_sequence([row.stream for row in rows], batch_first=True)
        with torch.autocast("cpu", torch.bfloat16):
            # padded on the right, and no token looks ahead: no mask is needed
            hidden = upper(inputs_embeds=streams.float(), use_cache=False).last_hidden_state
            # only where an assistant's token comes next: the head is a fifth of the model
            before = [hidden[i, : len(row.ids) - 1][row.scored[1:]] for i, row in enumerate(rows)]
            logits = nn.functional.linear(torch.cat(before), self.model.lm_head.weight)
        targets = torch.cat([row.ids[1:][row.scored[1:]] for row in rows])
        log_p = -nn.functional.cross_entropy(logits.float(), targets, reduction="none")
        return list(log_p.split([int(row.scored[1:].sum()) for row in rows]))

    def answers(self, upper: Any, questions: Sequence[str], new_tokens: int) -> list[str]:
        """What the model with this upper half answers, greedily."""
        whole, own = self.model.model, (self.model.model.layers, self.model.model.norm)
        whole.layers, whole.norm = nn.ModuleList([*self.lower.layers, *upper.layers]), upper.norm
        prompts = [
            self.tokenizer.apply_chat_template(
                [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
            )
            for question in questions
        ]
        ids = self.tokenizer(prompts, add_special_tokens=False)["input_ids"]
        causal = CausalModel(self.model, self.model.lm_head, torch.device("cpu"))
        written = causal.answers(ids, new_tokens, batch_tokens=4096)
        whole.layers, whole.norm = own
        return [self.tokenizer.decode(each, skip_special_tokens=True) for each in written]

    @torch.no_grad()
    def mean_log_probabilities(self, upper: Any, rows: Sequence[Rendered]) -> list[float]:
        """Of each row's answer, nats per token."""
        means = [0.0] * len(rows)
        order = sorted(range(len(rows)), key=lambda row: len(rows[row].ids))
        for start in range(0, len(order), BATCH_ROWS):
            some = order[start : start + BATCH_ROWS]
            found = self.log_probabilities(upper, [rows[row] for row in some])
            for row, each in zip(some, found, strict=True):
                means[row] = float(each.mean())
        return means


def _shallow(config: Any, layers: int) -> Any:
    """The configuration of a model of so few layers, and of hardly any vocabulary of its own."""
    config = deepcopy(config)
    config.num_hidden_layers = layers
    config.vocab_size, config.pad_token_id = 8, None
    return config
