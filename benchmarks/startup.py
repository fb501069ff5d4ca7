"""Start-up and filter speed, as ratios within one run: machines are noisy, ratios less so.

    python benchmarks/startup.py

Help is compared with `python -c pass`; `filter` on existing scores of 100,000 rows with reading the
same rows and writing them as Parquet with json and pyarrow alone.
"""

from __future__ import annotations

import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from saefilter.artifacts.integrity import content_sha256
from saefilter.artifacts.provenance import Provenance
from saefilter.artifacts.scores import SCHEMA
from saefilter.rows.read import Source

RUNS = 5
ROWS = 100_000
PLAIN = """
import json, pyarrow as pa, pyarrow.parquet as pq
rows = [json.loads(line) for line in open("data.jsonl", "rb")]
names = list(rows[0])
pq.write_table(pa.table({n: [row[n] for row in rows] for n in names}), "plain.parquet")
"""


def seconds(command: list[str], folder: Path) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - started


def compare(name: str, ours: list[str], plain: list[str], folder: Path) -> None:
    """Ours and the plain command in turn, so that both see the same machine."""
    pairs = [(seconds(ours, folder), seconds(plain, folder)) for _ in range(RUNS + 1)][1:]
    mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"| {name} | {mine:.2f} s | {theirs:.2f} s | {ratio:.1f} |", flush=True)


def write_inputs(folder: Path) -> None:
    """100,000 chat rows and scores for them."""
    rng = random.Random(0)
    words = [f"word{i}" for i in range(5000)]
    with open(folder / "data.jsonl", "w") as file:
        for i in range(ROWS):
            question, answer = (" ".join(rng.choices(words, k=k)) for k in (12, 60))
            turns = [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
            file.write(json.dumps({"messages": turns, "id": i, "source": "x"}) + "\n")
    source = Source.open(folder / "data.jsonl")
    evidence = [
        {"feature": i, "label": "a, few, words", "activation": 1.0, "share": 0.2,
         "toxic_feature": i, "toxic_label": "other, words", "cosine": 0.5}
        for i in range(5)
    ]  # fmt: skip
    distance = [rng.random() for _ in range(ROWS)]
    columns = {
        "row_id": range(ROWS), "line": range(1, ROWS + 1), "file": [None] * ROWS,
        "row_hash": [row.digest() for row in source.rows()],
        "status": ["scored"] * ROWS, "reason": [None] * ROWS, "distance": distance,
        "proximity": [1 - d for d in distance], "percentile": [100 * (1 - d) for d in distance],
        "n_tokens": [80] * ROWS, "n_trained": [60] * ROWS, "n_scored": [60] * ROWS,
        "truncated": [False] * ROWS, "top_features": [evidence] * ROWS,
        "top_words": [["some", "words"]] * ROWS,
    }  # fmt: skip
    table = pa.table({name: list(values) for name, values in columns.items()}, schema=SCHEMA)
    content = content_sha256(SCHEMA, [table])
    made = Provenance(
        version="0", created="2026-01-01", input_path="data.jsonl", input_sha256=source.sha256(),
        preset="minilm", model="m", sae="s", hook="h", sae_fingerprint="f", toxic_set="t",
        toxic_set_sha256="t", metric="contrast", pool="mean", train_on="assistant",
        max_tokens=1024, dtype="fp32", device="cpu", rows=ROWS, scored=ROWS, quarantined=0,
        truncated=0, duplicates=0, tokens=1, seconds=1.0, reference_rows=1, note=None,
        content_sha256=content,
    )  # fmt: skip
    with pq.ParquetWriter(folder / "data.scores.parquet", SCHEMA, compression="zstd") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(made.to_metadata())


def main() -> None:
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}\n")
    print("| command | ours | compared with | ratio |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nothing = [sys.executable, "-c", "pass"]
        for command in ([], ["score"], ["filter"], ["features"]):
            ours = [sys.executable, "-m", "saefilter", *command, "--help"]
            compare(f"`saefilter {' '.join([*command, '--help'])}`", ours, nothing, folder)
        write_inputs(folder)
        ours = [sys.executable, "-m", "saefilter", "filter", "--drop-frac", "0.1", "--overwrite"]
        compare("`saefilter filter`, 100,000 rows", ours, [sys.executable, "-c", PLAIN], folder)


if __name__ == "__main__":
    main()
