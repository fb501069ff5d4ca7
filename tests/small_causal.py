"""Small causal models whose weights are known or were trained here, and rows for strategies that read with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from checkpoints import save_model, small_tokenizer
from scored import write_scores

from saefilter.filtering.job import candidates_of
from saefilter.rows.formats import ASSISTANT, Conversation, Message
from saefilter.rows.read import Source
from saefilter.select.causal_reader import CausalReader
from saefilter.select.classifiers import ContrastPair
from saefilter.select.layered import load_layers
from saefilter.select.ranking import Candidates, Ranking
from saefilter.select.registry import StrategyOptions
from saefilter.select.strategies import Selection, rank

LAYERS, WIDTH = 4, 32


def small_llama(folder: Path, change: Callable[[Any], None] | None = None) -> Path:
    """A Llama of four layers of 32 that reads bytes, random but for what `change` does to it."""
    tokenizer = small_tokenizer(bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    tokens = {f"{n}_token_id": tokenizer.convert_tokens_to_ids(f"<{n}>") for n in ("bos", "eos")}
    config = hf.LlamaConfig(
        hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=2, intermediate_size=48,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=96, **tokens,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = save_model(config, folder, tokenizer, model_class=hf.LlamaForCausalLM)
    if change is not None:
        change(model)
        model.save_pretrained(folder)
    return folder


def said(prompt: str, answer: str) -> Conversation:
    """One question and its answer."""
    return Message("user", prompt), Message(ASSISTANT, answer)


def contrast_of(toxic: Sequence[Conversation], benign: Sequence[Conversation]) -> ContrastPair:
    """Contrast rows as a strategy reads them."""
    sides = np.arange(len(toxic) + len(benign)) < len(toxic)
    return ContrastPair([*toxic, *benign], sides, [])


def mixed(contrast: ContrastPair, draws: int) -> Iterator[ContrastPair]:
    """The same rows with sides that mean nothing: of either side, half are called toxic, drawn anew."""
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        called = np.zeros(len(contrast.toxic), dtype=bool)
        for side in (contrast.toxic, ~contrast.toxic):
            rows = np.flatnonzero(side)
            called[rng.permutation(rows)[: len(rows) // 2]] = True
        yield ContrastPair(contrast.conversations, called, [])


def candidates_in(path: Path) -> Candidates:
    """The rows of a file, with scores that are written and not computed."""
    source = Source.open(path)
    return candidates_of(source, write_scores(source, path.with_suffix(".parquet")))


def selection_of(strategy: str, model: Path, seed: int = 0, **options: Any) -> Selection:
    """What a user asks of a strategy."""
    asked = StrategyOptions(model=str(model), device="cpu", dtype="fp32", **options)
    return Selection(strategy, drop_frac=0.5, seed=seed, options=asked)


def ranked(candidates: Candidates, strategy: str, model: Path, **options: Any) -> Ranking:
    """The strategy's ranking."""
    return rank(candidates, selection_of(strategy, model, **options))


def reader_of(candidates: Candidates, strategy: str, model: Path) -> CausalReader:
    """The model as a strategy loads it."""
    return load_layers(candidates, selection_of(strategy, model))


def words(rng: np.random.Generator, count: int, letters: str = "abcdefgh") -> list[str]:
    """Random words of six letters."""
    return ["".join(rng.choice(list(letters), 6)) for _ in range(count)]


def train_layer(model: Any, layer: int, texts: Sequence[tuple[list[int], int]], steps: int) -> None:
    """Train one layer alone to continue prompts: `(ids, where the answer begins)`."""
    model.requires_grad_(False)
    model.model.layers[layer].requires_grad_(True)
    wanted = [one for one in model.parameters() if one.requires_grad]
    optimiser = torch.optim.Adam(wanted, lr=0.003)
    length = max(len(ids) for ids, _ in texts)
    batch = torch.zeros(len(texts), length, dtype=torch.long)
    labels = torch.full_like(batch, -100)
    for row, (ids, start) in enumerate(texts):
        batch[row, : len(ids)] = torch.tensor(ids)
        labels[row, start : len(ids)] = torch.tensor(ids[start:])
    for _ in range(steps):
        optimiser.zero_grad()
        model(input_ids=batch, labels=labels).loss.backward()
        optimiser.step()
