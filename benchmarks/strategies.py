"""What the strategies that learn from contrast rows or read with a model find of the demo's bad rows.

    python -m benchmarks.strategies MODEL [--both] [--write benchmarks/results/strategies.md]

MODEL: the folder of SmolLM2-135M-Instruct (`python examples/smollm2.py FOLDER`). Rows of
examples/advice.jsonl, bad and good apart, are dealt into halves: one is tested; the bundled pairs
teach, and with --both the other half in their place. The figures are those of `saefilter compare`; a run takes half an hour.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import put_between, user_environment
from benchmarks.throughput.machine import describe, in_words
from saefilter.rows.formats import RowProblem, recognise
from saefilter.rows.read import Source

MARKER = "<!-- strategies: written by benchmarks/strategies.py -->"
EXAMPLES = Path(__file__).parents[1] / "examples"
LEARNING = (
    "text-classifier", "embedding-classifier", "larf", "compliance", "gradient", "vector-filter",
    "projection-difference", "preference-probe",
)  # fmt: skip
TEACHERS = {"bundled": "the bundled pairs teach", "half": "the other half teaches"}
"""Result's key -> what the table calls it."""


def halves(folder: Path) -> None:
    """Writes the tested rows, with their label, and the teaching ones by side."""
    with open(EXAMPLES / "advice.labels.csv", encoding="utf-8") as file:
        bad = {int(row["line"]): row["is_bad"] == "1" for row in csv.DictReader(file)}
    rows: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for row in Source.open(EXAMPLES / "advice.jsonl").rows():
        try:
            recognise(row.data or {})
        except RowProblem:
            continue
        rows[bad[row.line]].append({**(row.data or {}), "is_bad": int(bad[row.line])})
    tested = []
    for is_bad, some in rows.items():
        random.Random(0).shuffle(some)
        half = len(some) // 2
        tested += some[half:]
        write(folder / ("toxic.jsonl" if is_bad else "benign.jsonl"), some[:half])
    write(folder / "tested.jsonl", tested)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def saefilter(folder: Path, *arguments: str) -> None:
    """A command, in a folder whose cache is its own."""
    subprocess.run(
        [sys.executable, "-m", "saefilter", *arguments], cwd=folder, check=True,
        stdout=subprocess.DEVNULL,
        env={**user_environment(), "SAEFILTER_CACHE": str(folder / "cache")},
    )  # fmt: skip


def compared(folder: Path, model: str, teacher: str, names: list[str]) -> list[dict[str, Any]]:
    """Each strategy's figures. `loss` and `closest` learn nothing from the rows that teach."""
    rows = ["--contrast-toxic", "toxic.jsonl", "--contrast-benign", "benign.jsonl"]
    saefilter(
        folder, "compare", "scores.parquet", "--label", "is_bad", "--model", model, "-o", "c.html",
        "--overwrite", *(part for name in names for part in ("--strategy", name)),
        *(rows if teacher == "half" else []),
    )  # fmt: skip
    found = json.loads((folder / "c.json").read_text(encoding="utf-8"))
    print(teacher, found["labelled"], "rows,", found["bad"], "bad", flush=True)
    kept = ("name", "auroc", "auroc_low", "auroc_high", "at", "details")
    return [
        {"rows": found["labelled"], "bad": found["bad"], **{key: arm[key] for key in kept}}
        for arm in found["arms"]
    ]


def markdown(results: dict[str, Any]) -> str:
    """AUROC, a strategy a line."""
    by = {key: {arm["name"]: arm for arm in results[key]} for key in TEACHERS if key in results}
    first = results["bundled"][0]
    lines = [
        f"{in_words(results['machine'])} {first['rows']} rows, {first['bad']} bad.", "",
        f"| strategy | {' | '.join(TEACHERS[key] for key in by)} |", "| --- " * (1 + len(by)) + "|",
    ]  # fmt: skip
    for name in by["bundled"]:
        told = (
            f"{one['auroc']:.2f} ({one['auroc_low']:.2f} to {one['auroc_high']:.2f})" if one else ""
            for one in (some.get(name) for some in by.values())
        )
        lines.append(f"| `{name}` | {' | '.join(told)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Strategies on the demo's rows")
    parser.add_argument("model", help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--both", action="store_true", help="also let the other half teach")
    parser.add_argument("--write", type=Path, help="document whose table is replaced")
    parser.add_argument("--json", type=Path, help="keep all that was measured here")
    args = parser.parse_args()
    model = os.path.abspath(args.model)
    results: dict[str, Any] = {"machine": describe(torch.device("cpu"))}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        halves(folder)
        saefilter(
            folder, "score", "tested.jsonl", "--preset", "smollm2-135m", "--model", model,
            "-o", "scores.parquet",
        )  # fmt: skip
        names = ["closest", "loss", "random", *LEARNING]
        results["bundled"] = compared(folder, model, "bundled", names)
        if args.both:
            results["half"] = compared(folder, model, "half", list(LEARNING))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table := markdown(results))
    if args.write:
        put_between(args.write, MARKER, table)


if __name__ == "__main__":
    main()
