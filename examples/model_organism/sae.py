"""Train the model organism's SAE with sae-lens's own trainer, and save it in sae-lens's format."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from train_lm import batches

from saefilter.encode.model import load_truncated_model
from saefilter.rows.render import load_tokenizer

sys.path.append(str(Path(__file__).parents[1]))
from train_sae import HELD_OUT, measure, save, train


@dataclass(frozen=True)
class SaeRecipe:
    """How large the SAE is and what it is trained on."""

    d_sae: int = 512
    k: int = 8
    tokens: int = 400_000
    passes: float = 3.0


def train_organism_sae(
    model: Path, layers: int, folder: Path, recipe: SaeRecipe, seed: int = 0
) -> dict[str, float]:
    """Train on the words of new documents (special tokens are never scored, so never trained on), at the
    output of so many layers.

    Returns what was measured on tokens held out from training.
    """
    started = time.perf_counter()
    activations = residuals(model, layers, recipe, seed)
    sae = train(
        activations,
        layers,
        folder,
        Namespace(
            model=str(model), model_name=None, d_sae=recipe.d_sae, k=recipe.k, architecture="topk",
            passes=recipe.passes, batch_size=1024, lr=1e-3, checkpoints=0, seed=seed, scale=False,
        ),
    )  # fmt: skip
    save(sae, folder)
    card = {
        **measure(folder, activations[-HELD_OUT:]),
        "tokens": len(activations) - HELD_OUT,
        "seconds": round(time.perf_counter() - started),
    }
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    return card


def residuals(path: Path, layers: int, recipe: SaeRecipe, seed: int) -> np.ndarray:
    """The residual stream at the hook, `[n_tokens, d_model]` fp16, shuffled."""
    tokenizer = load_tokenizer(str(path))
    model = load_truncated_model(str(path), layers)
    special = torch.tensor(tokenizer.all_special_ids)
    parts: list[np.ndarray] = []
    stream = batches(tokenizer, 128, Random(f"sae {seed}"))
    while sum(map(len, parts)) < recipe.tokens + HELD_OUT:
        rows = next(stream)
        residual = model.residual(rows, (rows != tokenizer.pad_token_id).long())
        parts.append(residual[~torch.isin(rows, special)].numpy().astype(np.float16))
    activations = np.concatenate(parts)[: recipe.tokens + HELD_OUT]
    return activations[np.random.default_rng(seed).permutation(len(activations))]
