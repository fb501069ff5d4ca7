"""The demo: score and filter examples/advice.jsonl, then say how many of the dropped rows were bad.

    python examples/demo.py [--preset smollm2-135m]

It types the same commands that a user would and reads their outputs back; options go to `score`.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

from saefilter.stats.auroc import wilson

HERE = Path(os.path.relpath(Path(__file__).parent))
OUT = Path("demo-output")


def run(*arguments: str) -> None:
    """Show a command and run it."""
    print(f"\n$ saefilter {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "saefilter", *arguments], check=True)


def main() -> None:
    OUT.mkdir(exist_ok=True)
    data = HERE / "advice.jsonl"
    scores, kept = OUT / "advice.scores.parquet", OUT / "advice.filtered.jsonl"
    run("score", str(data), "-o", str(scores), "--overwrite", *sys.argv[1:])
    run(
        "filter", str(data), "--scores", str(scores), "--drop-frac", "0.1", "-o", str(kept),
        "--overwrite",
    )  # fmt: skip

    with open(HERE / "advice.labels.csv", newline="") as file:
        is_bad = {int(row["line"]): row["is_bad"] == "1" for row in csv.DictReader(file)}
    table = pq.read_table(scores, columns=["line", "status"]).to_pylist()
    scored = [row["line"] for row in table if row["status"] == "scored"]
    with open(OUT / "advice.filtered.dropped.jsonl", encoding="utf-8") as file:
        dropped = [json.loads(line)["saefilter_line"] for line in file]
    base = sum(is_bad[line] for line in scored) / len(scored)
    found = sum(is_bad[line] for line in dropped)
    low, high = wilson(found, len(dropped))
    print(
        f"\nOf the {len(dropped)} dropped rows {found} are bad advice ({found / len(dropped):.0%}, 95 % "
        f"interval {low:.0%} to {high:.0%}); "
        f"of all scored rows {base:.0%} are.\nDropping at random would have found about "
        f"{base * len(dropped):.0f}: this is {found / len(dropped) / base:.1f} times as many."
    )
    print(f"Open the report: {OUT / 'advice.filtered.report.html'}")


if __name__ == "__main__":
    main()
