"""What the demo finds with each preset that ships a set.

    python -m benchmarks.demo [--model FOLDER] [--write benchmarks/results/demo.md]

Runs examples/demo.py and reads its files back. FOLDER: SmolLM2-135M-Instruct (`python examples/smollm2.py
FOLDER`); without it `minilm` alone. Seconds are of one run, commands and all.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import put_between, user_environment
from saefilter.artifacts.scores import Scores
from saefilter.stats.auroc import wilson

MARKER = "<!-- demo: written by benchmarks/demo.py -->"
EXAMPLES = Path(__file__).parents[1] / "examples"


def line(preset: str, *options: str) -> str:
    """A line of the table."""
    with open(EXAMPLES / "advice.labels.csv", encoding="utf-8") as file:
        bad = {int(row["line"]): row["is_bad"] == "1" for row in csv.DictReader(file)}
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, EXAMPLES / "demo.py", "--preset", preset, *options],
            cwd=folder, env=user_environment(), check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        seconds = time.perf_counter() - began
        out = Path(folder) / "demo-output"
        scores = Scores.open(out / "advice.scores.parquet")
        table = scores.read(["line", "status"]).to_pylist()
        dropped = (out / "advice.filtered.dropped.jsonl").read_text(encoding="utf-8").splitlines()
        own = scores.own_share()
    scored = [row["line"] for row in table if row["status"] == "scored"]
    found = sum(bad[json.loads(text)["saefilter_line"]] for text in dropped)
    low, high = wilson(found, len(dropped))
    chance = sum(bad[one] for one in scored) / len(scored) * len(dropped)
    return (
        f"| `{preset}` | {len(scored)} | {len(dropped)} | {found} "
        f"| {found / len(dropped):.0%} ({low:.0%} to {high:.0%}) | {chance:.0f} | {own:.1%} "
        f"| {seconds:.0f} |"
    ).replace("%", " %")


def main() -> None:
    parser = argparse.ArgumentParser(description="What the demo finds")
    parser.add_argument("--model", help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--write", type=Path, help="document whose table is replaced")
    args = parser.parse_args()
    lines = [
        "| preset | scored | dropped | of them bad | share (95 %, Wilson) | bad by chance | of the scores, from the set's own features | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        line("minilm"),
    ]
    if args.model:
        lines.append(line("smollm2-135m", "--model", os.path.abspath(args.model)))
    print(table := "\n".join(lines))
    if args.write:
        put_between(args.write, MARKER, table)


if __name__ == "__main__":
    main()
