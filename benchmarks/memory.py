"""Does memory stay flat in the number of rows? Score and filter many short rows, and few.

    python -m benchmarks.memory [--rows 1000000] [--against 10000] [--write benchmarks/README.md]
    python -m benchmarks.memory --cascade tokens:4 --rows 100000 --write benchmarks/README.md

Rows of six to ten tokens, so that rows and not tokens are many. Each command is a process of its own,
measured from outside: wall time, and the peak of resident memory summed over the process and all its
children (pages that they share count in each).
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.common import put_between, user_environment
from benchmarks.throughput.machine import describe, in_words

RESULTS = Path("benchmarks/results/memory.json")
MARKER = "<!-- memory: written by python -m benchmarks.memory -->"
OF_CASCADES = "<!-- memory of a cascade: written by python -m benchmarks.memory --cascade -->"
INTERVAL = 0.05
"""Seconds between looks at the memory."""
TEXT = "please tell me how to water the small green plants near our old house every week"
MIB = 1 << 20


@dataclass(frozen=True)
class Measured:
    """One command on one number of rows."""

    rows: int
    seconds: float
    peak_mib: float
    processes: int
    """Most that were seen at once."""


def lines(count: int) -> Iterator[bytes]:
    """JSONL rows, each of them different."""
    rng, words = random.Random(0), TEXT.split()
    for number in range(count):
        text = " ".join(rng.choices(words, k=rng.randrange(2, 5)))
        yield json.dumps({"text": f"{text} {number}"}).encode() + b"\n"


def tree_memory(process: psutil.Process) -> tuple[int, int]:
    """Resident bytes of a process and its children, and how many they are."""
    total = count = 0
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0, 0
    for member in family:
        try:
            total += member.memory_info().rss
            count += 1
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return total, count


def run(arguments: list[str], rows: int, folder: Path) -> Measured:
    """Run `saefilter` and watch it. Raises SystemExit with what it said when it fails."""
    peak = most = 0
    done = threading.Event()
    said = folder / "said.txt"
    started = time.perf_counter()
    with open(said, "w") as out:
        command = subprocess.Popen(
            [sys.executable, "-m", "saefilter", *arguments], cwd=folder, env=user_environment(),
            stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip

        def watch() -> None:
            nonlocal peak, most
            process = psutil.Process(command.pid)
            while not done.wait(INTERVAL):
                size, count = tree_memory(process)
                peak, most = max(peak, size), max(most, count)

        watcher = threading.Thread(target=watch)
        watcher.start()
        code = command.wait()
        seconds = time.perf_counter() - started
        done.set()
        watcher.join()
    if code:
        raise SystemExit(f"saefilter {' '.join(arguments)} failed:\n{said.read_text()}")
    return Measured(rows, seconds, peak / MIB, most)


def measure(rows: int, dtype: str, cascade: str | None, folder: Path) -> dict[str, Measured]:
    """Score and filter so many rows; or score them by a cascade."""
    with open(folder / "rows.jsonl", "wb") as file:
        file.writelines(lines(rows))
    score = ["score", "rows.jsonl", "-o", "s.parquet", "--preset", "minilm", "--device", "cpu"]
    score += ["--dtype", dtype, "--overwrite", "--quiet"]
    if cascade:
        # a budget, since rows as alike as these would all be read
        options = ["--cascade", cascade, "--nearest", "0.1", "--budget", "0.3"]
        return {f"score {' '.join(options)}": run([*score, *options], rows, folder)}
    narrow = ["filter", "rows.jsonl", "--scores", "s.parquet", "--drop-frac", "0.1"]
    return {
        "score": run(score, rows, folder),
        "filter": run([*narrow, "-o", "out.parquet", "--overwrite", "--quiet"], rows, folder),
    }


def table(found: dict[str, Any]) -> str:
    """The figures in Markdown."""
    lines_ = [
        f"{in_words(found['machine'])} Preset `minilm`, {found['dtype']}.",
        "",
        "| command | rows | wall time | peak memory of all its processes | processes |",
        "| --- | --- | --- | --- | --- |",
    ]
    for command, sizes in found["commands"].items():
        for one in sizes:
            lines_.append(
                f"| `saefilter {command}` | {one['rows']:,} | {one['seconds']:.1f} s | "
                f"{one['peak_mib']:,.0f} MiB | {one['processes']} |"
            )
    growth = ", ".join(
        f"`{command}` {sizes[1]['peak_mib'] - sizes[0]['peak_mib']:+,.0f} MiB"
        for command, sizes in found["commands"].items()
    )
    few, many = (one["rows"] for one in next(iter(found["commands"].values())))
    return "\n".join([*lines_, "", f"From {few:,} to {many:,} rows: {growth}."])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--against", type=int, default=10_000)
    parser.add_argument("--dtype", default="auto", help="auto, fp32 or bf16 [auto]")
    parser.add_argument("--cascade", metavar="READER", help="score by a cascade, and nothing else")
    parser.add_argument("--write", type=Path, metavar="FILE", help="document to put the table in")
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"[{RESULTS}, or beside it]")
    asked = parser.parse_args()
    commands: dict[str, list[dict[str, Any]]] = {}
    for rows in (asked.against, asked.rows):
        with tempfile.TemporaryDirectory(prefix="memory-") as name:
            for command, one in measure(rows, asked.dtype, asked.cascade, Path(name)).items():
                commands.setdefault(command, []).append(asdict(one))
                print(f"{command}: {one}", file=sys.stderr, flush=True)
    found = {"machine": describe(torch.device("cpu")), "dtype": asked.dtype, "commands": commands}
    output = asked.json or (RESULTS.with_stem("memory_cascade") if asked.cascade else RESULTS)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))
    if asked.write:
        put_between(asked.write, OF_CASCADES if asked.cascade else MARKER, table(found))


if __name__ == "__main__":
    main()
