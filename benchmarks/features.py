"""Are features chosen on one half of the data any good on the other?

    python benchmarks/features.py DATA_FOLDER [--model FOLDER --sae FOLDER]

Toxic features are chosen on the training half of each labelled set (docs/quality.md says what the sets
and halves are). On the other half: the AUROC of their summed activation and of the metric `nearest`,
against random features that fire as often, which take the same way.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quality import RULES, Labelled, load, with_interval

from saefilter.curate.contrast import GroupedContrast, Subset, confirm
from saefilter.curate.options import CurationOptions
from saefilter.diagnose.features import draw_matched, frequency_bins
from saefilter.encode.encoder import Encoder
from saefilter.encode.presets import resolve
from saefilter.geometry.metrics import weighted_mean
from saefilter.geometry.space import DirectionIndex

TOP = 100
RANDOM_SETS = 200
OPTIONS = CurationOptions(screen_p=0.1, fdr=0.5)


def chosen_features(one: Labelled, directions: NDArray[np.float32]) -> NDArray[np.int64]:
    """The toxic features that the training half confirms, strongest first, at most TOP."""
    data = GroupedContrast(one.side(True), 0)
    signs = confirm(data, Subset(), OPTIONS, directions).signs
    correlation = data.statistics(Subset()).correlation
    toxic = np.flatnonzero(signs > 0)
    return toxic[np.argsort(-correlation[toxic])][:TOP]


def separation(one: Labelled, directions: NDArray[np.float32]) -> dict[str, Any]:
    """AUROC on the test half of the chosen features and of random ones that fire as often."""
    chosen = chosen_features(one, directions)
    test = one.side(False)
    features = test.features.tocsr()
    frequency = np.asarray((features > 0).mean(axis=0)).ravel()
    bins = frequency_bins(frequency, np.flatnonzero(frequency > 0))
    rng = np.random.default_rng(0)
    random = draw_matched(chosen, bins, RANDOM_SETS, rng)

    def summed(toxic: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(features[:, toxic].sum(axis=1)).ravel()

    def nearest(toxic: NDArray[np.int64]) -> NDArray[np.float64]:
        proximity = DirectionIndex(directions[toxic]).nearest(directions).cosine[:, 0]
        return weighted_mean(features, proximity).astype(np.float64)

    found: dict[str, Any] = {"features": len(chosen)}
    for name, score in (("summed activation", summed), ("nearest", nearest)):
        own = with_interval(test.toxic, score(chosen), None)
        others = [with_one(test.toxic, score(toxic)) for toxic in random]
        low, middle, high = np.quantile(others, [0.025, 0.5, 0.975])
        found[name] = own | {"random": middle, "random_low": low, "random_high": high}
    return found


def with_one(toxic: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    """AUROC alone."""
    from saefilter.stats.auroc import auroc

    return auroc(toxic, score)


def markdown(results: dict[str, Any]) -> str:
    """The table."""
    lines = [
        "| model | set | features | summed activation | random, summed | nearest | random, nearest |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for model, sets in results.items():
        for name, found in sets.items():
            cells = []
            for metric in ("summed activation", "nearest"):
                one = found["separation"][metric]
                cells.append(f"{one['auroc']:.3f} ({one['low']:.2f}–{one['high']:.2f})")
                cells.append(
                    f"{one['random']:.3f} ({one['random_low']:.2f}–{one['random_high']:.2f})"
                )
            count = found["separation"]["features"]
            lines.append(f"| {model} | {name} | {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", help="a causal model's folder, besides minilm")
    parser.add_argument("--sae", help="its SAE's folder")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/features.json"))
    args = parser.parse_args()
    presets = {"minilm": resolve("minilm", None, None, None)}
    if args.model:
        presets["small causal LM"] = resolve(None, args.model, args.sae, None)
    results: dict[str, Any] = {}
    for model, preset in presets.items():
        encoder = Encoder(preset)
        directions = encoder.sae.directions()
        for name in RULES:
            one = load(name, args.folder, encoder)
            results.setdefault(model, {})[name] = {"separation": separation(one, directions)}
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(results, indent=1) + "\n")
    print(markdown(results))


if __name__ == "__main__":
    main()
