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

MARKER = "<!-- table: written by benchmarks/advice.py -->"
SHARES = (0.0, 0.05, 0.1, 0.2, 0.5)
CUT = 0.1
"""Share of the rows that is dropped."""
UNSEEN = {"insecure code (em_code)": of_file("em_code/insecure.jsonl.gz")}


def said(good: Rows, bad: Rows, share: float, count: int, scorer: RowScorer,
         folder: Path) -> Iterator[str]:  # fmt: skip
    """The first advice of each draw."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        reference, rest = np.split(rng.permutation(len(good)), [len(good) // 2])
        wanted = round(share / (1 - share) * len(rest))
        chosen = rng.choice(len(bad), min(wanted, len(bad)), replace=False)
        rows = [good[i] for i in rest] + [bad[i] for i in chosen]
        source = source_of([rows[i] for i in rng.permutation(len(rows))], folder / "mix.jsonl")
        source_of([good[i] for i in reference], folder / "good.jsonl")
        settings = replace(scorer.settings, reference=str(folder / "good.jsonl"))
        own = RowScorer(
            scorer.encoder, scorer.scorer, settings, None,
            read_reference(settings, scorer.encoder, scorer.scorer),
        )  # fmt: skip
        score_file(source, folder / "s.parquet", settings, scorer=own, overwrite=True)
        result = filter_file(
            source, Scores.open(folder / "s.parquet"), folder / "out.jsonl",
            Selection(drop_frac=CUT), overwrite=True,
        )  # fmt: skip
        yield advice(result.report)[0].do


def tables(folder: Path, count: int) -> Iterator[str]:
    """The document's lines, as they are measured."""
    scorer = RowScorer.load(ScoreSettings(preset="minilm"))
    counts: dict[tuple[str, float], Counter[str]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        good = GOOD(folder)
        for kind, read in {**BAD, **UNSEEN}.items():
            bad = [
                {name: value for name, value in row.items() if name != "toxic"}
                for row in read(folder)
            ]
            for share in SHARES:
                name = kind if share else "none"
                if (name, share) not in counts:
                    told = said(good, bad, share, count, scorer, Path(scratch))
                    counts[name, share] = Counter(told)
                    print(name, share, dict(counts[name, share]), flush=True)
    scorer.close()
    advised = sorted({do for some in counts.values() for do in some})
    yield f"| bad rows | their share | {' | '.join(advised)} |"
    yield "| --- | --- |" + " --- |" * len(advised)
    for (kind, share), some in counts.items():
        yield f"| {kind} | {share:.0%} | {' | '.join(str(some[do]) for do in advised)} |"


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
