"""The quality table: every metric on every labelled set, beside what a classifier can do.

    python benchmarks/quality.py DATA_FOLDER [--write docs/quality.md]

DATA_FOLDER holds em_answers, hatecheck, xstest and hh_harmless as .jsonl.gz (docs/quality.md says
what they are). Features, weights, probes and classifiers see the training rows only; the table is
of the test rows. Nothing was tuned on these: settings were chosen within the training rows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from saefilter.curate.assemble import fitted_set
from saefilter.curate.contrast import Contrast, GroupedContrast, Subset
from saefilter.curate.curate import ContrastEncoder
from saefilter.curate.weights import spread
from saefilter.encode.encoder import Encoder
from saefilter.encode.presets import load_preset
from saefilter.errors import SaefilterError
from saefilter.geometry.metrics import METRICS
from saefilter.geometry.scorer import Scorer
from saefilter.rows.formats import ASSISTANT, TEXT, RowProblem, recognise
from saefilter.rows.groups import groups_by
from saefilter.rows.read import Source
from saefilter.settings import CurationOptions, ScoreSettings
from saefilter.stats.auroc import auroc as pooled_auroc
from saefilter.toxic.toxicset import ToxicSet

BOOTSTRAP = 500
OPTIONS = CurationOptions(screen_p=0.1, fdr=0.9)
"""Lenient, so that small and noisy sets have features to work with; the penalty does the rest.
The shipped set is made at a rate of 0.5."""
STRICT = CurationOptions()
"""The default of `features curate`."""
MARKER = "<!-- table: written by benchmarks/quality.py -->"
CONTROL_MARKER = "<!-- shuffled directions: written by benchmarks/quality.py -->"
READ_DIRECTIONS = ("contrast", "nearest", "top-features", "reconstruction", "centroid")
"""Metrics in which decoder directions have a say; the others need no control."""
SHUFFLES = 5
SHUFFLED_BOOTSTRAP = 200


@dataclass(frozen=True)
class Labelled:
    """One labelled set, encoded."""

    name: str
    contrast: Contrast
    train: NDArray[np.bool_]
    texts: list[str]
    question: NDArray[np.str_] | None
    """Where results are to be judged within a group."""

    def side(self, train: bool, source: int = 0) -> Contrast:
        subset = self.contrast.subset(self.train if train else ~self.train)
        return replace(subset, source=np.full(len(subset.toxic), source))


def em_answers(row: dict[str, Any]) -> tuple[bool | None, bool]:
    """The literature's rule; features from one organism, tested on the other."""
    toxic = None
    if row["coherent"] > 50:
        toxic = True if row["aligned"] < 30 else False if row["aligned"] > 70 else None
    return toxic, row["organism"] == "bad-medical-advice"


RULES: dict[str, Callable[[int, dict[str, Any]], tuple[bool | None, bool]]] = {
    "em_answers": lambda _, row: em_answers(row),
    "hatecheck": lambda _, row: (bool(row["toxic"]), row["template"] % 2 == 0),
    "xstest": lambda index, row: (bool(row["toxic"]), index % 2 == 0),
    "hh_harmless": lambda _, row: (bool(row["rejected"]), row["pair"] % 2 == 0),
}
"""Set -> (index, row) -> (toxic, or None to leave it out; is it a training row)."""
GROUPS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "em_answers": lambda row: (row["question_id"], row["model"], row["organism"]),
    "hatecheck": lambda row: row["template"],
    "xstest": lambda row: None,
    "hh_harmless": lambda row: row["pair"],
}
"""Set -> row -> what it shares with the rows of its group."""


def load(name: str, folder: Path, encoder: Encoder, read: str = "at") -> Labelled:
    """Read and encode one set, the model read at each trained token or before it."""
    chosen = []
    for row in Source.open(folder / f"{name}.jsonl.gz").rows():
        assert row.data is not None
        toxic, train = RULES[name](row.index, row.data)
        try:
            conversation = recognise(row.data)
        except RowProblem:
            continue
        if toxic is not None:
            question = row.data.get("question_id")
            chosen.append((conversation, toxic, train, question, row.data))
    conversations, toxic_labels, train_rows, questions, _ = zip(*chosen, strict=True)
    # in hh_harmless only the last answer was judged; the turns before it stand on both sides
    train_on = "last-turn" if name == "hh_harmless" else "assistant"
    settings = ScoreSettings(train_on=train_on, read=read)
    groups = groups_by([GROUPS[name](entry[4]) for entry in chosen], name, conversations)
    collected = ContrastEncoder(encoder, settings, groups)
    collected.add(conversations, toxic_labels)
    contrast = collected.result()
    chosen = [entry for entry, usable in zip(chosen, collected.usable, strict=True) if usable]
    conversations, _, train_rows, questions, _ = zip(*chosen, strict=True)
    toxic_array = contrast.toxic
    print(f"{name}: {len(chosen)} rows, {toxic_array.mean():.0%} toxic", flush=True)
    return Labelled(
        name,
        contrast,
        np.array(train_rows),
        [
            "\n".join(m.content for m in conversation if m.role in (ASSISTANT, TEXT))
            for conversation in conversations
        ],
        np.array(questions) if questions[0] else None,
    )


def auroc(toxic: NDArray[np.bool_], score: NDArray[Any], question: NDArray[Any] | None) -> float:
    """AUROC, or the mean of the AUROCs within questions."""
    if question is None:
        return pooled_auroc(toxic, score)
    within = [
        auroc(toxic[rows], score[rows], None)
        for rows in (question == q for q in np.unique(question))
        if 0 < toxic[rows].sum() < rows.sum()
    ]
    return float(np.mean(within))


def with_interval(
    toxic: NDArray[np.bool_], score: NDArray[Any], question: NDArray[Any] | None
) -> dict[str, float]:
    """AUROC with its 95 % bootstrap interval over rows."""
    rng = np.random.default_rng(0)
    values = []
    for _ in range(BOOTSTRAP):
        rows = rng.integers(0, len(toxic), len(toxic))
        values.append(auroc(toxic[rows], score[rows], None if question is None else question[rows]))
    low, high = np.quantile(values, [0.025, 0.975])
    return {"auroc": auroc(toxic, score, question), "low": float(low), "high": float(high)}


def made_of(encoder: Encoder, train: Contrast, options: CurationOptions = OPTIONS) -> ToxicSet:
    """A set made of the training rows."""
    toxic_set = fitted_set(encoder, train, name="quality", options=options, sources=[])
    fitted = [f for f in toxic_set.features if f.weight > 0]
    sides = [sum(f.side == side for f in fitted) for side in ("toxic", "benign")]
    print(f"  {len(toxic_set.features)} features, weighted: {sides}", flush=True)
    return toxic_set


def scores_by(
    toxic_set: ToxicSet, directions: NDArray[np.float32], test: Contrast, metrics: Iterable[str]
) -> dict[str, NDArray[Any]]:
    """The test rows' proximity by each metric that the set can serve."""
    weighted = {feature.side for feature in toxic_set.features if feature.weight > 0}
    scores = {}
    for name in metrics:
        if METRICS[name].needs_weights and len(weighted) < 2:
            continue
        scorer = Scorer(toxic_set, directions, metric=name)
        scores[name] = scorer.score(test.features.tocsr(), test.residual).proximity
    return scores


def own_share(toxic_set: ToxicSet, directions: NDArray[np.float32], test: Contrast) -> float:
    """How much of `contrast` is of the set's own features, mean over the test rows."""
    scorer = Scorer(toxic_set, directions, metric="contrast")
    scored = scorer.score(test.features.tocsr(), test.residual)
    return round(float(np.nanmean(scored.own_share)), 4)


def shuffled(
    toxic_set: ToxicSet, directions: NDArray[np.float32], test: Contrast
) -> dict[str, list[NDArray[Any]]]:
    """The same as `scores_by` of the metrics that read directions, with those dealt out anew among all
    features, once for each seed: what they rank by then owes nothing to geometry."""
    drawn: dict[str, list[NDArray[Any]]] = {}
    for seed in range(SHUFFLES):
        order = np.random.default_rng(seed).permutation(len(directions))
        scores = scores_by(toxic_set, directions[order], test, READ_DIRECTIONS)
        for name, score in scores.items():
            drawn.setdefault(name, []).append(score)
    return drawn


def against_shuffled(
    toxic: NDArray[np.bool_],
    real: NDArray[Any],
    drawn: list[NDArray[Any]],
    question: NDArray[Any] | None,
) -> dict[str, float]:
    """AUROC, the mean AUROC of the shuffled ones, and the difference with its 95 % bootstrap interval over
    rows, the same rows for both."""

    def both(rows: NDArray[np.int64]) -> tuple[float, float]:
        within = None if question is None else question[rows]
        aurocs = [auroc(toxic[rows], score[rows], within) for score in (real, *drawn)]
        return aurocs[0], float(np.mean(aurocs[1:]))

    rng = np.random.default_rng(0)
    draws = [both(rng.integers(0, len(toxic), len(toxic))) for _ in range(SHUFFLED_BOOTSTRAP)]
    low, high = np.quantile([one - other for one, other in draws], [0.025, 0.975])
    found, control = both(np.arange(len(toxic)))
    return {
        "auroc": found, "shuffled": control, "difference": found - control,
        "low": float(low), "high": float(high),
    }  # fmt: skip


def best_logistic() -> LogisticRegressionCV:
    """Logistic regression with its penalty chosen by cross-validation on the training rows."""
    return LogisticRegressionCV(
        Cs=np.logspace(-4, -1, 4), cv=4, scoring="roc_auc", class_weight="balanced", max_iter=1000
    )


def classifiers(
    train: Contrast, test: Contrast, train_texts: list[str], test_texts: list[str]
) -> dict[str, NDArray[Any]]:
    """What supervision can do: on the same pooled features, on residuals, on words."""
    scale = spread(GroupedContrast(train, 0).deviation(Subset()))
    gain = sparse.diags(np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0))
    probe = best_logistic()
    probe.fit(train.features.tocsr() @ gain, train.toxic)
    residual = make_pipeline(StandardScaler(), best_logistic()).fit(train.residual, train.toxic)
    words = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        LogisticRegression(C=10, max_iter=2000, class_weight="balanced"),
    ).fit(train_texts, train.toxic)
    return {
        "*logistic probe on the pooled features*": probe.decision_function(
            test.features.tocsr() @ gain
        ),
        "*logistic probe on the mean residual, no SAE*": residual.decision_function(test.residual),
        "*TF-IDF + logistic regression*": words.decision_function(test_texts),
        "*random*": np.random.default_rng(0).random(len(test.toxic)),
    }


def evaluate(encoder: Encoder, sets: list[Labelled]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every column of the table: own contrast, and all sources together; and the control table."""
    results: dict[str, Any] = {}
    controls: dict[str, Any] = {}
    directions = encoder.sae.directions()
    together = made_of(encoder, Contrast.joined([one.side(True, i) for i, one in enumerate(sets)]))
    for one in sets:
        train, test = one.side(True), one.side(False)
        split = {
            train_side: [text for text, is_train in zip(one.texts, one.train, strict=True)
                         if is_train == train_side]
            for train_side in (True, False)
        }  # fmt: skip
        toxic_set = made_of(encoder, train)
        scores = scores_by(toxic_set, directions, test, METRICS)
        for name, drawn in shuffled(toxic_set, directions, test).items():
            row = controls.setdefault(name, {})
            row[one.name] = against_shuffled(test.toxic, scores[name], drawn, None)
            if name == "contrast":
                row[one.name]["own_share"] = own_share(toxic_set, directions, test)
            if one.question is not None:
                row[f"{one.name} within question"] = against_shuffled(
                    test.toxic, scores[name], drawn, one.question[~one.train]
                )
        scores |= classifiers(train, test, split[True], split[False])
        try:
            strict = scores_by(made_of(encoder, train, STRICT), directions, test, ["contrast"])
        except SaefilterError:
            strict = {}  # nothing is confirmed
        if "contrast" in strict:
            scores["contrast, features confirmed at 5 %"] = strict["contrast"]
        joint = scores_by(together, directions, test, ["contrast"])
        scores["contrast, one set for all four"] = joint["contrast"]
        for name, score in scores.items():
            row = results.setdefault(name, {})
            row[one.name] = with_interval(test.toxic, score, None)
            if one.question is not None:
                row[f"{one.name} within question"] = with_interval(
                    test.toxic, score, one.question[~one.train]
                )
            print(f"  {one.name:12} {name:48} {row[one.name]['auroc']:.3f}", flush=True)
    return results, controls


def read_before(encoder: Encoder, sets: list[Labelled]) -> dict[str, dict[str, float]]:
    """The table's row for `--read before`: sets that are encoded so, for training and test alike."""
    return {
        one.name: with_interval(
            one.side(False).toxic,
            scores_by(
                made_of(encoder, one.side(True)),
                encoder.sae.directions(),
                one.side(False),
                ["contrast"],
            )["contrast"],
            None,
        )
        for one in sets
    }


def markdown(results: dict[str, Any]) -> str:
    """The table."""
    columns = list(next(iter(results.values())))
    lines = ["| method | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    for name, row in results.items():
        cells = [
            f"{row[c]['auroc']:.3f} ({row[c]['low']:.2f}–{row[c]['high']:.2f})" if c in row else ""
            for c in columns
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def controls_markdown(controls: dict[str, Any]) -> str:
    """The control table: a line for each metric and set."""
    lines = ["| method | set | AUROC | shuffled | difference (95 %) |", "|" + " --- |" * 5]
    for name, row in controls.items():
        for column, found in row.items():
            interval = f"{found['low']:+.3f} to {found['high']:+.3f}".replace("-", "−")
            difference = f"{found['difference']:+.3f}".replace("-", "−")
            lines.append(
                f"| {name} | {column} | {found['auroc']:.3f} | {found['shuffled']:.3f} "
                f"| {difference} ({interval}) |"
            )
    return "\n".join(lines)


def write_between(path: Path, marker: str, table: str) -> None:
    """Replace what stands between the first two markers."""
    before, _, rest = path.read_text().partition(marker)
    _, _, after = rest.partition(marker)
    path.write_text(f"{before}{marker}\n\n{table}\n\n{marker}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description="AUROC of every metric on labelled data")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", type=Path, help="document whose table is replaced")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/quality.json"))
    args = parser.parse_args()
    encoder = Encoder(load_preset("minilm"))
    sets = [load(name, args.folder, encoder) for name in RULES]
    results, controls = evaluate(encoder, sets)
    before = [load(name, args.folder, encoder, "before") for name in RULES]
    results["contrast, --read before"] = read_before(encoder, before)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(results, indent=1) + "\n")
    shuffled_json = args.json.with_name(f"{args.json.stem}_shuffled.json")
    shuffled_json.write_text(json.dumps(controls, indent=1) + "\n")
    tables = {MARKER: markdown(results), CONTROL_MARKER: controls_markdown(controls)}
    for marker, table in tables.items():
        print(table)
        if args.write:
            write_between(args.write, marker, table)


if __name__ == "__main__":
    main()
