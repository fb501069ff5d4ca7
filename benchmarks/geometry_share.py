"""What geometry costs where a toxic set is huge: 50,000 features of a SAE of 65,536.

    python -m benchmarks.geometry_share [--features 50000] [--rows 5000] [--data FILE.jsonl ...]

A tiny random Llama with a random SAE (benchmarks/throughput makes both), a set whose features all have
weights, half of them benign, a calibration of made-up numbers, and one run of `saefilter score`. Geometry is finding every feature's
nearest ones when the scorer is made, and everything after pooling: proximity, percentiles, evidence,
spillover. With the shipped set of the preset `minilm` the same is printed beside it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.throughput.ours import score
from benchmarks.throughput.prepare import Prepared, prepare
from benchmarks.throughput.shapes import CPU_SHAPES, SaeShape, Shape
from saefilter.curate.calibrate import LEVELS, PUSHED_FEATURES
from saefilter.encode.sae import load_sae
from saefilter.geometry.metrics import METRICS
from saefilter.geometry.scorer import Scorer
from saefilter.toxic.load import load_toxic_set
from saefilter.toxic.toxicset import Calibration, PushReference

CPU = torch.device("cpu")


def with_many_features(path: Path, count: int, d_sae: int) -> None:
    """Give the toxic set in a file so many features, drawn at random, half of them toxic; and a
    calibration as large as a real one, so that percentiles and spillover are computed."""
    toxic_set = load_toxic_set(str(path))
    rng = np.random.default_rng(0)
    first = toxic_set.features[0]
    features = [
        replace(
            first,
            index=int(index),
            side="toxic" if i % 2 else "benign",
            weight=float(rng.random()) + 0.01,
            label=f"feature {index}",
        )
        for i, index in enumerate(rng.permutation(d_sae)[:count])
    ]
    toxic = tuple(one.index for one in features if one.side == "toxic")[:PUSHED_FEATURES]
    calibration = Calibration(
        rows=1000,
        levels=LEVELS,
        quantiles={f"{metric}/{toxic_set.pool}": LEVELS for metric in METRICS},
        push=PushReference(1000, toxic, (0.1,) * len(toxic), (0.01,) * len(toxic)),
    )
    path.write_text(replace(toxic_set, features=features, calibration=calibration).to_json())


def row(prepared: Prepared, toxic_set: str, folder: Path) -> str:
    """One line of the table."""
    loaded = load_toxic_set(toxic_set)
    directions = load_sae(prepared.sae).directions()
    started = time.perf_counter()
    Scorer(loaded, directions)
    faiss = time.perf_counter() - started
    run = score(prepared, "fp32", folder)
    after = run.summary["timings"]["geometry"]
    share = (faiss + after) / run.seconds
    return (
        f"| {prepared.shape.name} | {prepared.d_sae:,} | {len(loaded.features):,} "
        f"| {prepared.n_rows:,} | {prepared.tokens:,} | {run.seconds:.1f} s | {faiss:.2f} s "
        f"| {after:.2f} s | {share:.1%} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="geometry's share of a scoring run")
    parser.add_argument("--features", type=int, default=50_000)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--data", type=Path, nargs="*", default=[], metavar="FILE")
    args = parser.parse_args()
    print(
        "| shape | d_sae | set | rows | tokens | whole process | nearest features | the rest | share |"
    )
    print("| --- " * 9 + "|")
    minilm = next(shape for shape in CPU_SHAPES if shape.name == "minilm")
    llama = next(shape for shape in CPU_SHAPES if shape.name == "llama-tiny")
    wide: Shape = replace(llama, sae=SaeShape(65_536, 64))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared = prepare(minilm, folder / "small", args.data, args.rows, CPU)
        print(row(prepared, "minilm", folder), flush=True)
        prepared = prepare(wide, folder / "wide", args.data, args.rows, CPU)
        toxic_set = folder / "wide" / "toxic.json"
        with_many_features(toxic_set, args.features, prepared.d_sae)
        print(row(prepared, str(toxic_set), folder), flush=True)


if __name__ == "__main__":
    main()
