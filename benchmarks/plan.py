"""Does `doctor` know what scoring will take? What it says, and then the run, on real rows.

    python -m benchmarks.plan [--presets minilm ...] [--models FOLDER] [--rows 100 1000 5000] \\
        [--data FILE.gz ...] [--write benchmarks/results/plan.md]

Rows are drawn from the files (by default advice on money and code, in the folder data) with one seed.
`--models` is a folder with SmolLM2-135M-Instruct, as examples/smollm2.py makes it. Each command is a
process of its own, timed from outside. Runs are added to those that the JSON file has.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import put_between, user_environment
from benchmarks.throughput.machine import describe, in_words

RESULTS = Path("benchmarks/results/plan.json")
MARKER = "<!-- plan: written by python -m benchmarks.plan -->"
DATA = [
    Path("data/em_finance/risky.jsonl.gz"),
    Path("data/em_code/secure.jsonl.gz"),
]
SEED = 0
WITHIN = 1.5


def draw(files: list[Path], count: int, target: Path) -> None:
    """So many rows of all files, shuffled."""
    lines = [line for file in files for line in gzip.decompress(file.read_bytes()).splitlines()]
    if count > len(lines):
        raise SystemExit(f"{count} rows are asked for, and there are {len(lines)}")
    target.write_bytes(b"\n".join(random.Random(SEED).sample(lines, count)) + b"\n")


def timed(arguments: list[str], folder: Path) -> tuple[float, float, str]:
    """Seconds by the clock and of all cores, and standard output of a `saefilter`. Raises SystemExit when
    it fails."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "saefilter", *arguments], cwd=folder, env=user_environment(),
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"saefilter {' '.join(arguments)} failed:\n{done.stderr}")
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return seconds, processor, done.stdout


def measure(preset: str, model: list[str], count: int, files: list[Path]) -> dict[str, Any]:
    """What `doctor` says of so many rows, and what they take."""
    with tempfile.TemporaryDirectory(prefix="plan-") as name:
        folder = Path(name)
        draw(files, count, folder / "rows.jsonl")
        reading = ["--preset", preset, *model]
        asking, _, said = timed(["doctor", "rows.jsonl", "--json", *reading], folder)
        plan = {figure["name"]: figure for figure in json.loads(said)["plan"]}
        load = os.getloadavg()[0]
        seconds, processor, _ = timed(
            ["score", "rows.jsonl", "-o", "s.parquet", "-q", *reading], folder
        )
        n_bytes = (folder / "s.parquet").stat().st_size
    return {
        "preset": preset, "rows": count, "predicted": plan["time"]["seconds"], "seconds": seconds,
        "predicted_processor": plan["time"].get("processor_seconds"), "processor": processor,
        "rests_on": plan["time"]["rests_on"], "asking": asking, "load": load,
        "predicted_bytes": plan["storage"]["scores_bytes"], "bytes": n_bytes,
    }  # fmt: skip


def table(found: dict[str, Any]) -> str:
    """The figures in Markdown."""
    lines = [
        f"{in_words(found['machine'])}",
        "",
        "| preset | rows | predicted | took | ratio | processor time: predicted | took | ratio | load |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in found["runs"]:
        cores = one["predicted_processor"] or float("nan")
        lines.append(
            f"| `{one['preset']}` | {one['rows']:,} | {one['predicted']:.1f} s | {one['seconds']:.1f} s | "
            f"{one['predicted'] / one['seconds']:.2f} | {cores:.1f} s | {one['processor']:.1f} s | "
            f"{cores / one['processor']:.2f} | {one['load']:.1f} |"
        )
    said = []
    for name, kind in (("seconds", "by the clock"), ("processor", "in processor time")):
        predicted = "predicted" if name == "seconds" else "predicted_processor"
        ratios = [(one[predicted] or 0) / one[name] for one in found["runs"]]
        within = sum(1 / WITHIN <= ratio <= WITHIN for ratio in ratios)
        said.append(f"{within} of {len(ratios)} {kind}")
    load = "`load` is that of the machine before the run"
    return "\n".join([*lines, "", f"Within a factor of {WITHIN}: {', '.join(said)}. {load}."])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__)
    parser.add_argument("--presets", nargs="+", default=["minilm"])
    parser.add_argument("--models", type=Path, help="folder that has smollm2-135m-instruct")
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--data", type=Path, nargs="+", default=DATA, metavar="FILE")
    parser.add_argument("--write", type=Path, metavar="FILE", help="document to put the table in")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE", help=f"[{RESULTS}]")
    asked = parser.parse_args()
    files = [file.resolve() for file in asked.data]
    earlier = json.loads(asked.json.read_text())["runs"] if asked.json.exists() else []
    runs = {(one["preset"], one["rows"]): one for one in earlier}
    for preset in asked.presets:
        model = []
        if asked.models and preset.startswith("smollm2"):
            model = ["--model", str(asked.models.resolve() / f"{preset}-instruct")]
        for rows in asked.rows:
            runs[preset, rows] = measure(preset, model, rows, files)
            print(runs[preset, rows], file=sys.stderr, flush=True)
            found = {
                "machine": describe(torch.device("cpu")),
                "runs": [runs[k] for k in sorted(runs)],
            }
            asked.json.parent.mkdir(parents=True, exist_ok=True)
            asked.json.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))
    if asked.write:
        put_between(asked.write, MARKER, table(found))


if __name__ == "__main__":
    main()
