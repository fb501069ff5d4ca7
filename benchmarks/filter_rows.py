"""Memory and time of `filter` from a million rows to a hundred million: are both flat, per row?

    python -m benchmarks.filter_rows [--rows 1000000 10000000 100000000] [--write benchmarks/README.md]

Short made-up rows (JSON lines of about 30 bytes) and scores for them, a block at a time, in files as `score`
leaves them; then `saefilter filter` in a process of its own, whose peak resident memory, wall clock and CPU time are
the operating system's. The files take about 110 bytes a row of disk, in the folder for temporary files, and are
removed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common import put_between
from benchmarks.filter_memory import measure
from saefilter.artifacts.integrity import ContentHash
from saefilter.artifacts.provenance import Provenance
from saefilter.artifacts.scores import SCHEMA
from saefilter.scoring.join import GROUP_ROWS

RESULTS = Path(__file__).parent / "results" / "filter_rows.json"
MARKER = "<!-- filter rows -->"
STEPS = 1_000_000
"""Different distances: of a hundred million rows a hundred have each, so the cut goes through equal ones."""
WORD = pa.array(["some word"])
ALLOWED = {"memory": 2000.0, "growth": 1.3}
"""MiB at most, and how much longer a row may take than in the smallest file."""


@dataclass(frozen=True)
class Measured:
    """One run of `filter`."""

    rows: int
    seconds: float
    cpu_seconds: float
    peak_mib: float
    load: float
    """Processes that wanted to run in the minute before it ended: more than cores slow it down."""


def write_files(folder: Path, rows: int) -> None:
    """`data.jsonl` and its scores."""
    rng, content, digest = np.random.default_rng(0), ContentHash(SCHEMA), hashlib.sha256()
    with (
        open(folder / "data.jsonl", "wb") as file,
        pq.ParquetWriter(folder / "data.scores.parquet", SCHEMA, compression="zstd") as writer,
    ):
        for first in range(0, rows, GROUP_ROWS):
            ids = range(first, min(rows, first + GROUP_ROWS))
            lines = [b'{"text": "row %d of many"}' % i for i in ids]
            written = b"\n".join(lines) + b"\n"
            digest.update(written)
            file.write(written)
            table = _scores_of(lines, first, rng)
            content.update(table)
            writer.write_table(table)
        made = Provenance(
            version="0", created="2026-01-01", input_path="data.jsonl",
            input_sha256=digest.hexdigest(), preset="minilm", model="m", sae="s", hook="h",
            sae_fingerprint="f", toxic_set="t", toxic_set_sha256="t", metric="contrast",
            pool="mean", train_on="assistant", max_tokens=1024, dtype="fp32", device="cpu",
            rows=rows, scored=rows, quarantined=0, truncated=0, duplicates=0, tokens=1, seconds=1.0,
            reference_rows=1000, note=None, content_sha256=content.hexdigest(),
        )  # fmt: skip
        writer.add_key_value_metadata(made.to_metadata())


def _scores_of(lines: list[bytes], first: int, rng: np.random.Generator) -> pa.Table:
    """What the scores say of the rows from number `first` on, each with one feature for evidence."""
    n = len(lines)
    distance = rng.integers(0, STEPS, n) / STEPS
    ids = np.arange(first, first + n)
    one = pa.array(np.arange(n + 1), pa.int32())
    feature = pa.array(rng.integers(0, 4096, n), pa.int32())
    hashes = [hashlib.blake2b(line, digest_size=8).hexdigest() for line in lines]
    evidence = pa.table(
        {"feature": feature, "label": feature.cast(pa.string()), "activation": np.ones(n, np.float32),
         "share": np.ones(n, np.float32), "toxic_feature": feature,
         "toxic_label": feature.cast(pa.string()), "cosine": np.ones(n, np.float32)}
    ).to_struct_array()  # fmt: skip
    kind = SCHEMA.field("top_features").type
    known = {
        "row_id": ids, "line": ids + 1, "row_hash": hashes, "status": ["scored"] * n,
        "distance": distance, "proximity": 1 - distance, "percentile": 100 * (1 - distance),
        "n_tokens": np.full(n, 8), "n_trained": np.full(n, 8), "n_scored": np.full(n, 8),
        "truncated": np.zeros(n, np.bool_),
        "top_features": pa.ListArray.from_arrays(one, evidence.combine_chunks()).cast(kind),
        "top_words": pa.ListArray.from_arrays(one, WORD.take(pa.array(np.zeros(n, np.int64)))),
    }  # fmt: skip
    arrays = [
        (pa.nulls(n, field.type) if known.get(field.name) is None else known[field.name])
        for field in SCHEMA
    ]
    typed = [
        array.cast(field.type) if isinstance(array, pa.Array) else pa.array(array, field.type)
        for array, field in zip(arrays, SCHEMA, strict=True)
    ]
    return pa.table(typed, schema=SCHEMA)


def runs(sizes: list[int], suffix: str) -> Iterator[Measured]:
    command = [
        sys.executable, "-m", "saefilter", "filter", "data.jsonl", "-q", "--drop-frac", "0.1",
        "-o", f"data.filtered{suffix}",
    ]  # fmt: skip
    for rows in sizes:
        with tempfile.TemporaryDirectory(prefix="filter-rows-") as name:
            write_files(Path(name), rows)
            one = Measured(rows, *measure(command, Path(name)), round(os.getloadavg()[0], 1))
        print(one, file=sys.stderr, flush=True)
        yield one


def table(found: list[Measured]) -> str:
    """The figures in Markdown."""
    lines = [
        "| rows | seconds | CPU seconds | CPU a row | against the fewest | peak MiB | load |",
        "| --: | --: | --: | --: | --: | --: | --: |",
    ]
    base = found[0].cpu_seconds / found[0].rows
    for one in found:
        each = one.cpu_seconds / one.rows
        lines.append(
            f"| {one.rows:,} | {one.seconds:,.0f} | {one.cpu_seconds:,.0f} | {1e6 * each:.1f} µs | "
            f"{each / base:.2f} | {one.peak_mib:,.0f} | {one.load:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.filter_rows")
    parser.add_argument("--rows", type=int, nargs="+", default=[10**6, 10**7, 10**8])
    parser.add_argument("--suffix", choices=[".parquet", ".jsonl"], default=".jsonl")
    parser.add_argument("--write", type=Path, metavar="FILE", help="document to put the table in")
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"such as {RESULTS}")
    asked = parser.parse_args()
    found = list(runs(sorted(asked.rows), asked.suffix))
    told = f"{platform.machine()}, Python {platform.python_version()}, output {asked.suffix}."
    print(told, table(found), sep="\n\n")
    if asked.json:
        record = {"machine": told, "runs": [asdict(one) for one in found]}
        asked.json.write_text(json.dumps(record, indent=1) + "\n")
    if asked.write:
        put_between(asked.write, MARKER, f"{told}\n\n{table(found)}")
    most = max(one.peak_mib for one in found)
    growth = found[-1].cpu_seconds / found[-1].rows / (found[0].cpu_seconds / found[0].rows)
    if most > ALLOWED["memory"] or growth > ALLOWED["growth"]:
        raise SystemExit(f"not flat: {most:,.0f} MiB, {growth:.2f} times the time a row")


if __name__ == "__main__":
    main()
