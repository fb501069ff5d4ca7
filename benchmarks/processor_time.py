"""What a causal model's tokens cost a processor: ours beside its bare forward pass and sae-lens's ways.

    SAEFILTER_REAL_MODELS=FOLDER OMP_NUM_THREADS=1 python -m benchmarks.processor_time
        [--shape smollm2-135m] [--rows 24] [--runs 5] [--peers stop,hidden] [--data FILE ...]

One thread, and its processor time instead of the clock's, so that a machine with other work tells nearly
what a quiet one does. Encoding alone (no start-up, reading or writing), of the same rows, in turn; the
alternatives in batches of `--size` rows, the bare pass in batches of `--budget` tokens.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers.utils import logging as hf_logging

from benchmarks.throughput import rows
from benchmarks.throughput.contenders import Models, contenders
from benchmarks.throughput.limits import bare_forward
from benchmarks.throughput.machine import describe, in_words
from benchmarks.throughput.prepare import Prepared, prepare
from benchmarks.throughput.rounds import _agreement
from benchmarks.throughput.shapes import CPU_SHAPES
from benchmarks.throughput.switches import encoder_of

OURS, BARE = "ours: encoding", "bare truncated forward pass, no SAE"


def work_of(prepared: Prepared, asked: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """Title -> what is timed; everything is loaded and has run once."""
    models = Models(prepared, torch.float32)
    encoder = encoder_of(prepared, "fp32")
    found: dict[str, Callable[[], object]] = {
        OURS: lambda: encoder.encode(prepared.windows, prepared.n_rows),
        BARE: lambda: bare_forward(models, budgets),
    }
    device = prepared.device
    budgets = rows.budget_batches(prepared.windows, asked.budget, device)
    fixed = rows.fixed_batches(prepared.windows, asked.size, device)
    for one in contenders(models):
        if one.key in asked.peers.split(","):
            print(f"{one.title}: agrees to {_agreement(models, one):.6f}", file=sys.stderr)
            found[one.title] = lambda run=one.run: [run(batch) for batch in fixed]  # type: ignore[misc]
    for run in list(found.values())[:2]:
        run()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.processor_time", description=__doc__
    )
    parser.add_argument("--shape", default="smollm2-135m")
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peers", default="stop,hidden")
    parser.add_argument("--size", type=int, default=4, help="rows in a batch of an alternative")
    parser.add_argument(
        "--budget", type=int, default=1024, help="tokens in a batch of the bare pass"
    )
    parser.add_argument("--data", type=Path, nargs="*", default=[], metavar="FILE")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    hf_logging.set_verbosity_error()
    device = torch.device("cpu")
    shape = next(shape for shape in CPU_SHAPES if shape.name == asked.shape)
    with tempfile.TemporaryDirectory(prefix="processor-time-") as name, torch.no_grad():
        prepared = prepare(shape, Path(name), asked.data, asked.rows, device)
        spent: dict[str, list[float]] = {}
        work = work_of(prepared, asked)
        for number in range(asked.runs):
            for title, run in work.items():
                started = time.process_time()
                run()
                spent.setdefault(title, []).append(time.process_time() - started)
            print(number, {title: round(s[-1], 2) for title, s in spent.items()}, file=sys.stderr)
    print(f"{in_words(describe(device))}\n")
    print(f"{prepared.n_rows} rows, {prepared.tokens:,} tokens; load {os.getloadavg()[0]:.1f}.\n")
    print("| | ms a token | times ours (least to most of the rounds) |\n| --- | --- | --- |")
    for title, seconds in spent.items():
        ratios = sorted(a / b for a, b in zip(seconds, spent[OURS], strict=True))
        each = 1000 * statistics.median(seconds) / prepared.tokens
        print(
            f"| {title} | {each:.2f} | {statistics.median(ratios):.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}) |"
        )


if __name__ == "__main__":
    main()
