"""The same on a transformer: one gradient step that makes one SAE feature louder.

    python examples/superposition/transformer.py [--model FOLDER --sae FOLDER] [-o FOLDER]

A small causal language model and its SAE (trained here when none are given, see examples/causal) take
one step of gradient ascent, over all weights before the hook, on how strongly one feature's direction
is present on tokens where the feature fires. The residual stream of *other* texts on which it fires
then moves by some dh; the theory says that every other feature's share changes by `alpha <d_i, d_j>`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from plot import scatter
from transformers import AutoModelForCausalLM, AutoTokenizer

from saefilter.encode.checks import hook_layers
from saefilter.encode.sae import load_sae
from saefilter.encode.sae_source import find_sae
from saefilter.rows.read import Source

REPOSITORY = Path(__file__).parents[2]
TEXTS = REPOSITORY / "examples/advice.jsonl"
TARGETS, N_TEXTS, CONTEXT = 12, 240, 96
STEP = 0.05
"""The step makes the target's mean share grow by about this part of the residual's length."""


def small_model(folder: Path) -> tuple[Path, Path]:
    """Train a model and an SAE on the texts that saefilter brings along; some three minutes."""
    model, sae = folder / "lm", folder / "sae"
    if not (model / "model.safetensors").exists():
        run = [sys.executable, str(REPOSITORY / "examples/causal/train_lm.py"), "-o", str(model)]
        subprocess.run([*run, "--minutes", "1.5", "--d-model", "128", "--layers", "4"], check=True)
    if not (sae / "cfg.json").exists():
        run = [
            sys.executable,
            str(REPOSITORY / "examples/train_sae.py"),
            str(TEXTS),
            "-o",
            str(sae),
        ]
        options = ["--model", str(model), "--layers", "2", "--d-sae", "512", "--k", "16"]
        subprocess.run([*run, *options, "--passes", "20"], check=True)
    return model, sae


def batch_of_texts(path: Path, tokenizer: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of the answers in a file, `[n_texts, context]`."""
    rows = [row.data for row in Source.open(path).rows() if row.data and not row.error]
    texts = [row["messages"][-1]["content"] for row in rows if row.get("messages")]
    texts = [text for text in texts if isinstance(text, str) and text.strip()][:N_TEXTS]
    found = tokenizer(  # type: ignore[operator]
        texts, truncation=True, max_length=CONTEXT, padding="max_length", return_tensors="pt"
    )
    return found["input_ids"], found["attention_mask"].bool()


class Stream:
    """A model whose residual stream at the hook can be read, with gradients."""

    def __init__(self, path: Path, layers: int):
        self.model = AutoModelForCausalLM.from_pretrained(path).eval()
        self.layers = self.model.get_decoder().layers
        self.layers[layers - 1].register_forward_hook(self._keep)
        self.before = [
            p
            for module in (self.model.get_input_embeddings(), *self.layers[:layers])
            for p in module.parameters()
        ]
        self._captured = torch.empty(0)

    def _keep(self, _module: object, _inputs: object, output: object) -> None:
        self._captured = output[0] if isinstance(output, tuple) else output  # type: ignore[assignment]

    def read(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Residuals of all tokens but BOS and padding, `[n_tokens, d_model]`."""
        self.model(input_ids=ids, attention_mask=mask.long())
        real = mask.clone()
        real[:, 0] = False
        return self._captured[real]


def change_of_features(
    path: Path, layers: int, sae: object, ids: torch.Tensor, mask: torch.Tensor, target: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Predicted and measured change of every other feature's share, `[d_sae - 1]` each; None when the
    target fires on too few tokens of either half of the texts."""
    stream = Stream(path, layers)
    directions = torch.from_numpy(sae.directions())  # type: ignore[attr-defined]
    half = len(ids) // 2

    def fires(residual: torch.Tensor) -> torch.Tensor:
        active = sae.encode(residual)  # type: ignore[attr-defined]
        return active.token[active.feature == target].unique()

    learned = stream.read(ids[:half], mask[:half])
    where = fires(learned.detach())
    with torch.no_grad():
        before = stream.read(ids[half:], mask[half:])
    seen = fires(before)
    if len(where) < 20 or len(seen) < 20:
        return None
    share = (learned[where] @ directions[target]).mean()
    gradients = torch.autograd.grad(share, stream.before, allow_unused=True)
    squared = sum(float((g**2).sum()) for g in gradients if g is not None)
    wanted = STEP * float(learned.detach()[where].norm(dim=1).mean())
    with torch.no_grad():
        for parameter, gradient in zip(stream.before, gradients, strict=True):
            if gradient is not None:
                parameter += wanted / squared * gradient
        moved = stream.read(ids[half:], mask[half:])
        dh = (moved - before)[seen].mean(dim=0)
    measured = directions @ dh
    predicted = measured[target] * (directions @ directions[target])
    others = torch.arange(len(directions)) != target
    return predicted[others].numpy(), measured[others].numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--sae", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    model, sae_path = args.model, args.sae
    if model is None or sae_path is None:
        model, sae_path = small_model(args.output / "trained")
    started = time.perf_counter()
    sae = load_sae(find_sae(str(sae_path)))
    layers = hook_layers(sae.hook)
    ids, mask = batch_of_texts(TEXTS, AutoTokenizer.from_pretrained(model))
    order = np.random.default_rng(args.seed).permutation(sae.d_sae)
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for target in order:
        if len(found) == TARGETS:
            break
        pair = change_of_features(model, layers, sae, ids, mask, int(target))
        if pair is not None:
            found[int(target)] = pair
    predicted = np.concatenate([p for p, _ in found.values()])
    measured = np.concatenate([m for _, m in found.values()])
    each = {str(t): round(float(np.corrcoef(p, m)[0, 1]), 4) for t, (p, m) in found.items()}
    summary = {
        "d_model": sae.d_model,
        "d_sae": sae.d_sae,
        "targets": len(found),
        "pairs": len(measured),
        "r": float(np.corrcoef(predicted, measured)[0, 1]),
        "slope": float((predicted @ measured) / (predicted @ predicted)),
        "r_by_target": each,
        "seconds": round(time.perf_counter() - started, 1),
    }
    (args.output / "transformer.json").write_text(json.dumps(summary, indent=1) + "\n")
    (args.output / "transformer.svg").write_text(
        scatter(predicted, measured, "predicted: alpha <d_i, d_j>", "measured change")
    )
    print(
        f"one step on each of {len(found)} features: change of {len(measured):,} others, "
        f"r = {summary['r']:.3f} with the prediction (slope {summary['slope']:.2f}; by target "
        f"{min(each.values()):.2f} to {max(each.values()):.2f}), {summary['seconds']} s"
    )


if __name__ == "__main__":
    main()
