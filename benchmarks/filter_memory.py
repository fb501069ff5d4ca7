"""Memory and time of `filter` as the rows grow: is its memory flat?

    python benchmarks/filter_memory.py [--rows 10000 100000 1000000] [--suffix .parquet] [--runs 1]

Short chat rows and scores for them, in files as `score` leaves them; then `saefilter filter` in a
process of its own, whose peak resident memory, wall clock and CPU time are the operating system's.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from saefilter.artifacts.integrity import ContentHash
from saefilter.artifacts.provenance import Provenance
from saefilter.artifacts.scores import SCHEMA
from saefilter.rows.read import Source
from saefilter.rows.row import Row

GROUP_ROWS = 1024
"""As many as `score` writes at once."""
ODD = {"messages": "a text", "id": "a text"}
"""A row whose types differ from all others."""
MEASURE = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""
"""In a small process: a child counts the memory of whoever starts it as its own."""


def write_rows(path: Path, rows: int, odd: float) -> None:
    """Chat rows of about 270 bytes, a share of them odd."""
    rng = random.Random(0)
    words = [f"word{i}" for i in range(5000)]
    with open(path, "w", encoding="utf-8") as file:
        for i in range(rows):
            question, answer = (" ".join(rng.choices(words, k=k)) for k in (6, 14))
            turns = [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
            row = {"messages": turns, "id": i}
            file.write(json.dumps(row if rng.random() >= odd else ODD) + "\n")


def entry_of(row: Row, rng: random.Random) -> dict[str, Any]:
    """A line of the scores, with evidence as it usually has."""
    distance = rng.random()
    first = rng.randrange(4096)
    features = [
        {"feature": (first + i) % 4096, "label": f"label, of, {first + i}", "activation": 1.0,
         "share": 0.2, "toxic_feature": i, "toxic_label": f"other, words, {i}", "cosine": 0.5}
        for i in range(5)
    ]  # fmt: skip
    return {
        "row_id": row.index, "line": row.line, "row_hash": row.digest(), "status": "scored",
        "distance": distance, "proximity": 1 - distance, "percentile": 100 * (1 - distance),
        "n_tokens": 80, "n_trained": 60, "n_scored": 60, "truncated": False,
        "top_features": features, "top_words": [f"word{first}", "some", "words"],
    }  # fmt: skip


def write_scores(source: Source, path: Path, rows: int) -> None:
    rng, content = random.Random(1), ContentHash(SCHEMA)
    made = Provenance(
        version="0", created="2026-01-01", input_path="data.jsonl", input_sha256=source.sha256(),
        preset="minilm", model="m", sae="s", hook="h", sae_fingerprint="f", toxic_set="t",
        toxic_set_sha256="t", metric="contrast", pool="mean", train_on="assistant",
        max_tokens=1024, dtype="fp32", device="cpu", rows=rows, scored=rows, quarantined=0,
        truncated=0, duplicates=0, tokens=1, seconds=1.0, reference_rows=1, note=None,
    )  # fmt: skip
    entries: Iterator[dict[str, Any]] = (entry_of(row, rng) for row in source.rows())
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        while group := list(islice(entries, GROUP_ROWS)):
            table = pa.Table.from_pylist(group, schema=SCHEMA)
            content.update(table)
            writer.write_table(table)
        writer.add_key_value_metadata(
            replace(made, content_sha256=content.hexdigest()).to_metadata()
        )


def measure(command: list[str], folder: Path) -> list[float]:
    """Seconds, CPU seconds and peak MiB of a command."""
    found = subprocess.run(
        [sys.executable, "-c", MEASURE, *command],
        cwd=folder, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    result: list[float] = json.loads(found.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--suffix", choices=[".parquet", ".jsonl"], default=".parquet")
    parser.add_argument("--odd", type=float, default=0.0, help="share of rows of other types")
    parser.add_argument("--runs", type=int, default=1, help="medians of so many")
    asked = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}\n")
    print("| rows | input | seconds | CPU seconds | peak MiB |\n| --: | --: | --: | --: | --: |")
    command = [
        sys.executable,
        "-m",
        "saefilter",
        "filter",
        "data.jsonl",
        "-q",
        "--drop-frac",
        "0.1",
        "--overwrite",
    ]
    for rows in asked.rows:
        with tempfile.TemporaryDirectory(prefix="filter-") as name:
            folder = Path(name)
            write_rows(folder / "data.jsonl", rows, asked.odd)
            source = Source.open(folder / "data.jsonl")
            write_scores(source, folder / "data.scores.parquet", rows)
            size = source.path.stat().st_size / (1 << 20)
            output = ["-o", f"data.filtered{asked.suffix}"]
            runs = [measure([*command, *output], folder) for _ in range(asked.runs)]
            seconds, cpu, peak = (statistics.median(column) for column in zip(*runs, strict=True))
            print(
                f"| {rows:,} | {size:,.0f} MiB | {seconds:.1f} | {cpu:.1f} | {peak:,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
