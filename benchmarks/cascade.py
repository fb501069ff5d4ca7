"""What a cascade misses, what it reads, and what it saves, on real rows.

    python -m benchmarks.cascade --model FOLDER [--data FILE.gz ...] [--rows 8000] [--readers minilm layer:5]
        [--kept FILE.npz] [--repetitions 100] [--runs 5] [--timed-rows 3000] [--write benchmarks/README.md]

All rows are read once by the model and once by each cheap reader. Then the search is run `--repetitions`
times, each on its own random four fifths of the rows and with its own seed, and is told the distances
that it asks for: what it missed is known, because all are. The control deals the cheap reader's vectors out anew
among the rows. Last, `saefilter score` with and without the cascade, in turn, timed from outside.
`FOLDER` holds SmolLM2-135M-Instruct, as examples/smollm2.py makes it; `--kept` keeps what was read.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.common import put_between, user_environment
from benchmarks.throughput.machine import describe, in_words
from saefilter.rows.inputs import open_input
from saefilter.scoring.cascade.readers import View, load_reader
from saefilter.scoring.cascade.search import Outcome, search
from saefilter.scoring.scorer import RowScorer
from saefilter.settings import ScoreSettings
from saefilter.stats.audit import Goal
from saefilter.stats.auroc import wilson

RESULTS = Path("benchmarks/results/cascade.json")
MARKER = "<!-- cascade: written by python -m benchmarks.cascade -->"
FILES = (
    "em_finance/risky", "em_answers", "hh_harmless", "em_code/insecure", "em_code/secure",
    "em_code/educational_insecure", "em_reward_hacking/hacks", "hatecheck",
)  # fmt: skip
DATA = [
    *(Path(f"data/{name}.jsonl.gz") for name in FILES),
    Path("data/formats/alpaca_en_demo.json"),
]
SAID = ("messages", "text", "instruction", "input", "output")
"""Columns that are read; others say how a row was labelled."""
PRESET, PIECE = "smollm2-135m", 256
NEAREST, RECALL, PART = 0.1, 0.95, 0.8


def draw(files: list[Path], count: int, seed: int) -> list[dict[str, Any]]:
    """So many rows of all files, shuffled, without what labels them."""
    rows = [row for file in files for row in rows_of(file)]
    return random.Random(seed).sample(rows, min(count, len(rows)))


def rows_of(file: Path) -> list[dict[str, Any]]:
    """Of a JSON file, or of gzipped JSONL."""
    if file.suffix == ".json":
        found = json.loads(file.read_text(encoding="utf-8"))
    else:
        found = map(json.loads, gzip.decompress(file.read_bytes()).splitlines())
    return [{name: row[name] for name in SAID if name in row} for row in found]


def read_all(settings: ScoreSettings, names: list[str], data: Path) -> dict[str, NDArray[Any]]:
    """What the model and every cheap reader say of each row that can be scored."""
    scorer = RowScorer.load(settings)
    readers = {
        name: load_reader(ScoreSettings(**{**vars(settings), "cascade": name}), scorer)
        for name in names
    }
    parts: dict[str, list[NDArray[Any]]] = {}
    rows = list(open_input(str(data)).rows())
    for first in range(0, len(rows), PIECE):
        piece = rows[first : first + PIECE]
        prepared = scorer.preparer.prepare(piece)
        encoded = scorer.encoder.encode(prepared.windows, prepared.texts, pool=settings.pool)
        good = encoded.n_tokens > 0
        distance = 1 - scorer.scorer.score(encoded.features, encoded.residual).proximity
        tokens = np.array([0 if text is None else text.n_tokens for text in prepared.rendered])
        found = {"distance": distance[good], "tokens": tokens[good]}
        for name, reader in readers.items():
            view: View = reader.read(piece, prepared, lambda done: None)
            found[name], found[f"{name} known"] = view.vectors[good], view.known[good]
        for key, values in found.items():
            parts.setdefault(key, []).append(values)
        print(f"{first + len(piece):,} of {len(rows):,} rows", file=sys.stderr, flush=True)
    scorer.close()
    return {key: np.concatenate(values) for key, values in parts.items()}


@dataclass(frozen=True)
class Held:
    """A cheap reader's view, in memory."""

    every: NDArray[np.float32]
    known: NDArray[np.bool_]

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.every[rows]

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        yield self.every


def hunt(held: Held, distance: NDArray[np.float64], goal: Goal, seed: int) -> Outcome:
    """The search, told the distances that it asks for."""
    steps = search(held, goal, seed=seed)
    try:
        ask = next(steps)
        while True:
            ask = steps.send(distance[ask.rows])
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome


def simulated(
    kept: dict[str, NDArray[Any]], name: str, repetitions: int, *, shuffled: bool = False
) -> dict[str, Any]:
    """What a reader comes to over many searches."""
    distance, tokens = kept["distance"], kept["tokens"]
    vectors = kept[name].astype(np.float32)
    recalls, reads, spared, rhos = [], [], [], []
    for seed in range(repetitions):
        draws = np.random.default_rng([7, seed])
        part = np.sort(draws.permutation(len(distance))[: round(PART * len(distance))])
        seen = part[draws.permutation(len(part))] if shuffled else part
        goal = Goal(max(1, round(NEAREST * len(part))), RECALL)
        held = Held(vectors[seen], kept[f"{name} known"][seen])
        outcome = hunt(held, distance[part], goal, seed)
        nearest = np.argsort(distance[part], kind="stable")[: goal.count]
        recalls.append(float(outcome.read[nearest].mean()))
        reads.append(float(outcome.read.mean()))
        spared.append(float(tokens[part][~outcome.read].sum() / tokens[part].sum()))
        rhos.append(outcome.correlation)
    kept_promise = sum(recall >= RECALL for recall in recalls)
    return {
        "reader": name, "shuffled": shuffled, "rows": round(PART * len(distance)),
        "repetitions": repetitions, "held": kept_promise, "held_interval": wilson(kept_promise, repetitions),
        "recall": statistics.mean(recalls), "least_recall": min(recalls),
        "read": statistics.mean(reads), "most_read": max(reads),
        "tokens_spared": statistics.mean(spared), "correlation": statistics.mean(rhos),
        # its own proximity stands last in a preset's vector
        "score_correlation": None if ":" in name or shuffled
        else float(spearmanr(-vectors[:, -1], distance).statistic),
    }  # fmt: skip


def timed(folder: Path, model: Path, cascade: list[str]) -> tuple[float, float, dict[str, Any]]:
    """Seconds of a `saefilter score` by the clock and of all cores, and its summary."""
    command = [
        sys.executable, "-m", "saefilter", "score", "rows.jsonl", "-o", "s.parquet", "--overwrite",
        "--preset", PRESET, "--model", str(model), "--json", *cascade,
    ]  # fmt: skip
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, cwd=folder, env=user_environment(), capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return seconds, processor, json.loads(done.stdout)


def timings(
    files: list[Path], model: Path, readers: list[str], rows: int, runs: int
) -> list[dict[str, Any]]:
    """Seconds and tokens with each reader and without any, in turn."""
    ways = {"all rows": [], **{name: ["--cascade", name] for name in readers}}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    said: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="cascade-") as name:
        folder = Path(name)
        lines = map(json.dumps, draw(files, rows, seed=1))
        (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
        for run in range(runs):
            for way, options in ways.items():
                spent, of_cores, said[way] = timed(folder, model, options)
                seconds[way].append(spent)
                processor[way].append(of_cores)
                print(f"round {run + 1}: {way} {spent:.1f} s", file=sys.stderr, flush=True)
    whole = said["all rows"]
    return [
        {
            "way": way, "rows": whole["rows"], "runs": runs, "seconds": statistics.median(seconds[way]),
            "ratio": _ratio(seconds[way], seconds["all rows"]),
            "processor_ratio": _ratio(processor[way], processor["all rows"]),
            "read": made["scored"] / whole["scored"], "tokens": made["tokens"] / whole["tokens"],
            "cheap_tokens": (made["cascade"] or {}).get("cheap_tokens"),
            "load": os.getloadavg()[0],
        }
        for way, made in said.items()
    ]  # fmt: skip


def _ratio(some: list[float], others: list[float]) -> float:
    """Median of the ratios within rounds."""
    return statistics.median(one / other for one, other in zip(some, others, strict=True))


def table(results: dict[str, Any]) -> str:
    """For a document."""
    lines = [
        f"{results['machine']}", "",
        "| cheap reader | its score with the model's | guess with the model's | rows | read | tokens spared | "
        "recall: mean, least | at least 0.95 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for one in results.get("simulated", []):
        low, high = one["held_interval"]
        own = one["score_correlation"]
        lines.append(
            f"| `{one['reader']}`{', vectors dealt out anew' if one['shuffled'] else ''} | "
            f"{'' if own is None else f'{own:.2f}'} | {one['correlation']:.2f} | {one['rows']:,} | {one['read']:.1%} | "
            f"{one['tokens_spared']:.1%} | {one['recall']:.3f}, {one['least_recall']:.3f} | "
            f"{one['held']} of {one['repetitions']} ({low:.2f} to {high:.2f}) |"
        )
    if results.get("timed"):
        lines += [
            "", "| `score` | rows read | tokens read to the hook | seconds | of all rows' | processor time, of all rows' |",
            "| --- | --- | --- | --- | --- | --- |",
            *(
                f"| {'' if one['way'] == 'all rows' else '`--cascade '}{one['way']}"
                f"{'' if one['way'] == 'all rows' else '`'} | {one['read']:.1%} | {one['tokens']:.1%} | "
                f"{one['seconds']:.1f} | {one['ratio']:.2f} | {one['processor_ratio']:.2f} |"
                for one in results["timed"]
            ),
            "", f"{results['timed'][0]['rows']:,} rows, "
            + (f"medians of {n} in turn" if (n := results["timed"][0]["runs"]) > 1 else "one round")
            + "; load before "
            f"the end {results['timed'][0]['load']:.1f}.",
        ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="*", default=DATA)
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--readers", nargs="*", default=["minilm", "layer:5"])
    parser.add_argument("--kept", type=Path)
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--timed-rows", type=int, default=3000)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    results = json.loads(asked.json.read_text()) if asked.json.exists() else {}
    results["machine"] = in_words(describe(torch.device("cpu")))
    if asked.repetitions:
        if asked.kept and asked.kept.exists():
            kept = dict(np.load(asked.kept))
        else:
            with tempfile.TemporaryDirectory(prefix="cascade-") as name:
                data = Path(name) / "rows.jsonl"
                lines = map(json.dumps, draw(asked.data, asked.rows, seed=0))
                data.write_text("\n".join(lines) + "\n")
                settings = ScoreSettings(preset=PRESET, model=str(asked.model))
                kept = read_all(settings, asked.readers, data)
            if asked.kept:
                np.savez(asked.kept, **kept)
        results["simulated"] = [
            simulated(kept, name, asked.repetitions, shuffled=shuffled)
            for shuffled in (False, True)
            for name in asked.readers[: 1 if shuffled else None]
        ]
    if asked.runs:
        results["timed"] = timings(
            asked.data, asked.model, asked.readers, asked.timed_rows, asked.runs
        )
    asked.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))
    if asked.write:
        put_between(asked.write, MARKER, table(results))


if __name__ == "__main__":
    main()
