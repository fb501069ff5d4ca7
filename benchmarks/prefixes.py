"""What it saves to compute once what rows begin with alike: a system prompt before every row.

    python -m benchmarks.prefixes [--rows 1000] [--data FILE.jsonl ...] [--lengths 0,50,200,800]

The tiny Gemma-2 of benchmarks/throughput, its SAE, and one batch of rows, encoded with and without sharing
in turn. The tokens of the made-up system prompt stand after the first token of every row; none is
scored. Of the length 0, what is shared is what the rows themselves have in common.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.throughput.prepare import prepare
from benchmarks.throughput.shapes import CPU_SHAPES
from saefilter.encode.encoder import Encoder
from saefilter.encode.presets import resolve
from saefilter.rows.rendered import Window

RUNS = 3


def after_a_prompt(windows: Sequence[Window], length: int, vocabulary: int) -> list[Window]:
    """The same rows with so many tokens after their first one."""
    prompt = np.random.default_rng(0).integers(3, vocabulary, length)
    found = []
    for window in windows:
        ids = np.concatenate([window.ids[:1], prompt, window.ids[1:]])
        scored = np.concatenate([window.scored[:1], np.zeros(length, bool), window.scored[1:]])
        spans = np.concatenate([np.zeros((length, 2), np.int32), window.spans])
        found.append(Window(window.row, ids, scored, spans))
    return found


def seconds(encoder: Encoder, windows: Sequence[Window], n_rows: int, *, share: bool) -> float:
    model = encoder.model
    sharing = model.shares_prefixes
    if not share:
        model.shares_prefixes = lambda: False  # type: ignore[method-assign, misc, assignment]
    try:
        started = time.perf_counter()
        encoder.encode(windows, n_rows)
        return time.perf_counter() - started
    finally:
        model.shares_prefixes = sharing  # type: ignore[method-assign, misc, assignment]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prefixes", description=__doc__)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--data", type=Path, nargs="*", default=[], metavar="FILE")
    parser.add_argument("--lengths", default="0,50,200,800", help="of the system prompt, in tokens")
    asked = parser.parse_args()
    shape = next(shape for shape in CPU_SHAPES if shape.name == "gemma2-tiny")
    assert shape.network is not None
    with tempfile.TemporaryDirectory(prefix="prefixes-") as name:
        shape = replace(shape, rows=asked.rows)
        prepared = prepare(shape, Path(name), asked.data, asked.rows, torch.device("cpu"))
        encoder = Encoder(resolve(None, prepared.model, prepared.sae), device="cpu", dtype="fp32")
        print("| system prompt | tokens a row | shared | seconds | without sharing | ratio |")
        print("| --- | --- | --- | --- | --- | --- |")
        for length in map(int, asked.lengths.split(",")):
            windows = after_a_prompt(prepared.windows, length, shape.network.vocabulary)
            shared = encoder.encode(windows, prepared.n_rows)  # warms up
            times = [
                tuple(
                    seconds(encoder, windows, prepared.n_rows, share=share)
                    for share in (True, False)
                )
                for _ in range(RUNS)
            ]
            ours, without = (statistics.median(column) for column in zip(*times, strict=True))
            ratio = statistics.median(b / a for a, b in times)
            tokens = sum(len(window.ids) for window in windows)
            print(
                f"| {length} tokens | {tokens / len(windows):.0f} "
                f"| {shared.tally.saved / shared.tally.padded:.0%} | {ours:.1f} | {without:.1f} "
                f"| {ratio:.2f} |", flush=True,
            )  # fmt: skip
        encoder.close()


if __name__ == "__main__":
    main()
