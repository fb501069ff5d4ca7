"""After which layer the SAE should read: where harmful and helpful documents of one domain are told apart
by what was learned on others.

Seen are the contrast chats alone, as whoever curates a toxic set has them; no domain of the fine-tuning
data and none of the evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from data import Row
from finetune import encode, padded
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from train_lm import spoken
from transformers import AutoModelForCausalLM, AutoTokenizer

Array = NDArray[np.float32]


def layers_by_transfer(
    model: Path, harmful: Sequence[Row], helpful: Sequence[Row]
) -> dict[int, float]:
    """For each number of layers but the model's own, the AUROC of a linear probe on the domain that it
    was not trained on, mean over the domains."""
    rows = [*harmful, *helpful]
    is_harmful = np.repeat([1, 0], [len(harmful), len(helpful)])
    domain = np.array([row.domain for row in rows])
    found = {}
    for layers, pooled in enumerate(_pooled(model, rows), start=1):
        scores = []
        for left_out in np.unique(domain):
            rest, there = domain != left_out, domain == left_out
            probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
            probe.fit(pooled[rest], is_harmful[rest])
            scores.append(roc_auc_score(is_harmful[there], probe.decision_function(pooled[there])))
        found[layers] = round(float(np.mean(scores)), 4)
    return found


def _pooled(folder: Path, rows: Sequence[Row]) -> list[Array]:
    """The mean residual of each row's answers after every layer but the last, `[n_rows, d_model]` each.

    The last is left out: what follows it are the next word's logits, and transformers gives it only
    after the final norm.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    special = torch.tensor(tokenizer.all_special_ids)
    ids = encode(rows, tokenizer)
    parts: list[list[torch.Tensor]] = []
    for start in range(0, len(rows), 200):
        batch = padded(ids[start : start + 200], tokenizer.pad_token_id)
        with torch.no_grad():
            states = model(input_ids=batch, output_hidden_states=True).hidden_states[1:-1]
        words = (spoken(batch, tokenizer) & ~torch.isin(batch, special)).float()
        weights = words / words.sum(dim=1, keepdim=True)
        parts.append([torch.einsum("ntd,nt->nd", state, weights) for state in states])
    return [torch.cat(layer).numpy() for layer in zip(*parts, strict=True)]
