"""What it costs to read less: rows that repeat, rows that nearly do, and a sample of a long text's tokens.

    python -m benchmarks.reading --data FILE.jsonl ... [--preset minilm] [--model FOLDER] [--rows 3000]
                                 [--repeats FILE.jsonl ...] [--write benchmarks/README.md]

Three questions, the first of the files after `--repeats`, the others of as many rows of each file after `--data`:

repeats   which share of the tokens is of rows that another one equals (or nearly), in the whole file and
          within shards of 1,024 rows, which is where they are looked for. Reads no model.
sample    Spearman of distances and recall of the nearest tenth, `--max-scored-tokens N` against all tokens;
          how far distances move; processor time of encoding, in turn with reading all.
near      the same for rows whose answers were changed as little as `--near-duplicates` ignores.

Intervals (95 %) are over rows, by 1,000 bootstrap resamples. Results of presets measured before stay in
results/reading.json.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks.common import put_between
from benchmarks.throughput.machine import describe, in_words
from saefilter.encode.sample import by_text
from saefilter.errors import SaefilterError
from saefilter.rows.formats import ASSISTANT, RowProblem, recognise
from saefilter.rows.inputs import open_input
from saefilter.rows.row import Row
from saefilter.scoring.once import plan, read_once
from saefilter.scoring.prepare import Prepared
from saefilter.scoring.scorer import RowScorer
from saefilter.settings import ScoreSettings

SIZES = (32, 64, 128, 256)
SHARD = ScoreSettings.shard_rows
NEAREST = 0.1
TIMED_ROWS = 300
FEWEST = 20
"""Rows that an interval is given for."""
RESAMPLES = 1000
RESULTS = Path(__file__).parent / "results" / "reading.json"
MARKER = "<!-- reading: written by python -m benchmarks.reading -->"

CHANGES: dict[str, Callable[[str], str]] = {
    "white space doubled": lambda text: text.replace(" ", "  "),
    "all small letters": str.lower,
    "all capitals": str.upper,
    "punctuation left out": lambda text: re.sub(r"[^\w\s]", " ", text),
    "other numbers": lambda text: re.sub(r"\d", lambda digit: str((int(digit[0]) + 3) % 10), text),
}
"""Of an answer, to what `--near-duplicates` takes for the same."""


def conversations(files: Sequence[Path], count: int) -> list[list[dict[str, str]]]:
    """Plain conversations, an even sample of each file; rows of preference data are left out."""
    found = []
    for file in files:
        own = []
        for row in open_input(str(file)).rows():
            try:
                messages = recognise(row.data or {})
            except RowProblem:
                continue
            if messages and messages[-1].role == ASSISTANT:
                own.append([{"role": one.role, "content": one.content} for one in messages])
        size = min(len(own), -(-count // len(files)))
        found += [own[i * len(own) // size] for i in range(size)]
    return found


def prepared(scorer: RowScorer, rows: Sequence[list[dict[str, str]]]) -> Prepared:
    return scorer.preparer.prepare([Row(i, i + 1, {"messages": row}) for i, row in enumerate(rows)])


def repeats(scorer: RowScorer, file: Path) -> dict[str, Any] | None:
    """Shares of a file's tokens; None for one without conversations."""
    rows = conversations([file], 1 << 40)
    if not rows:
        return None
    shares = {}
    for name, size, near in (
        ("equal in the file", len(rows), False), ("equal in a shard", SHARD, False),
        ("nearly equal in the file", len(rows), True), ("nearly equal in a shard", SHARD, True),
    ):  # fmt: skip
        read = tokens = 0
        for start in range(0, len(rows), size):
            some = prepared(scorer, rows[start : start + size])
            texts = by_text(some.windows, some.texts)
            lengths = np.array([sum(len(window.ids) for window in own) for own in texts])
            tokens += int(lengths.sum())
            read += int(lengths[plan(some, texts, near=near).is_read].sum())
        shares[name] = 1 - read / tokens
    return {"file": "/".join(file.parts[-2:]), "rows": len(rows), "tokens": tokens, **shares}


def spearman(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def recall(full: NDArray[Any], some: NDArray[Any]) -> float:
    """Share of the nearest rows by `full` that are among as many nearest by `some`."""
    count = max(1, round(NEAREST * len(full)))
    nearest = [set(np.argsort(each, kind="stable")[:count].tolist()) for each in (full, some)]
    return len(nearest[0] & nearest[1]) / count


def loss(full: NDArray[Any], some: NDArray[Any]) -> dict[str, Any]:
    """What a ranking lost, each figure with its interval over rows."""
    random = np.random.default_rng(0)
    drawn = [random.integers(0, len(full), len(full)) for _ in range(RESAMPLES)]
    found: dict[str, Any] = {}
    for name, figure in (("spearman", spearman), ("recall", recall)):
        values = [figure(full[rows], some[rows]) for rows in drawn]
        found[name] = [figure(full, some), *np.quantile(values, [0.025, 0.975]).tolist()]
    moved = (some - full) / full.std()
    found["mean_move"] = [
        float(moved.mean()), *(moved.mean() + np.array([-1.96, 1.96]) * moved.std() / len(full) ** 0.5)
    ]  # fmt: skip
    found["typical_move"] = float(np.sqrt(np.mean(moved**2)))
    return found


def distances(scorer: RowScorer, rows: Prepared, settings: ScoreSettings) -> tuple[Any, ...]:
    """Distances, processor seconds of encoding, and its tally."""
    started = time.process_time()
    encoded, _ = read_once(scorer.encoder, rows, settings, scorer.encoding)
    spent = time.process_time() - started
    result = scorer.scorer.score(encoded.features, encoded.residual)
    return 1 - result.proximity, spent, encoded.tally


def sampling(scorer: RowScorer, rows: Prepared) -> list[dict[str, Any]]:
    """One entry for each of SIZES."""
    lengths = np.array([text.n_scored if text else 0 for text in rows.rendered])
    full, _, everything = distances(scorer, rows, scorer.settings)
    entries = []
    for size in SIZES:
        some = replace(scorer.settings, max_scored_tokens=size)
        distance, _, tally = distances(scorer, rows, some)
        long = lengths > size
        entries.append({
            "size": size, "rows": len(rows), "longer": float(long.mean()),
            "left_out": tally.left_out / everything.scored,
            "unread": 1 - tally.tokens / everything.tokens,
            "of_all": loss(full, distance),
            "of_longer": loss(full[long], distance[long]) if long.sum() >= FEWEST else None,
        })  # fmt: skip
    return entries


def processor_times(scorer: RowScorer, rows: Prepared, runs: int) -> dict[int, float]:
    """Processor seconds of encoding with each of SIZES, of those without a limit: median of the rounds."""
    ratios: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(runs):
        _, whole, _ = distances(scorer, rows, scorer.settings)
        for size in SIZES:
            some = replace(scorer.settings, max_scored_tokens=size)
            ratios[size].append(distances(scorer, rows, some)[1] / whole)
    return {size: statistics.median(own) for size, own in ratios.items()}


def nearly(scorer: RowScorer, rows: Sequence[list[dict[str, str]]]) -> list[dict[str, Any]]:
    """One entry for each of CHANGES, of the rows that it changes and that the normal form equates."""
    before = prepared(scorer, rows)
    full, _, _ = distances(scorer, before, scorer.settings)
    entries = []
    for name, change in CHANGES.items():
        changed = [[*row[:-1], row[-1] | {"content": change(row[-1]["content"])}] for row in rows]
        together = prepared(scorer, [*rows, *changed])
        texts = by_text(together.windows, together.texts)
        taken = plan(together, texts, near=True).read_as[len(rows) :]
        own = np.array([read_as is not None for read_as in taken])
        after, _, _ = distances(scorer, prepared(scorer, changed), scorer.settings)
        if own.sum() >= FEWEST:
            measured = loss(full[own], after[own])
            entries.append({"change": name, "rows": int(own.sum()), **measured})
    return entries


def _interval(values: Sequence[float], digits: int = 3) -> str:
    middle, low, high = (f"{value:.{digits}f}" for value in values)
    return f"{middle} ({low} to {high})"


def tables(results: dict[str, Any]) -> str:
    """All results as Markdown."""
    lines = [
        "| file | rows | tokens | equal: in the file | in shards | nearly equal: in the file | in shards |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in results["repeats"]:
        shares = (one[f"{kind} in {where}"] for kind in ("equal", "nearly equal")
                  for where in ("the file", "a shard"))  # fmt: skip
        cells = " | ".join(f"{share:.2%}" for share in shares)
        lines.append(f"| {one['file']} | {one['rows']:,} | {one['tokens']:,} | {cells} |")
    for name, preset in results["presets"].items():
        lines += [
            "", f"#### `{name}`", "", preset["machine"], "",
            "| N | rows, longer than N | scored tokens left out | tokens not read | processor time "
            "| Spearman | recall of the nearest tenth | distances move by | on average by |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]  # fmt: skip
        for one in preset["sample"]:
            for kind in ("of_all", "of_longer"):
                if (lost := one[kind]) is not None:
                    rows = (
                        f"{one['rows']:,}, {one['longer']:.0%}"
                        if kind == "of_all"
                        else "of the longer"
                    )
                    cost = [
                        f"{one['left_out']:.0%}",
                        f"{one['unread']:.1%}",
                        f"{one['processor']:.2f}",
                    ]
                    cells = " | ".join(cost if kind == "of_all" else [""] * 3)
                    lines.append(
                        f"| {one['size']} | {rows} | {cells} | {_interval(lost['spearman'])} "
                        f"| {_interval(lost['recall'])} | {lost['typical_move']:.2f} "
                        f"| {_interval(lost['mean_move'])} |"
                    )
        lines += [
            "", "| change of the answer | rows | Spearman | recall of the nearest tenth "
            "| distances move by | on average by |", "| --- | --- | --- | --- | --- | --- |",
        ]  # fmt: skip
        lines += [
            f"| {one['change']} | {one['rows']:,} | {_interval(one['spearman'])} "
            f"| {_interval(one['recall'])} | {one['typical_move']:.2f} | {_interval(one['mean_move'])} |"
            for one in preset["near"]
        ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reading", description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--preset", default="minilm")
    parser.add_argument("--model", help="folder of the preset's model")
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--repeats", type=Path, nargs="*", default=[], metavar="FILE")
    parser.add_argument("--write", type=Path, metavar="FILE")
    asked = parser.parse_args()
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"repeats": [], "presets": {}}
    settings = ScoreSettings(asked.preset, model=asked.model, device="cpu", dtype="fp32")
    try:
        scorer = RowScorer.load(settings)
    except SaefilterError as error:
        raise SystemExit(str(error)) from error
    if asked.repeats:
        kept["repeats"] = [one for file in asked.repeats if (one := repeats(scorer, file))]
    rows = conversations(asked.data, asked.rows)
    every = -(-len(rows) // TIMED_ROWS)
    sample = sampling(scorer, prepared(scorer, rows))
    times = processor_times(scorer, prepared(scorer, rows[::every]), asked.runs)
    kept["presets"][asked.preset] = {
        "machine": in_words(describe(scorer.encoder.device)),
        "sample": [one | {"processor": times[one["size"]]} for one in sample],
        "near": nearly(scorer, rows),
    }
    scorer.close()
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    print(tables(kept))
    if asked.write is not None:
        put_between(asked.write, MARKER, tables(kept))


if __name__ == "__main__":
    main()
