"""The quality table: every metric on every labelled set, beside what a classifier can do.

    python -m benchmarks.quality DATA_FOLDER [--write docs/quality.md]

DATA_FOLDER: see labelled.py. Features, weights, probes and classifiers see the training rows only; the
table is of the test rows, with intervals over their groups. Nothing was tuned on these: settings were
chosen within the training rows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.common import put_between
from benchmarks.labelled import RULES, HeldOutRows, Labelled, load
from saefilter.curate.assemble import fitted_set
from saefilter.curate.contrast import Contrast, GroupedContrast, Subset
from saefilter.curate.options import CurationOptions
from saefilter.curate.weights import spread
from saefilter.encode.encoder import Encoder
from saefilter.encode.presets import load_preset
from saefilter.errors import SaefilterError
from saefilter.geometry.metrics import METRICS
from saefilter.geometry.scorer import Scorer
from saefilter.stats.auroc import grouped_auroc, grouped_draws
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


def with_interval(
    test: HeldOutRows, score: NDArray[Any], *, within: bool = False
) -> dict[str, float]:
    """AUROC, or the mean of the AUROCs within questions, with its 95 % bootstrap interval over groups."""
    found, low, high = grouped_auroc(*test.scored(score, within), draws=BOOTSTRAP, seed=0)
    return {"auroc": found, "low": low, "high": high}


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
    test: HeldOutRows, real: NDArray[Any], drawn: list[NDArray[Any]], *, within: bool = False
) -> dict[str, float]:
    """AUROC, the mean AUROC of the shuffled ones, and the difference with its 95 % bootstrap interval over
    groups, the same groups for both."""
    several = [
        grouped_draws(*test.scored(score, within), draws=SHUFFLED_BOOTSTRAP, seed=0)
        for score in (real, *drawn)
    ]
    found, control = several[0][0], float(np.mean([one for one, _ in several[1:]]))
    differences = several[0][1] - np.mean([draws for _, draws in several[1:]], axis=0)
    low, high = np.quantile(differences, [0.025, 0.975])
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
        train, test = one.side(True), one.test
        texts = {
            side: [text for text, is_train in zip(one.texts, one.train, strict=True)
                   if is_train == side]
            for side in (True, False)
        }  # fmt: skip
        toxic_set = made_of(encoder, train)
        scores = scores_by(toxic_set, directions, test.contrast, METRICS)
        for name, drawn in shuffled(toxic_set, directions, test.contrast).items():
            for column, within in test.columns(one.name).items():
                found = against_shuffled(test, scores[name], drawn, within=within)
                controls.setdefault(name, {})[column] = found
            if name == "contrast":
                share = own_share(toxic_set, directions, test.contrast)
                controls[name][one.name]["own_share"] = share
        scores |= classifiers(train, test.contrast, texts[True], texts[False])
        try:
            strict = made_of(encoder, train, STRICT)
        except SaefilterError:
            pass  # nothing is confirmed
        else:
            confirmed = scores_by(strict, directions, test.contrast, ["contrast"])
            if confirmed:
                scores["contrast, features confirmed at 5 %"] = confirmed["contrast"]
        joint = scores_by(together, directions, test.contrast, ["contrast"])
        scores["contrast, one set for all four"] = joint["contrast"]
        for name, score in scores.items():
            row = results.setdefault(name, {})
            for column, within in test.columns(one.name).items():
                row[column] = with_interval(test, score, within=within)
            print(f"  {one.name:12} {name:48} {row[one.name]['auroc']:.3f}", flush=True)
    return results, controls


def read_before(encoder: Encoder, sets: list[Labelled]) -> dict[str, dict[str, float]]:
    """The table's row for `--read before`: sets that are encoded so, for training and test alike."""
    directions = encoder.sae.directions()
    row = {}
    for one in sets:
        toxic_set = made_of(encoder, one.side(True))
        scores = scores_by(toxic_set, directions, one.test.contrast, ["contrast"])
        row[one.name] = with_interval(one.test, scores["contrast"])
    return row


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
    pages = {MARKER: args.write, CONTROL_MARKER: args.json.with_suffix(".md")}
    for marker, table in tables.items():
        print(table)
        if args.write:
            put_between(pages[marker], marker, table)


if __name__ == "__main__":
    main()
