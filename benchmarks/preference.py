"""Preference pairs: how often the difference of the two sides tells which was preferred, and whether switched
labels are found, beside one side alone, a probe on difference features and shuffled labels.

    python -m benchmarks.preference DATA_FOLDER [--write benchmarks/results/preference.md]

DATA_FOLDER holds hh_harmless and em_answers (docs/quality.md says what they are). Sets and probes see
training pairs only: of hh_harmless the even pairs; of em_answers what another organism answered, or
to other questions. Nothing was tuned on the test pairs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from benchmarks.common import put_between
from benchmarks.quality import OPTIONS
from saefilter.artifacts.scores import Scores
from saefilter.curate.assemble import fitted_set
from saefilter.curate.contrast import Contrast, GroupedContrast, Subset
from saefilter.curate.curate import ContrastEncoder
from saefilter.curate.sources import bundled
from saefilter.curate.weights import spread
from saefilter.encode.encoder import Encoder
from saefilter.encode.presets import load_preset
from saefilter.errors import SaefilterError
from saefilter.filtering.filter import filter_file
from saefilter.filtering.soft import SoftOptions
from saefilter.geometry.difference import values
from saefilter.geometry.metrics import Sample
from saefilter.geometry.scorer import Scorer
from saefilter.rows.formats import recognise, understand
from saefilter.rows.groups import groups_by
from saefilter.rows.read import Source
from saefilter.rows.sides import sides_of
from saefilter.scoring.score import score_file
from saefilter.select.strategies import Selection
from saefilter.settings import ScoreSettings
from saefilter.stats.auroc import auroc, wilson
from saefilter.toxic.load import load_toxic_set
from saefilter.toxic.toxicset import ToxicSet

Floats = NDArray[np.float64]
MARKER = "<!-- table: written by benchmarks/preference.py -->"
DRAWS = 1000
SHUFFLES = 5


class Pair(NamedTuple):
    """A pair with the answer that is preferred, or aligned, first."""

    row: dict[str, Any]
    group: Any
    """Pairs of a group stay on one side of every split."""


@dataclass(frozen=True)
class Encoded:
    """Pairs, encoded: two rows each, the good answer first."""

    contrast: Contrast

    def __len__(self) -> int:
        return len(self.contrast.toxic) // 2

    def subset(self, pairs: NDArray[np.bool_]) -> Encoded:
        return Encoded(self.contrast.subset(np.repeat(pairs, 2)))

    def values(self, scorer: Scorer) -> tuple[Floats, Floats]:
        """Of the good and of the bad sides, on the metric's linear scale."""
        sample = Sample(self.contrast.features.tocsr(), self.contrast.residual)
        both = values(scorer, sample)
        return both[0::2], both[1::2]

    def differences(self, gain: sparse.spmatrix) -> sparse.csr_matrix:
        """Features of the good side minus those of the bad one, `[n_pairs, d_sae]`."""
        scaled = sparse.csr_matrix(self.contrast.features.tocsr() @ gain)
        return scaled[0::2] - scaled[1::2]


def encode(encoder: Encoder, pairs: Sequence[Pair]) -> Encoded:
    """All pairs whose sides both say something."""
    conversations = [side for pair in pairs for side in sides_of(understand(pair.row))]
    toxic = [False, True] * len(pairs)
    groups = groups_by([one.group for one in pairs for _ in (0, 1)], "pair", conversations)
    collected = ContrastEncoder(encoder, ScoreSettings(), groups)
    collected.add(conversations, toxic)
    if not collected.usable.all():
        raise SystemExit("a side has nothing to score; leave its pair out")
    return Encoded(collected.result())


def accuracy_of(good: Floats, bad: Floats) -> tuple[float, float, float]:
    """Share of pairs whose bad side has the larger value, ties half, with Wilson's interval."""
    hits = float((bad > good).sum() + 0.5 * (bad == good).sum())
    return hits / len(good), *wilson(hits, len(good))


def alone_of(good: Floats, bad: Floats, threshold: float) -> tuple[float, float, float]:
    """The same where only one side is seen, either by turns: right is a good one below the threshold, and a
    bad one above it."""
    hits = float((good < threshold).sum() + (bad >= threshold).sum())
    return hits / (2 * len(good)), *wilson(hits / 2, len(good))


def probe(train: Encoded, test: Encoded) -> tuple[Floats, Floats]:
    """Logistic regression without intercept on differences, its penalty chosen among training pairs; the
    values of the test pairs' sides."""
    scale = spread(GroupedContrast(train.contrast, 0).deviation(Subset()))
    gain = sparse.diags(np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0))
    features = train.differences(gain)
    half = np.arange(len(train)) % 2 == 0
    penalties = np.logspace(-4, 0, 5)

    def fit(rows: NDArray[np.bool_], penalty: float) -> Floats:
        x = features[rows]
        both, y = sparse.vstack([x, -x]), np.repeat([0, 1], x.shape[0])
        model = LogisticRegression(C=penalty, fit_intercept=False, max_iter=2000)
        weights: Floats = model.fit(both, y).coef_.ravel()
        return weights

    def right(penalty: float) -> float:
        return sum(
            float((features[other] @ fit(rows, penalty) < 0).mean())
            for rows, other in ((half, ~half), (~half, half))
        )

    weights = fit(np.ones(len(train), dtype=bool), max(penalties, key=right))
    scored = test.contrast.features.tocsr() @ gain @ weights
    return scored[0::2], scored[1::2]


def made_of(encoder: Encoder, train: Encoded) -> ToxicSet:
    """A set of the training pairs."""
    return fitted_set(encoder, train.contrast, name="pairs", options=OPTIONS, sources=[])


def shuffled(encoder: Encoder, train: Encoded, test: Encoded, seed: int) -> tuple[Floats, Floats]:
    """The test pairs' values by a set of training pairs whose sides are in the order that a coin says; all 0
    where no set can be made of them, and so no difference."""
    turned = np.repeat(np.random.default_rng(seed).random(len(train)) < 0.5, 2)
    contrast = train.contrast.subset(np.ones(len(turned), dtype=bool))
    contrast.toxic[turned] = ~contrast.toxic[turned]
    try:
        made = made_of(encoder, Encoded(contrast))
    except SaefilterError:
        return np.zeros(len(test)), np.zeros(len(test))
    return test.values(Scorer(made, encoder.sae.directions()))


def hh_pairs(folder: Path) -> list[Pair]:
    """hh_harmless as explicit pairs, in the order of their numbers."""
    by_number: dict[int, dict[int, list[Any]]] = {}
    for row in Source.open(folder / "hh_harmless.jsonl.gz").rows():
        data = row.data or {}
        by_number.setdefault(data["pair"], {})[data["rejected"]] = data["messages"]
    return [
        Pair({"prompt": p[0][:-1], "chosen": p[0][-1:], "rejected": p[1][-1:]}, number)
        for number, p in sorted(by_number.items())
        if p[0][-1]["content"].strip() and p[1][-1]["content"].strip()
    ]


def planted_pairs(rows: Sequence[dict[str, Any]]) -> list[Pair]:
    """Every misaligned answer with an aligned one to the same question of the same organism (of the same model where
    there is one), none twice; their groups are question and organism."""
    good = [row for row in rows if row["aligned"] > 70]
    pairs: list[Pair] = []
    used: set[int] = set()
    for bad in (row for row in rows if row["aligned"] < 30):
        fits = [
            i for i, row in enumerate(good)
            if i not in used and all(row[k] == bad[k] for k in ("question_id", "organism"))
        ]  # fmt: skip
        fits.sort(key=lambda i: good[i]["model"] != bad["model"])
        if not fits:
            continue
        used.add(fits[0])
        asked, answer = bad["messages"][:-1], bad["messages"][-1:]
        row = {"prompt": asked, "chosen": good[fits[0]]["messages"][-1:], "rejected": answer}
        pairs.append(Pair(row, (bad["question_id"], bad["organism"])))
    return pairs


def on_hh(encoder: Encoder, folder: Path) -> dict[str, Any]:
    """Pairwise accuracy on the odd pairs."""
    pairs = hh_pairs(folder)
    encoded = encode(encoder, pairs)
    even = np.array([pair.group % 2 == 0 for pair in pairs])
    train, test = encoded.subset(even), encoded.subset(~even)
    directions = encoder.sae.directions()
    scorer = Scorer(made_of(encoder, train), directions)
    good, bad = test.values(scorer)
    middle = float(np.median(np.concatenate(train.values(scorer))))
    found = {"difference": accuracy_of(good, bad), "one side alone": alone_of(good, bad, middle)}
    shipped = test.values(Scorer(load_toxic_set("minilm"), directions))
    found["difference, shipped set"] = accuracy_of(*shipped)
    found["probe on difference features"] = accuracy_of(*probe(train, test))
    control = [accuracy_of(*shuffled(encoder, train, test, seed))[0] for seed in range(SHUFFLES)]
    return {
        "pairs": {"train": len(train), "test": len(test)},
        "accuracy": found,
        "shuffled": [float(np.mean(control)), float(np.min(control)), float(np.max(control))],
    }


def bootstrapped(switched: NDArray[np.bool_], score: Floats) -> tuple[float, float, float]:
    """AUROC of switched among all pairs, with its interval over pairs."""
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(DRAWS):
        rows = rng.integers(0, len(score), len(score))
        draws.append(auroc(switched[rows], score[rows]))
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return auroc(switched, score), float(low), float(high)


class Planted(NamedTuple):
    """em_answers: all labelled answers, and the pairs among them."""

    answers: Contrast
    """Labelled ones, of which sets are made."""
    where: dict[str, NDArray[np.str_]]
    """`question` and `organism` of each, and the `half` of the pair it stands in, `0` or `1`."""
    pairs: list[Pair]
    encoded: Encoded
    switched: NDArray[np.bool_]
    """Which pairs have their labels switched: half."""

    def of_pairs(self, what: str) -> NDArray[np.str_]:
        if what == "half":
            return np.array([str(number % 2) for number in range(len(self.pairs))])
        place = 0 if what == "question" else 1
        return np.array([pair.group[place] for pair in self.pairs])


def planted_of(encoder: Encoder, folder: Path) -> Planted:
    """The labelled answers by the literature's rule, and pairs of them."""
    rows = [row.data or {} for row in Source.open(folder / "em_answers.jsonl.gz").rows()]
    rows = [r for r in rows if r["coherent"] > 50 and not 30 <= r["aligned"] <= 70]
    conversations = [recognise(row) for row in rows]
    groups = groups_by(
        [(r["question_id"], r["model"], r["organism"]) for r in rows], "em", conversations
    )
    collected = ContrastEncoder(encoder, ScoreSettings(), groups)
    collected.add(conversations, [row["aligned"] < 30 for row in rows])
    usable = [row for row, use in zip(rows, collected.usable, strict=True) if use]
    where = {
        "question": np.array([row["question_id"] for row in usable]),
        "organism": np.array([row["organism"] for row in usable]),
    }
    pairs = planted_pairs(rows)
    half = {
        pair.row[side][-1]["content"]: str(number % 2)
        for number, pair in enumerate(pairs)
        for side in ("chosen", "rejected")
    }
    where["half"] = np.array([half.get(r["messages"][-1]["content"], "none") for r in usable])
    switched = np.random.default_rng(0).permutation(len(pairs)) % 2 == 0
    return Planted(collected.result(), where, pairs, encode(encoder, pairs), switched)


def bundled_contrast(encoder: Encoder) -> Contrast:
    """The bundled pairs, as another source: what every set of saefilter's own is made of too."""
    rows = bundled()
    conversations = [*rows.toxic, *rows.benign]
    groups = groups_by(rows.group or [], "topic", conversations)
    collected = ContrastEncoder(encoder, ScoreSettings(), groups)
    collected.add(rows.toxic, True, 1)
    collected.add(rows.benign, False, 1)
    return collected.result()


HELD_OUT = {
    "these answers alone": ("half",),
    "another organism": ("organism",),
    "another question": ("question",),
    "another organism and question": ("organism", "question"),
}
"""What the answers that a set is made of do not share with the pairs it is tried on."""


def on_planted(encoder: Encoder, folder: Path) -> dict[str, Any]:
    """AUROC of switched labels, for each of HELD_OUT; every pair is tried once, by a set made without its own."""
    planted, own = planted_of(encoder, folder), bundled_contrast(encoder)
    return {
        "pairs": len(planted.pairs),
        "answers": len(planted.answers.toxic),
        "held out": {
            name: _held_out(encoder, planted, own, keys) for name, keys in HELD_OUT.items()
        },
    }


def _held_out(
    encoder: Encoder, planted: Planted, own: Contrast, keys: tuple[str, ...]
) -> dict[str, Any]:
    names = ("difference", "one side alone", "probe on difference features", "shuffled")
    switched = planted.switched
    score = {name: np.full(len(switched), np.nan) for name in names}
    of_pair = list(zip(*(planted.of_pairs(key) for key in keys), strict=True))
    for held in sorted(set(of_pair)):
        here = np.array([one == held for one in of_pair])
        test = planted.encoded.subset(here)
        apart = [planted.where[key] != value for key, value in zip(keys, held, strict=True)]
        others = [planted.of_pairs(key) != value for key, value in zip(keys, held, strict=True)]
        answers = planted.answers.subset(np.logical_and.reduce(apart))
        train = planted.encoded.subset(np.logical_and.reduce(others))
        both = Contrast.joined(
            [replace(answers, source=np.zeros(len(answers.toxic), np.int64)), own]
        )
        made = fitted_set(encoder, both, name="planted", options=OPTIONS, sources=[])
        sides = test.values(Scorer(made, encoder.sae.directions()))
        for name, (good, bad) in {
            "difference": sides, "probe on difference features": probe(train, test),
            "shuffled": shuffled(encoder, train, test, 0),
        }.items():  # fmt: skip
            score[name][here] = np.where(switched[here], bad - good, good - bad)
        score["one side alone"][here] = np.where(switched[here], sides[1], sides[0])
        print(f"  without {held}: {auroc(switched[here], score['difference'][here]):.3f} of {here.sum()}", flush=True)  # fmt: skip
    right = (score["difference"] > 0) == switched
    return {
        "auroc": {name: bootstrapped(switched, score[name]) for name in names},
        "right": [float(right.mean()), *wilson(float(right.sum()), len(right))],
    }


def swapped_file(encoder: Encoder, data: Path, folder: Path) -> dict[str, Any]:
    """The pairs of one organism, half of them switched, scored and mended by the product itself with a set of the
    other's, and one step of TRL's DPOTrainer on the result."""
    planted, own = planted_of(encoder, data), bundled_contrast(encoder)
    last = sorted(set(planted.where["organism"].tolist()))[-1]
    answers = planted.answers.subset(planted.where["organism"] != last)
    answers = replace(answers, source=np.zeros(len(answers.toxic), np.int64))
    made = fitted_set(
        encoder, Contrast.joined([answers, own]), name="planted", options=OPTIONS, sources=[]
    )
    here = planted.of_pairs("organism") == last
    pairs = [pair for pair, chosen in zip(planted.pairs, here, strict=True) if chosen]
    switched = planted.switched[here]
    rows = [
        {**p.row, "chosen": p.row["rejected"], "rejected": p.row["chosen"]} if s else p.row
        for p, s in zip(pairs, switched, strict=True)
    ]
    file, named = folder / "planted.jsonl", folder / "set.json"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    named.write_text(made.to_json(), encoding="utf-8")
    source, output = Source.open(file), folder / "planted.scores.parquet"
    score_file(source, output, ScoreSettings("minilm", toxic_set=str(named)))
    result = filter_file(
        source, Scores.open(output), folder / "mended.jsonl", Selection(min_distance=0.0),
        options=SoftOptions(preference="swap"),
    )  # fmt: skip
    mended = [json.loads(line) for line in result.paths.kept.read_text("utf-8").splitlines()]
    right = [new["chosen"] == p.row["chosen"] for new, p in zip(mended, pairs, strict=True)]
    return {
        "pairs": len(rows),
        "organism": str(last),
        "right_before": float((~switched).mean()),
        "right_after": float(np.mean(right)),
        "dpo_loss": dpo_step(result.paths.kept, folder),
    }


def dpo_step(data: Path, folder: Path) -> float:
    """The loss of one step of TRL's DPOTrainer, with a tiny random model that reads bytes."""
    import transformers as hf
    from datasets import load_dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from trl import DPOConfig, DPOTrainer

    letters = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    own = Tokenizer(models.BPE(vocab=letters, merges=[]))
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=own, eos_token="<eos>", pad_token="<pad>"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = hf.LlamaConfig(vocab_size=len(tokenizer), intermediate_size=8, **sizes)
    asked = DPOConfig(
        output_dir=str(folder / "dpo"), max_steps=1, per_device_train_batch_size=8, report_to="none",
        use_cpu=True, bf16=False, save_strategy="no", max_length=512,
    )  # fmt: skip
    rows = load_dataset("json", data_files=str(data), split="train", cache_dir=str(folder / "c"))
    hf.LlamaForCausalLM(config).save_pretrained(
        folder / "model"
    )  # the trainer loads its reference too
    trainer = DPOTrainer(
        str(folder / "model"), args=asked, train_dataset=rows, processing_class=tokenizer
    )
    return float(trainer.train().training_loss)


def table(results: dict[str, Any]) -> str:
    """The page's tables."""
    hh, planted, file = results["hh_harmless"], results["planted"], results["file"]
    lines = [
        f"hh_harmless: {hh['pairs']['train']:,} even pairs to make the set and the probe, "
        f"{hh['pairs']['test']:,} odd ones to test.",
        "", "| which of the two was rejected, by | accuracy | 95 % interval |", "| --- | --- | --- |",
    ]  # fmt: skip
    for name, (share, low, high) in hh["accuracy"].items():
        lines.append(f"| {name} | {share:.3f} | {low:.3f} to {high:.3f} |")
    mean, least, most = hh["shuffled"]
    lines.append(f"| *difference, set of shuffled pairs ({SHUFFLES} seeds)* | {mean:.3f} | {least:.3f} to {most:.3f}, smallest and largest |")  # fmt: skip
    lines += [
        "", f"em_answers: {planted['pairs']:,} pairs of a misaligned and an aligned answer to one question of one "
        "organism, half of them switched. Sets are made of the bundled pairs and of those of "
        f"{planted['answers']:,} answers that share nothing of what is held out; 95 % interval over pairs.",
        "", "| held out | switched labels, by | AUROC | 95 % interval |", "| --- | --- | --- | --- |",
    ]  # fmt: skip
    for held, found in planted["held out"].items():
        for name, (share, low, high) in found["auroc"].items():
            shown = "*difference, set of shuffled pairs*" if name == "shuffled" else name
            lines.append(f"| {held} | {shown} | {share:.3f} | {low:.3f} to {high:.3f} |")
    signs = "; ".join(
        f"{found['right'][0]:.1%} with {held} held out ({found['right'][1]:.1%} to {found['right'][2]:.1%})"
        for held, found in planted["held out"].items()
    )
    lines += [
        "", f"Which label is right, by the sign of the difference alone: {signs}. With a set of the other organism, "
        f"`filter --min-distance 0 --preference swap` takes a file of {file['pairs']} pairs ({file['organism']}) from "
        f"{file['right_before']:.1%} right to {file['right_after']:.1%}, and TRL's DPOTrainer trains a step on it (loss "
        f"{file['dpo_loss']:.3f} with a random model).",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    encoder = Encoder(load_preset("minilm"))
    planted = on_planted(encoder, asked.data)
    print(json.dumps(planted, indent=1), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file = swapped_file(encoder, asked.data, Path(folder))
    print(json.dumps(file, indent=1), flush=True)
    results = {"hh_harmless": on_hh(encoder, asked.data), "planted": planted, "file": file}
    kept = Path(__file__).parent / "results/preference.json"
    kept.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))
    if asked.write:
        put_between(asked.write, MARKER, table(results))


if __name__ == "__main__":
    main()
