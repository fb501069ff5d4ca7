"""Score and filter many short rows, 1 % of them damaged: is memory flat, is every row accounted for?

    python benchmarks/soak.py [--rows 200000] [--damaged 0.01] [--write]

The real preset `minilm` on rows of a few words, so that rows and not tokens are many. Memory is the
process's resident set, sampled four times a second. `--write` keeps the result in `soak.md`.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from damage import SCORED, SET_ASIDE, lines  # noqa: E402

from saefilter.artifacts.scores import Scores  # noqa: E402
from saefilter.filtering.filter import filter_file  # noqa: E402
from saefilter.rows.read import Source  # noqa: E402
from saefilter.scoring.score import Watch, score_file  # noqa: E402
from saefilter.scoring.scorer import RowScorer  # noqa: E402
from saefilter.select.strategies import Selection  # noqa: E402
from saefilter.settings import ScoreSettings  # noqa: E402

WORDS = 3
DROP = 0.1


@dataclass
class Memory:
    """Resident memory of one phase, MiB, with seconds since it began."""

    seconds: list[float] = field(default_factory=list)
    size: list[float] = field(default_factory=list)

    def at(self, share: float) -> float:
        """After a share of the phase's time."""
        return self.size[round(share * (len(self.size) - 1))]


@contextmanager
def watched() -> Iterator[Memory]:
    """Sample this process's memory in the meantime."""
    memory, process, done = Memory(), psutil.Process(), threading.Event()
    started = time.perf_counter()

    def sample() -> None:
        while True:
            memory.seconds.append(time.perf_counter() - started)
            memory.size.append(process.memory_info().rss / (1 << 20))
            if done.wait(0.25):
                return

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield memory
    finally:
        done.set()
        thread.join()
        memory.seconds.append(time.perf_counter() - started)
        memory.size.append(process.memory_info().rss / (1 << 20))


def write_rows(
    path: Path, rows: int, damaged: float, canary: Path
) -> tuple[list[str], Counter[str]]:
    """The dataset; what is expected of each of its rows, and how many of each kind there are."""
    expected: list[str] = []
    kinds: Counter[str] = Counter()
    with open(path, "wb") as file:
        for line in lines(rows, share=damaged, canary=str(canary), words=WORDS):
            file.write(line.raw + b"\n")
            expected.append(line.expected)
            kinds[line.kind] += 1
    return expected, kinds


def check(folder: Path, expected: list[str]) -> dict[str, int]:
    """Counts of the outputs. Raises AssertionError when a row is lost, doubled or misplaced."""
    kept = pq.read_table(folder / "out.parquet").num_rows
    dropped = pq.read_table(folder / "out.dropped.parquet")["saefilter_row_id"].to_pylist()
    aside = pq.read_table(folder / "out.quarantined.parquet")["saefilter_row_id"].to_pylist()
    assert kept + len(dropped) + len(aside) == len(expected), "rows are lost"
    assert len({*dropped, *aside}) == len(dropped) + len(aside), "a row is in two places"
    status = pq.read_table(folder / "s.parquet", columns=["status"])["status"].to_pylist()
    assert len(status) == len(expected)
    for row_id, (wanted, got) in enumerate(zip(expected, status, strict=True)):
        assert wanted not in (SCORED, SET_ASIDE) or wanted == got, f"row {row_id}: {got}"
    quarantined = set(aside)
    assert all(i in quarantined for i, one in enumerate(status) if one != SCORED)
    return {"kept": kept, "dropped": len(dropped), "quarantined": len(aside)}


def soak(rows: int, damaged: float, say: Callable[[str], None]) -> list[str]:
    """Run it; returns the lines of the result in Markdown."""
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        canary = folder / "canary"
        expected, kinds = write_rows(folder / "data.jsonl", rows, damaged, canary)
        size = (folder / "data.jsonl").stat().st_size / (1 << 20)
        say(f"{rows:,} rows, {size:.1f} MiB, {len(kinds) - 1} kinds of damage")
        settings = ScoreSettings("minilm", device="cpu")
        scorer = RowScorer.load(settings)
        source = Source.open(folder / "data.jsonl")
        done = 0

        def advance(n_rows: int, _tokens: int) -> None:
            nonlocal done
            done += n_rows
            if n_rows:
                say(f"{done:,} rows scored")

        with watched() as scoring:
            score_file(
                source,
                folder / "s.parquet",
                settings,
                scorer=scorer,
                watch=Watch(advance=advance),
            )
        with watched() as filtering:
            scores = Scores.open(folder / "s.parquet")
            filter_file(source, scores, folder / "out.parquet", Selection(drop_frac=DROP))
        counts = check(folder, expected)
        assert not canary.exists(), "something in a row was executed"
    made = scores.provenance
    # what is set up once, and batches of every length, are behind; joining the shards is yet to come
    growth = (scoring.at(0.9) - scoring.at(0.4)) / (rows / 2) * 10_000
    return [
        f"{rows:,} rows ({size:.1f} MiB of JSONL), {sum(kinds.values()) - kinds['fine']:,} of them "
        f"damaged in {len(kinds) - 1} ways, preset `minilm`, {platform.machine()}, "
        f"{psutil.cpu_count()} CPU cores shared with other work, Python {platform.python_version()}.",
        "",
        "| phase | time | RSS at the start | 25 % | 50 % | 75 % | end | peak |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {phase} | {memory.seconds[-1]:.0f} s | "
            + " | ".join(f"{memory.at(share):.0f} MiB" for share in (0, 0.25, 0.5, 0.75, 1))
            + f" | {max(memory.size):.0f} MiB |"
            for phase, memory in (("score", scoring), ("filter", filtering))
        ),
        "",
        f"Growth from 40 % to 90 % of scoring: {growth:+.1f} MiB per 10,000 rows. "
        f"{made.tokens:,} tokens, {made.tokens_per_second():,.0f} tokens/s.",
        "",
        f"{counts['kept']:,} kept + {counts['dropped']:,} dropped + {counts['quarantined']:,} "
        f"quarantined = {rows:,} rows in. Every row whose damage is certain was quarantined, every "
        "sound or merely odd one scored; no text in a row was executed.",
    ]


def main() -> None:
    """Print the result, and keep it if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--damaged", type=float, default=0.01)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    result = soak(asked.rows, asked.damaged, lambda text: print(text, file=sys.stderr))
    print("\n".join(result))
    if asked.write:
        text = "# Soak\n\n`soak.py`: short rows in numbers, some of them damaged.\n\n"
        (Path(__file__).with_name("soak.md")).write_text(text + "\n".join(result) + "\n")


if __name__ == "__main__":
    main()
