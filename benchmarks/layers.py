"""Which layer, and which width of SAE, carries over best? And do loss and projection difference?

    python -m benchmarks.layers DATA_FOLDER MODEL SAE... [--most 300] [--write benchmarks/results/quality.md] [--name N]

The columns are those of transfer.py. Every row is read once, to the last layer; each SAE (a folder, or
`shipped:...`) is then laid over the residuals of its layer. MODEL: a folder of a causal model. Besides
`contrast` by each SAE:

    residual probe        logistic regression on the mean residual of each layer, and of all together
    projection difference along the difference of means of the taught sides: how far the row lies from
                          what the model itself answers to the same prompt (Chen et al. 2025,
                          arXiv 2507.21509); only where rows have a prompt
    loss                  mean negative log-likelihood of the tested row's scored tokens; teaches nothing
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import cross_entropy

from benchmarks.common import put_between
from benchmarks.quality import scores_by
from benchmarks.transfer import COLUMNS, Column, Labels, chosen, judged, probe, sets
from saefilter.curate.assemble import fitted_set
from saefilter.curate.contrast import Contrast
from saefilter.curate.curate import AUTOMATIC
from saefilter.encode.batches import pad, plan_batches, scored_counts
from saefilter.encode.checks import hook_layers
from saefilter.encode.encoder import Encoder
from saefilter.encode.pool import PoolOptions, pool_batch
from saefilter.encode.presets import resolve
from saefilter.errors import SaefilterError
from saefilter.rows.formats import ASSISTANT, Conversation, Message
from saefilter.stats.sparse_rows import SparseRows

MARKER = "<!-- layers, {}: written by benchmarks/layers.py -->"
BATCH_TOKENS = 2048
ANSWER_TOKENS = 64
"""Of what the model itself says; on average its projection is settled by then."""
AT_ONCE = 32
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Read:
    """Conversations, read: everything is of scored tokens, row after row."""

    tokens: dict[int, Floats]
    """After so many layers, `[n_tokens, d_model]`."""
    counts: NDArray[np.int64]
    """Of each row, `[n_rows]`."""
    loss: Floats
    """Mean negative log-likelihood, `[n_rows]`."""

    def residual(self, layers: int) -> Floats:
        """Mean residual, `[n_rows, d_model]`."""
        starts = np.cumsum(self.counts) - self.counts
        total = np.add.reduceat(self.tokens[layers].astype(np.float64), starts, axis=0)
        return (total / self.counts[:, None]).astype(np.float32)


class Reader:
    """A causal model, whole."""

    def __init__(self, encoder: Encoder, folder: str, layers: Sequence[int]):
        from transformers import AutoModelForCausalLM

        self.encoder, self.layers = encoder, sorted(set(layers))
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
        self.kept: dict[int, torch.Tensor] = {}
        for n in self.layers:
            self.model.get_decoder().layers[n - 1].register_forward_hook(self._keeps(n))

    def _keeps(self, n: int) -> Any:
        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            self.kept[n] = output[0] if isinstance(output, tuple) else output

        return keep

    @torch.inference_mode()
    def read(self, conversations: Sequence[Conversation]) -> tuple[Read, NDArray[np.bool_]]:
        """Those that have anything to score, and which these are."""
        _, windows = self.encoder.renderer().render(conversations)
        first = {window.row: window for window in reversed(windows)}
        rows = [first[row] for row in sorted(first)]
        usable = np.isin(np.arange(len(conversations)), list(first))
        tokens: dict[int, dict[int, Floats]] = {n: {} for n in self.layers}
        loss = np.zeros(len(rows), dtype=np.float32)
        for batch in plan_batches([len(window.ids) for window in rows], BATCH_TOKENS):
            padded = pad([rows[i] for i in batch], 0)
            decoder = self.model.get_decoder()
            final = decoder(input_ids=padded.ids, attention_mask=padded.attention)[0]
            for place, i in enumerate(batch):
                at = padded.scored[place]
                for n in self.layers:
                    tokens[n][i] = self.kept[n][place][at].float().numpy()
                positions = np.flatnonzero(at.numpy())
                positions = positions[positions > 0]
                logits = self.model.lm_head(final[place, positions - 1]).float()
                loss[i] = float(cross_entropy(logits, padded.ids[place, positions]))
        stacked = {n: np.concatenate([of[i] for i in range(len(rows))]) for n, of in tokens.items()}
        return Read(stacked, scored_counts(rows), loss), usable

    @torch.inference_mode()
    def answers(self, prompts: Sequence[Conversation]) -> list[Conversation]:
        """Each prompt with what the model itself answers, greedily."""
        tokenizer = self.encoder.tokenizer
        texts = [
            tokenizer.apply_chat_template(
                [{"role": m.role, "content": m.content} for m in prompt],
                tokenize=False, add_generation_prompt=True,
            )
            for prompt in prompts
        ]  # fmt: skip
        tokenizer.padding_side, tokenizer.pad_token_id = "left", tokenizer.pad_token_id or 0
        answered: list[Conversation] = [()] * len(prompts)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), AT_ONCE):
            some = order[start : start + AT_ONCE]
            inputs = tokenizer(
                [texts[i] for i in some],
                return_tensors="pt",
                padding=True,
                add_special_tokens=False,
            )
            said = self.model.generate(
                **inputs, max_new_tokens=ANSWER_TOKENS, do_sample=False, use_cache=True,
                pad_token_id=tokenizer.pad_token_id,
            )[:, inputs["input_ids"].shape[1] :]  # fmt: skip
            for i, ids in zip(some, said, strict=True):
                text = tokenizer.decode(ids, skip_special_tokens=True).strip()
                answered[i] = (*prompts[i], Message(ASSISTANT, text or "."))
        return answered


class Part:
    """A set, read; its contrast by each SAE; what its rows' prompts are answered with."""

    def __init__(self, labels: Labels, most: int, reader: Reader, answer: bool):
        conversations, toxic, groups = chosen(labels, most)
        self.read, usable = reader.read(conversations)
        self.toxic = np.array(toxic)[usable]
        self.groups, self.copies = groups.label[usable], groups.copies[usable]
        self.own: dict[int, Floats] | None = None
        prompts = [
            one[:-1] for one, use in zip(conversations, usable, strict=True) if use and len(one) > 1
        ]
        if (
            answer
            and len(prompts) == len(self.toxic)
            and all(one[-1].role == ASSISTANT for one in conversations)
        ):
            different = {repr(prompt): prompt for prompt in prompts}
            own, there = reader.read(reader.answers(list(different.values())))
            assert there.all()
            number = {prompt: i for i, prompt in enumerate(different)}
            at = [number[repr(prompt)] for prompt in prompts]
            self.own = {n: own.residual(n)[at] for n in reader.layers}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it by name, to be kept as numbers."""
        read, own = self.read, self.own or {}
        return {
            "toxic": self.toxic, "groups": self.groups, "copies": self.copies,
            "counts": read.counts, "loss": read.loss,
            **{f"tokens {n}": tokens for n, tokens in read.tokens.items()},
            **{f"own {n}": residual for n, residual in own.items()},
        }  # fmt: skip

    @classmethod
    def of(cls, kept: Mapping[str, NDArray[Any]]) -> Part:
        """From what `arrays` gave."""

        def layers(name: str) -> dict[int, Floats]:
            return {int(key.split()[1]): kept[key] for key in kept if key.startswith(f"{name} ")}

        part = cls.__new__(cls)
        part.read = Read(layers("tokens"), kept["counts"], kept["loss"])
        part.toxic, part.groups, part.copies = kept["toxic"], kept["groups"], kept["copies"]
        part.own = layers("own") or None
        return part

    def contrast(self, encoder: Encoder) -> Contrast:
        """As `saefilter` would encode it."""
        layers = hook_layers(encoder.hook)
        tokens = torch.from_numpy(self.read.tokens[layers])
        pooled = pool_batch(encoder.sae, tokens, self.read.counts, PoolOptions("mean", None, True))
        features = SparseRows(encoder.sae.d_sae)
        features.append(sparse.csr_matrix(sparse.diags(1 / self.read.counts) @ pooled.features))
        assert pooled.fired is not None
        return Contrast(
            features, self.read.residual(layers), self.toxic,
            np.zeros(len(self.toxic), dtype=np.int64), density=pooled.fired / len(tokens),
            group=self.groups, copies=self.copies, tokens=self.read.counts,
        )  # fmt: skip


def joined(parts: Sequence[Sequence[Contrast]]) -> Contrast:
    """Contrasts as one, those of each inner sequence one source."""
    return Contrast.joined(
        [
            replace(one, source=np.full(len(one.toxic), number))
            for number, some in enumerate(parts)
            for one in some
        ]
    )


def by_contrast(encoder: Encoder, taught: Contrast, tested: Contrast) -> NDArray[Any] | None:
    """The default's scores; None where no set comes of what is taught."""
    try:
        toxic_set = fitted_set(encoder, taught, name="layers", options=AUTOMATIC, sources=[])
    except SaefilterError as error:
        print(f"  {error.problem}", flush=True)
        return None
    return scores_by(toxic_set, encoder.sae.directions(), tested, ["contrast"]).get("contrast")


def by_probe(taught: Contrast, tested: Contrast) -> NDArray[Any]:
    """Logistic regression on residuals, its penalty chosen on groups left out."""
    fitted = make_pipeline(StandardScaler(), probe(taught)).fit(taught.residual, taught.toxic)
    return np.asarray(fitted.decision_function(tested.residual))


def difference(taught: Contrast, residual: Floats, own: Floats) -> NDArray[Any]:
    """Along the taught sides' difference of means: what rows have more than the model's own answers."""
    direction = taught.residual[taught.toxic].mean(axis=0) - taught.residual[~taught.toxic].mean(
        axis=0
    )
    return np.asarray((residual - own) @ direction)


def scores_of(
    column: Column, parts: dict[str, Part], encoders: dict[str, Encoder]
) -> tuple[dict[str, NDArray[Any]], Contrast]:
    """Scores of a column's tested rows by every method, and these rows."""
    scores, of_layer = {}, {}
    for name, encoder in encoders.items():
        names = {part for some in (*column.taught, column.tested) for part in some}
        contrasts = {part: parts[part].contrast(encoder) for part in names}
        taught = joined([[contrasts[part] for part in some] for some in column.taught])
        tested = joined([[contrasts[part] for part in column.tested]])
        of_layer[hook_layers(encoder.hook)] = taught, tested
        if (score := by_contrast(encoder, taught, tested)) is not None:
            scores[f"contrast, {name}"] = score
    for layers, (taught, tested) in sorted(of_layer.items()):
        scores[f"*residual probe, layer {layers}*"] = by_probe(taught, tested)
        owns = [parts[part].own for part in column.tested]
        if all(own is not None for own in owns):
            own = np.concatenate([own[layers] for own in owns if own is not None])
            scores[f"*projection difference, layer {layers}*"] = difference(
                taught, tested.residual, own
            )
    every = [
        replace(side[0], residual=np.hstack([one.residual for one in side]))
        for side in zip(*of_layer.values(), strict=True)
    ]
    if len(of_layer) > 1:
        scores["*residual probe, all these layers*"] = by_probe(*every)
    scores["*loss*"] = np.concatenate([parts[part].read.loss for part in column.tested])
    return scores, tested


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """AUROC by method and column, and the mean: a set that could not be made counts as chance, a column
    whose rows have no prompt not at all, and how many are left is told."""
    columns = [column.name for column in COLUMNS]
    lines = [
        f"| method | {' | '.join(columns)} | mean |",
        "| --- |" + " --- |" * (len(columns) + 1),
    ]
    for name, row in results.items():
        lacking = "no set" if name.startswith("contrast") else "no prompt"
        cells = [
            f"{row[c]['auroc']:.2f} ({row[c]['low']:.2f}–{row[c]['high']:.2f})"
            if c in row
            else lacking
            for c in columns
        ]
        areas = [row[c]["auroc"] for c in columns if c in row]
        if lacking == "no set":
            areas += [0.5] * (len(columns) - len(areas))
        of = "" if len(areas) == len(columns) else f" of {len(areas)}"
        lines.append(f"| {name} | {' | '.join(cells)} | {np.mean(areas):.3f}{of} |")
    tested = [
        f"{results['*loss*'][c]['rows']:,} ({results['*loss*'][c]['bad']:.0%})" for c in columns
    ]
    return "\n".join([*lines, f"| tested rows (bad) | {' | '.join(tested)} | |"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Which layer and width carries over best")
    parser.add_argument("folder", type=Path)
    parser.add_argument("model")
    parser.add_argument("sae", nargs="+")
    parser.add_argument("--name", required=True, help="what the table is called")
    parser.add_argument(
        "--most", type=int, default=300, help="rows of a side, of all but our pairs"
    )
    parser.add_argument("--write", type=Path, help="document whose table is replaced")
    parser.add_argument(
        "--reads", type=Path, help="folder that keeps what was read for the next time"
    )
    args = parser.parse_args()
    encoders = {
        f"layer {hook_layers(encoder.hook)}, {encoder.sae.d_sae:,} features": encoder
        for sae in args.sae
        for encoder in [Encoder(resolve(None, args.model, sae))]
    }
    if args.reads and args.reads.exists():
        parts = {
            file.stem: Part.of(np.load(file, allow_pickle=False))
            for file in args.reads.glob("*.npz")
        }
    else:
        layers = [hook_layers(encoder.hook) for encoder in encoders.values()]
        reader = Reader(next(iter(encoders.values())), args.model, layers)
        tested = {part for column in COLUMNS for part in column.tested}
        parts = {}
        for name, labels in sets(args.folder):
            if name != "same code":
                most = 10**9 if name == "pairs" else args.most
                started = time.monotonic()
                parts[name] = Part(labels, most, reader, answer=name in tested)
                seconds = time.monotonic() - started
                print(f"{name}: {len(parts[name].toxic)} rows, {seconds:.0f} s", flush=True)
        if args.reads:
            args.reads.mkdir(parents=True)
            for name, part in parts.items():
                np.savez(args.reads / f"{name}.npz", **part.arrays())
    file = Path(f"benchmarks/results/layers_{args.name}.json")
    results: dict[str, dict[str, dict[str, float]]] = {}
    for column in COLUMNS:
        scores, rows = scores_of(column, parts, encoders)
        for method, score in scores.items():
            results.setdefault(method, {})[column.name] = one = judged(rows, score)
            print(f"  {column.name:30} {method:40} {one['auroc']:.3f}", flush=True)
        file.write_text(json.dumps(results, indent=1) + "\n")
    print(text := table(results))
    if args.write:
        put_between(args.write, MARKER.format(args.name), text)


if __name__ == "__main__":
    main()
