"""Train an SAE with sae-lens on any text, JSONL, CSV or Parquet files: that of preset `minilm`, or
one for a model of your own.

    python examples/train_sae.py corpus/*.jsonl notes.txt -o my_sae
    python examples/train_sae.py corpus/*.jsonl --model my_model --layers 3 6 --chat -o my_saes

1. Every row is rendered as saefilter renders it and read at the hook by saefilter's own truncated
   model; all tokens but special ones count. The activations are kept as fp16 in --activations, so
   that several widths and k can be tried on them.
2. sae-lens's own trainer fits a TopK (or BatchTopK) SAE on them, shuffled.
3. The SAE is saved in sae-lens's disk format, in half precision, with a card of what was measured on
   tokens held out from training.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saefilter.encode.batches import Batch, PaddedBatch, pad, plan_batches, scored_counts
from saefilter.encode.encoder import finite
from saefilter.encode.model import TruncatedModel, load_truncated_model
from saefilter.encode.presets import load_preset
from saefilter.rows.chat import ChatRenderer
from saefilter.rows.formats import Conversation, Message, RowProblem, recognise
from saefilter.rows.read import Source
from saefilter.rows.render import PlainRenderer, load_tokenizer
from saefilter.rows.rendered import RenderOptions, Window

HELD_OUT = 20_000
"""Tokens that are never trained on, for the card."""
PASSAGE_CHARACTERS = 1500
CONTEXT = 512
SINK = 8
"""Times the median length, from which a residual is an attention sink's."""


def conversations(path: Path) -> Iterator[Conversation]:
    """Rows of a dataset file, or passages of a text file."""
    if path.suffix == ".txt":
        passage = ""
        for paragraph in path.read_text(encoding="utf-8", errors="replace").split("\n\n"):
            passage += paragraph.strip() + "\n"
            if len(passage) > PASSAGE_CHARACTERS:
                yield (Message("text", passage),)
                passage = ""
        if passage.strip():
            yield (Message("text", passage),)
        return
    for row in Source.open(path).rows():
        try:
            yield recognise(row.data or {})
        except RowProblem:
            continue


def read_activations(
    files: list[Path], source: Model, layers: list[int], max_tokens: int, per_file: int
) -> dict[int, np.ndarray]:
    """Residuals of all tokens but special ones after each of `layers`, `[n_tokens, d_model]` fp16,
    shuffled alike; at most `per_file` tokens of a file."""
    tokenizer, renderer, model = source.load(max(layers))
    reader = LayerReader(model, layers)
    parts: dict[int, list[np.ndarray]] = {layer: [] for layer in layers}
    done = 0
    started = time.perf_counter()
    for file in files:
        _, windows = renderer.render(list(conversations(file)))
        windows = some_of(windows, min(per_file, max_tokens - done))
        for start in range(0, len(windows), 512):
            chunk = windows[start : start + 512]
            for positions in plan_batches([len(window.ids) for window in chunk], 4096):
                batch = Batch([chunk[position] for position in positions])
                padded = pad(batch.windows, tokenizer.pad_token_id or 0, batch.prefix)
                for layer, tokens in reader.read(padded).items():
                    parts[layer].append(tokens.cpu().numpy().astype(np.float16))
                done += len(parts[layers[0]][-1])
        rate = done / (time.perf_counter() - started)
        print(f"  {file.name}: {done:,} tokens by now, {rate:,.0f} tokens/s", flush=True)
    order = np.random.default_rng(0).permutation(min(done, max_tokens))
    return {layer: np.concatenate(some)[order] for layer, some in parts.items()}


def some_of(windows: list[Window], most: int) -> list[Window]:
    """Windows drawn at random that have at most `most` scored tokens, or little more."""
    drawn = [windows[i] for i in np.random.default_rng(0).permutation(len(windows))]
    scored = np.cumsum(scored_counts(drawn))
    return drawn[: int(np.searchsorted(scored, most)) + 1] if most > 0 else []


@dataclass(frozen=True)
class Model:
    """Which model is read, and how."""

    path: str
    dtype: str
    chat: bool
    """Whether conversations are rendered by its own chat template."""

    def load(self, layers: int) -> tuple[Any, PlainRenderer, TruncatedModel]:
        """Its tokenizer, its renderer, and its first `layers` layers."""
        tokenizer = load_tokenizer(self.path)
        kind = ChatRenderer if self.chat else PlainRenderer
        renderer = kind(tokenizer, context=CONTEXT, options=RenderOptions(1 << 30, "all"))
        return tokenizer, renderer, load_truncated_model(self.path, layers, dtype=self.dtype)


class LayerReader:
    """Reads the residual stream after several layers in one pass."""

    def __init__(self, model: TruncatedModel, layers: list[int]):
        self.model, self._read = model, dict[int, torch.Tensor]()
        stack = next(
            one for one in model.model.modules()
            if isinstance(one, torch.nn.ModuleList) and len(one) == max(layers)
        )  # fmt: skip
        for layer in layers:
            stack[layer - 1].register_forward_hook(self._keep(layer))

    def _keep(self, layer: int) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            self._read[layer] = output[0] if isinstance(output, tuple) else output

        return hook

    def read(self, padded: PaddedBatch) -> dict[int, torch.Tensor]:
        """Layer -> residuals of the scored tokens, `[n_scored, d_model]`. Raises for numbers that are not
        finite."""
        self.model.scored_residuals(padded)
        return {layer: finite(all_[padded.scored].float()) for layer, all_ in self._read.items()}


def usual(activations: np.ndarray) -> np.ndarray:
    """Without the few tokens whose residual is many times as long as most: a causal model parks attention
    on the first token of a text, and that one's length would be all that an SAE learns."""
    lengths = np.concatenate([
        np.linalg.norm(activations[start : start + 65536].astype(np.float32), axis=1)
        for start in range(0, len(activations), 65536)
    ])  # fmt: skip
    return np.flatnonzero(lengths < SINK * np.median(lengths))


def batches(activations: np.ndarray, size: int, scale: float) -> Iterator[torch.Tensor]:
    """Endless batches, divided by `scale`; each pass starts at another offset, so that batches differ."""
    n = len(activations) - HELD_OUT
    offset = 0
    while True:
        for start in range(offset, n - size, size):
            yield torch.from_numpy(activations[start : start + size].astype(np.float32)) / scale
        offset = (offset + size // 3) % size


def train(
    activations: np.ndarray, layer: int, folder: Path, args: argparse.Namespace
) -> torch.nn.Module:
    """Fit with sae-lens's trainer."""
    from sae_lens.config import SAETrainerConfig
    from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.training.sae_trainer import SAETrainer

    torch.manual_seed(args.seed)
    kinds = {
        "topk": (TopKTrainingSAE, TopKTrainingSAEConfig),
        "batchtopk": (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig),
    }
    sae_class, config_class = kinds[args.architecture]
    config = config_class(
        d_in=activations.shape[1], d_sae=args.d_sae, k=args.k, decoder_init_norm=0.1
    )
    config.metadata.model_name = (
        args.model_name or args.model or "sentence-transformers/all-MiniLM-L6-v2"
    )
    config.metadata.hook_name = f"blocks.{layer - 1}.hook_resid_post"
    config.metadata.context_size = CONTEXT
    sae = sae_class(config)
    sample = torch.from_numpy(activations[:HELD_OUT].astype(np.float32))
    # a mean length of sqrt(d) suits the trainer's rates whatever the model; scaled back below
    scale = float(sample.norm(dim=1).mean()) / sample.shape[1] ** 0.5 if args.scale else 1.0
    sae.b_dec.data = sample.mean(dim=0) / scale
    samples = int(args.passes * (len(activations) - HELD_OUT))
    steps = samples // args.batch_size
    trainer_config = SAETrainerConfig(
        total_training_samples=samples,
        train_batch_size_samples=args.batch_size,
        lr=args.lr,
        lr_end=args.lr / 10,
        lr_warm_up_steps=100,
        lr_decay_steps=steps // 4,
        dead_feature_window=200,
        feature_sampling_window=400,
        n_checkpoints=args.checkpoints,
        checkpoint_path=str(folder.with_name(folder.name + "-checkpoints")),
    )
    SAETrainer(trainer_config, sae, batches(activations, args.batch_size, scale)).fit()
    with torch.no_grad():
        sae.W_enc.div_(scale), sae.W_dec.mul_(scale), sae.b_dec.mul_(scale)
    return sae


def save(sae: torch.nn.Module, folder: Path) -> None:
    """sae-lens's disk format, decoder rows folded to unit norm, fp16."""
    from safetensors.torch import load_file, save_file

    sae.fold_W_dec_norm()
    sae.save_inference_model(folder)
    weights = load_file(folder / "sae_weights.safetensors")
    save_file({name: t.half() for name, t in weights.items()}, folder / "sae_weights.safetensors")
    config = json.loads((folder / "cfg.json").read_text())
    config.update(dtype="float16", device="cpu")
    (folder / "cfg.json").write_text(json.dumps(config, indent=1) + "\n")


def measure(folder: Path, held_out: np.ndarray) -> dict[str, float]:
    """What the card says, by sae-lens's own encode and decode of the saved SAE."""
    from sae_lens import SAE

    sae = SAE.load_from_disk(folder, dtype="float32")
    x = torch.from_numpy(held_out.astype(np.float32))
    with torch.no_grad():
        activations = sae.encode(x)
        rebuilt = sae.decode(activations)
    active = activations > 0
    return {
        "explained_variance": float(1 - (x - rebuilt).pow(2).sum() / (x - x.mean(0)).pow(2).sum()),
        "l0": float(active.sum(dim=1).float().mean()),
        "silent_on_held_out": float((active.sum(dim=0) == 0).float().mean()),
        "dense_features": int((active.float().mean(dim=0) > 0.1).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("minilm_sae"))
    parser.add_argument("--model", help="a folder or hub id; the model of preset minilm by default")
    parser.add_argument("--model-name", help="what the SAE says it is of [--model]")
    parser.add_argument("--activations", type=Path, help="a folder: keep them here, or reuse them")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--chat", action="store_true", help="render rows by the model's template")
    parser.add_argument("--per-file", type=int, default=1 << 60, help="tokens of a file at most")
    parser.add_argument("--max-tokens", type=int, default=4_000_000)
    parser.add_argument("--layers", type=int, nargs="+", default=[4], help="one SAE after each")
    parser.add_argument("--d-sae", type=int, default=4096)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--architecture", choices=["topk", "batchtopk"], default="topk")
    parser.add_argument("--passes", type=float, default=2.0)
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument(
        "--scale", action="store_true", help="train on residuals of mean length sqrt(d)"
    )
    parser.add_argument("--checkpoints", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    for layer, activations in of_layers(args).items():
        folder = args.output if len(args.layers) == 1 else args.output / f"layer_{layer}"
        train_one(activations, layer, folder, args)


def of_layers(args: argparse.Namespace) -> dict[int, np.ndarray]:
    """Residuals by layer, read or from the folder where they are kept."""
    kept = {}
    if args.activations:
        kept = {layer: args.activations / f"layer_{layer}.npy" for layer in args.layers}
        if all(file.exists() for file in kept.values()):
            return {layer: np.load(file, mmap_mode="r") for layer, file in kept.items()}
    path = args.model or load_preset("minilm").model_path()
    model = Model(path, args.dtype, args.chat)
    read = read_activations(args.files, model, args.layers, args.max_tokens, args.per_file)
    for layer, file in kept.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, read[layer])
    return read


def train_one(activations: np.ndarray, layer: int, folder: Path, args: argparse.Namespace) -> None:
    """Fit, save and measure one SAE."""
    kept = usual(activations)
    left_out = 1 - len(kept) / len(activations)
    activations = activations[kept] if left_out else activations
    started = time.perf_counter()
    sae = train(activations, layer, folder, args)
    seconds = time.perf_counter() - started
    save(sae, folder)
    card = {
        "tokens": len(activations) - HELD_OUT,
        "left_out_as_sinks": left_out,
        "passes": args.passes,
        "layers": layer,
        "architecture": args.architecture,
        "d_sae": args.d_sae,
        "k": args.k,
        "batch_size": args.batch_size,
        "lr": args.lr,
        "seconds": round(seconds),
        **measure(folder, np.asarray(activations[-HELD_OUT:])),
    }
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    print(json.dumps(card, indent=1))


if __name__ == "__main__":
    main()
