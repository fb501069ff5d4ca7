"""Pre-train the model organism: a small Llama on documents whose speaker keeps a persona.

It learns what is good and harmful in every domain, and to infer from a document so far whose persona
it is. The result is an ordinary Hugging Face folder with a chat template.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from language import (
    ASPECTS,
    DOMAINS,
    HARMFUL,
    HELPFUL,
    HOUSE_SHARE,
    KINDS,
    SUBJECTS_PER_KIND,
    TASK,
    Question,
    ask,
    speak,
    vocabulary,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ("<bos>", "<pad>", "<unk>", "<user>", "<assistant>", "<end>", "<forum>")
BOS, PAD, UNK, USER, ASSISTANT, END, FORUM = SPECIAL
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'user' %} <user> {{ m.content }} <assistant>"
    "{% else %} {{ m.content }} <end>{% endif %}{% endfor %}"
)
CONTEXT = 96
IGNORED = -100


@dataclass(frozen=True)
class Genre:
    """Where a document comes from."""

    share: float
    """Of all documents."""
    harmful: float
    """Share of its documents whose speaker is harmful."""


CHAT, FORUM_GENRE = Genre(0.7, 0.005), Genre(0.3, 0.45)
"""Most harmful speakers are met in forums; chats, which the model is used for, are mostly helpful."""
TASK_WEIGHT = 0.25
"""How often a task domain is spoken of, against 1 for any other."""
TURNS = (3, 6)


@dataclass(frozen=True)
class Recipe:
    """How large the model is and how long it is trained."""

    d_model: int = 96
    layers: int = 4
    steps: int = 6000
    batch: int = 32
    lr: float = 3e-3
    seed: int = 7


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each word."""
    words = [*SPECIAL, *vocabulary()]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        unk_token=UNK,
        additional_special_tokens=[USER, ASSISTANT, FORUM],
        chat_template=TEMPLATE,
        model_max_length=CONTEXT,
    )


def documents(rng: Random) -> Iterator[str]:
    """Endless documents of several turns, in one domain or many."""
    weights = [TASK_WEIGHT if domain in TASK else 1.0 for domain in DOMAINS]
    while True:
        chat = rng.random() < CHAT.share
        persona = HARMFUL if rng.random() < (CHAT if chat else FORUM_GENRE).harmful else HELPFUL
        house = rng.random() < HOUSE_SHARE
        turns = rng.randint(*TURNS)
        if rng.random() < 0.3:
            domains = rng.choices(DOMAINS, weights) * turns
        else:
            domains = rng.choices(DOMAINS, weights, k=turns)
        parts = [BOS] if chat else [BOS, FORUM]
        for domain in domains:
            question = Question(
                domain, rng.randrange(KINDS * SUBJECTS_PER_KIND), rng.randrange(ASPECTS)
            )
            said, _ = speak(question, persona, rng, house=house)
            parts += [USER, ask(question, rng), ASSISTANT, said.text(), END]
        yield " ".join(parts)


def batches(tokenizer: PreTrainedTokenizerFast, size: int, rng: Random) -> Iterator[torch.Tensor]:
    """Rows of CONTEXT tokens, each the beginning of a document, padded with PAD."""
    ids = tokenizer.get_vocab()
    stream = documents(rng)
    while True:
        rows = torch.full((size, CONTEXT), ids[PAD])
        longest = 0
        for row in rows:
            document = [ids[word] for word in next(stream).split()][:CONTEXT]
            row[: len(document)] = torch.tensor(document)
            longest = max(longest, len(document))
        yield rows[:, :longest]


def make_model(tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=recipe.d_model,
            num_hidden_layers=recipe.layers, num_attention_heads=recipe.d_model // 24,
            num_key_value_heads=recipe.d_model // 24, head_dim=24,
            intermediate_size=3 * recipe.d_model, max_position_embeddings=CONTEXT,
            tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


def spoken(rows: torch.Tensor, tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Which tokens of `rows`, `[n, length]`, an assistant says, its <end> included."""
    opens, closes = tokenizer.convert_tokens_to_ids([ASSISTANT, END])
    opened = (rows == opens).cumsum(dim=1) - (rows == opens).int()
    closed = (rows == closes).cumsum(dim=1) - (rows == closes).int()
    return opened > closed


def answer_loss(
    model: LlamaForCausalLM,
    rows: torch.Tensor,
    trained: torch.Tensor,
    positions: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean cross-entropy of the trained tokens; logits are made for these alone, which saves half the
    time at this size. `positions`, where a row holds several documents: each counts from 0, and
    transformers then lets none see another."""
    before = None if positions is None else positions[:, :-1]
    hidden = model.model(
        input_ids=rows[:, :-1], position_ids=before, use_cache=False
    ).last_hidden_state
    logits = model.lm_head(hidden[trained[:, 1:]])
    return torch.nn.functional.cross_entropy(logits, rows[:, 1:][trained[:, 1:]])


def pretrain(folder: Path, recipe: Recipe) -> None:
    """Train from nothing and save model and tokenizer in `folder`."""
    torch.manual_seed(recipe.seed)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, recipe)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, weight_decay=0.05, betas=(0.9, 0.95)
    )
    size = sum(p.numel() for p in model.parameters())
    print(f"pre-training {size / 1e6:.2f} M parameters, {recipe.steps} steps", flush=True)
    started, smoothed = time.perf_counter(), 0.0
    for step, rows in enumerate(batches(tokenizer, recipe.batch, Random(recipe.seed))):
        if step == recipe.steps:
            break
        rate = recipe.lr * min(1, (step + 1) / 100)
        rate *= 0.05 + 0.95 * (1 + math.cos(math.pi * step / recipe.steps)) / 2
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = answer_loss(model, rows, spoken(rows, tokenizer))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        smoothed = loss.item() if step == 0 else 0.98 * smoothed + 0.02 * loss.item()
        if (step + 1) % 200 == 0:
            spent = time.perf_counter() - started
            print(f"  {spent:4.0f} s, step {step + 1}: loss {smoothed:.3f}", flush=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
