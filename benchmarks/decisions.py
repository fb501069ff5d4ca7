"""What does a set learn from so many decisions of a review? AUROC on rows of groups that nobody decided on.

    python -m benchmarks.decisions DATA_FOLDER [--write docs/review.md]

The reviewer is the label. Rows are decided on in the orders of `saefilter review`: the closest, those around a
cut of a quarter, or drawn at random (mean of five draws); `features curate --decisions` then moves the weights
of minilm's set, which was made of none of these rows. The last column: by how hard weights are held.
DATA_FOLDER: see labelled.py; advice is examples/advice.jsonl.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.common import put_between
from benchmarks.labelled import load
from saefilter.artifacts.decisions import ENOUGH
from saefilter.curate import adapt
from saefilter.curate.contrast import Contrast
from saefilter.curate.curate import ContrastEncoder
from saefilter.encode.encoder import Encoder
from saefilter.encode.presets import load_preset
from saefilter.geometry.scorer import Scorer
from saefilter.rows.formats import RowProblem, recognise
from saefilter.rows.read import Source
from saefilter.settings import ScoreSettings
from saefilter.stats.auroc import auroc
from saefilter.toxic.load import load_toxic_set
from saefilter.toxic.toxicset import ToxicSet

COUNTS = (20, 50, 100)
SEEDS = 5
HOLDS = (0.1, adapt.HOLD, 1.0)
MARKER = "<!-- written by benchmarks/decisions.py -->"
EXAMPLES = Path(__file__).parents[1] / "examples"
Rows = NDArray[np.int64]


def advice(encoder: Encoder) -> Contrast:
    """The example's rows by its labels."""
    with open(EXAMPLES / "advice.labels.csv", encoding="utf-8") as file:
        bad = {int(row["line"]): row["is_bad"] == "1" for row in csv.DictReader(file)}
    conversations, toxic = [], []
    for row in Source.open(EXAMPLES / "advice.jsonl").rows():
        try:
            conversations.append(recognise(row.data or {}))
        except RowProblem:
            continue
        toxic.append(bad[row.line])
    encoded = ContrastEncoder(encoder, ScoreSettings())
    encoded.add(conversations, toxic)
    return encoded.result()


class Learner:
    """A set and some rows, of which a part is decided on."""

    def __init__(self, contrast: Contrast, toxic_set: ToxicSet, directions: NDArray[np.float32]):
        self.toxic, self._residual, self._directions = contrast.toxic, contrast.residual, directions
        self._groups = contrast.groups
        self._features = sparse.vstack([slab for _, slab in contrast.features.slabs()]).tocsr()
        self._set = toxic_set
        self._members = [n for n, one in enumerate(toxic_set.features) if one.weight > 0]
        index = np.array([toxic_set.features[n].index for n in self._members])
        self._fit = adapt.Fit.of(
            toxic_set, self._members, contrast.features.columns(index).toarray()
        )
        self.before = self._proximity(toxic_set)

    def _proximity(self, toxic_set: ToxicSet) -> NDArray[np.float32]:
        return Scorer(toxic_set, self._directions).score(self._features, self._residual).proximity

    def learnt(self, decided: Rows, hold: float) -> tuple[float, float]:
        """AUROC on rows whose group nobody decided on, before and after."""
        chosen = np.zeros(len(self.toxic), dtype=bool)
        chosen[decided] = True
        weights, intercept = replace(self._fit, hold=hold).learnt(self.toxic, chosen)
        after = adapt.with_weights(self._set, self._members, weights, intercept)
        others = ~np.isin(self._groups, self._groups[chosen])
        return (
            auroc(self.toxic[others], self.before[others]),
            auroc(self.toxic[others], self._proximity(after)[others]),
        )


def orders(proximity: NDArray[np.float32]) -> Iterator[tuple[str, list[Rows]]]:
    """Rows in the orders of a review, first to be decided on first."""
    closest = np.argsort(-proximity, kind="stable")
    cut = round(0.25 * len(closest))
    around = closest[np.argsort(np.abs(np.arange(len(closest)) + 0.5 - cut), kind="stable")]
    yield "closest", [closest]
    yield "around a cut of 25%", [around]
    yield "random", [np.random.default_rng(seed).permutation(len(closest)) for seed in range(SEEDS)]


def lines(name: str, learner: Learner) -> Iterator[str]:
    """Of one set, a line for each order and number of decisions."""
    for order, drawn in orders(learner.before):
        for count in COUNTS:
            told = []
            for rows in drawn:
                decided = rows[:count]
                bad = int(learner.toxic[decided].sum())
                if min(bad, count - bad) >= ENOUGH:
                    told.append([bad, *(learner.learnt(decided, hold) for hold in HOLDS)])
            if not told:
                yield f"| {name} | {order} | {count} | too few of a side | | | |"
                continue
            bad = np.mean([one[0] for one in told])
            before, after = np.mean([one[1 + HOLDS.index(adapt.HOLD)] for one in told], axis=0)
            other = [np.mean([one[1 + n][1] for one in told]) for n, hold in enumerate(HOLDS)]
            held = " / ".join(f"{value:.3f}" for value in other)
            yield f"| {name} | {order} | {count} | {bad:.0f} | {before:.3f} | {after:.3f} | {held} |"


def main() -> None:
    """Print the table, and put it into a document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    encoder = Encoder.of(ScoreSettings(preset="minilm"))
    toxic_set = load_toxic_set(str(load_preset("minilm").toxic_set))
    head = " / ".join(f"{hold:g}" for hold in HOLDS)
    table = [
        f"| data | decided on | decisions | of them dropped | before | after | held by {head} |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in ("advice", "xstest", "hatecheck"):
        contrast = (
            advice(encoder) if name == "advice" else load(name, asked.folder, encoder).contrast
        )
        for line in lines(name, Learner(contrast, toxic_set, encoder.sae.directions())):
            print(line, flush=True)
            table.append(line)
    if asked.write:
        put_between(asked.write, MARKER, "\n".join(table))


if __name__ == "__main__":
    main()
