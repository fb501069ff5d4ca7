"""What a report says should be done first, of files whose share of bad rows is known.

    python -m benchmarks.advice DATA_FOLDER [--draws 10] [--write benchmarks/results/advice.md]

The files are like those of drop_auto.py: one random half of Alpaca mixed with bad rows, the other half
named by `--reference`. Each is scored and filtered as the commands do it, and the report's first advice is
counted. It should not say "Raise the cut" of a file without bad rows, and should where there are far more
of them than were dropped. Rows that no feature of the set shows (insecure code) are the control: of them
no rule over distances can say anything.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.common import put_between
from benchmarks.drop_auto import BAD, GOOD
from benchmarks.false_alarms import Rows, of_file, source_of
from saefilter.artifacts.scores import Scores
from saefilter.filtering.filter import filter_file
from saefilter.report.advice import advice
from saefilter.scoring.reference import read_reference
from saefilter.scoring.score import score_file
from saefilter.scoring.scorer import RowScorer
from saefilter.select.strategies import Selection
from saefilter.settings import ScoreSettings
from saefilter.stats.auroc import wilson

MARKER = "<!-- table: written by benchmarks/advice.py -->"
SHARES = (0.05, 0.1, 0.2, 0.5)
CUT = 0.1
"""Share of the rows that is dropped."""
UNSEEN = {"insecure code (em_code)": of_file("em_code/insecure.jsonl.gz")}


class Draw:
    """One division of the good rows into a reference and what bad rows are mixed with."""

    def __init__(self, good: Rows, seed: int, scorer: RowScorer, folder: Path):
        self.rng, self.folder = np.random.default_rng(seed), folder
        reference, rest = np.split(self.rng.permutation(len(good)), [len(good) // 2])
        self.rest = [good[i] for i in rest]
        source_of([good[i] for i in reference], folder / "good.jsonl")
        settings = replace(scorer.settings, reference=str(folder / "good.jsonl"))
        own = read_reference(settings, scorer.encoder, scorer.scorer)
        self.scorer = RowScorer(scorer.encoder, scorer.scorer, settings, None, own)

    def said(self, bad: Rows, share: float) -> str:
        """The first advice about the rest and so many bad rows."""
        wanted = min(round(share / (1 - share) * len(self.rest)), len(bad))
        rows = self.rest + [bad[i] for i in self.rng.choice(len(bad), wanted, replace=False)]
        rows = [rows[i] for i in self.rng.permutation(len(rows))]
        source, scores = source_of(rows, self.folder / "mix.jsonl"), self.folder / "s.parquet"
        score_file(source, scores, self.scorer.settings, scorer=self.scorer, overwrite=True)
        result = filter_file(
            source, Scores.open(scores), self.folder / "out.jsonl", Selection(drop_frac=CUT),
            overwrite=True, report_rows=0,
        )  # fmt: skip
        return advice(result.report)[0].do


def tables(folder: Path, count: int) -> Iterator[str]:
    """The document's lines, as they are measured."""
    scorer = RowScorer.load(ScoreSettings(preset="minilm"))
    kinds = {kind: unlabelled(read(folder)) for kind, read in {**BAD, **UNSEEN}.items()}
    counts: dict[tuple[str, float], Counter[str]] = {("none", 0.0): Counter()}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(count):
            draw = Draw(GOOD(folder), seed, scorer, Path(scratch))
            counts["none", 0.0][draw.said([], 0)] += 1
            for (kind, bad), share in product(kinds.items(), SHARES):
                counts.setdefault((kind, share), Counter())[draw.said(bad, share)] += 1
            print(f"draw {seed + 1} of {count}", flush=True)
    scorer.close()
    yield intervals(count)
    yield ""
    advised = sorted({do for some in counts.values() for do in some})
    yield f"| bad rows | their share | {' | '.join(advised)} |"
    yield "| --- | --- |" + " --- |" * len(advised)
    for (kind, share), some in counts.items():
        yield f"| {kind} | {share:.0%} | {' | '.join(str(some[do]) for do in advised)} |"


def intervals(count: int) -> str:
    """How much so few files tell."""
    most, least = wilson(0, count)[1], wilson(count, count)[0]
    return (
        f"Counts are of {count} files; 95 % intervals (Wilson): {count} of {count} is at least "
        f"{least:.0%}, 0 of {count} at most {most:.0%}."
    )


def unlabelled(rows: Rows) -> Rows:
    """Without the column of labels, which is no column of training data."""
    return [{name: value for name, value in row.items() if name != "toxic"} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description="What a report advises, by the true share")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--write", type=Path, help="document whose table is replaced")
    args = parser.parse_args()
    lines = list(tables(args.folder, args.draws))
    print("\n".join(lines))
    if args.write:
        put_between(args.write, MARKER, "\n".join(lines))


if __name__ == "__main__":
    main()
