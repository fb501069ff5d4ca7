"""Throughput of `saefilter score` beside the alternatives and the limits, in one run.

    python -m benchmarks.throughput [--shapes minilm,gemma2-tiny,llama-tiny,smollm2-135m]
        [--data FILE.jsonl ...] [--runs 5] [--write benchmarks/README.md]
    python -m benchmarks.throughput --gpu [--minutes 40] [--steps NAME,...] [--write docs/performance.md]

README.md beside this package says what is compared and how to read it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from transformers.utils import logging as hf_logging

from benchmarks.throughput import gpu, results
from benchmarks.throughput.machine import describe
from benchmarks.throughput.ours import rank_correlation, score
from benchmarks.throughput.prepare import prepare
from benchmarks.throughput.rounds import measure
from benchmarks.throughput.shapes import CPU_SHAPES, Shape, smoke

RESULTS = Path("benchmarks/results/throughput.json")
GPU_RESULTS = Path("benchmarks/results/gpu.json")


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__)
    parser.add_argument("--shapes", help="names, separated by commas [all that fit the device]")
    parser.add_argument(
        "--gpu", action="store_true", help="all of a GPU's figures, most telling first"
    )
    parser.add_argument(
        "--minutes", type=float, default=gpu.MINUTES, help="in all, with --gpu [40]"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER",
                        help="with --gpu: checkpoints stay here for a later call")  # fmt: skip
    parser.add_argument("--steps", default="", help="with --gpu: names, separated by commas [all]")
    parser.add_argument("--again", action="store_true",
                        help="with --gpu: also steps that have a figure")  # fmt: skip
    parser.add_argument(
        "--data",
        type=Path,
        nargs="*",
        default=[],
        metavar="FILE",
        help="rows of these files instead of written ones",
    )
    parser.add_argument("--rows", type=int, help="rows scored [each shape's own]")
    parser.add_argument("--runs", type=int, default=5, help="rounds after the warm-up")
    parser.add_argument("--dtypes", default=None, help="[fp32,bf16]")
    parser.add_argument(
        "--peer-tokens",
        type=int,
        metavar="N",
        help="alternatives read an even "
        "sample of the rows of about N tokens; their rates are per token [all]",
    )
    parser.add_argument("--peers", help="alternatives that run, separated by commas [all]: "
                        + ", ".join(results.ALTERNATIVES))  # fmt: skip
    parser.add_argument("--processor-time", action="store_true",
                        help="count it instead of the clock's, one thread each: for a machine "
                        "with other work")  # fmt: skip
    parser.add_argument("--write", type=Path, metavar="FILE", help="document to put the tables in")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE",
                        help=f"[{RESULTS}; with --gpu {GPU_RESULTS}]")  # fmt: skip
    parser.add_argument("--smoke", action="store_true",
                        help="tiny sizes on the CPU: does everything run? Keeps no figures")  # fmt: skip
    return parser.parse_args(argv)


def chosen_shapes(asked: argparse.Namespace) -> list[Shape]:
    known = {shape.name: shape for shape in CPU_SHAPES}
    names = asked.shapes.split(",") if asked.shapes else list(known)
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"no shape {', '.join(unknown)}; there are {', '.join(known)}")
    shapes = [known[name] for name in names]
    if asked.smoke:
        shapes = [smoke(shape) for shape in shapes]
    return [replace(shape, rows=asked.rows or shape.rows) for shape in shapes]


def on_a_gpu(asked: argparse.Namespace) -> None:
    """All steps, or those that are asked for; the smoke test keeps its results where it is told."""
    with tempfile.TemporaryDirectory(prefix="throughput-") as name:
        kept = asked.json or (Path(name) / "smoke.json" if asked.smoke else GPU_RESULTS)
        entries = gpu.run_all(
            kept, minutes=asked.minutes, names=list(filter(None, asked.steps.split(","))),
            again=asked.again, smoke=asked.smoke, data=asked.data, keep=asked.keep, say=say,
        )  # fmt: skip
    print(gpu.table(entries))
    if asked.write:
        gpu.write_table(asked.write, entries)


def main() -> None:
    asked = arguments()
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()
    if asked.gpu:
        # whoever stops the command leaves no step running, and no checkpoints behind
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        on_a_gpu(asked)
        return
    path = asked.json or (None if asked.smoke else RESULTS)
    device = torch.device("cpu")
    if asked.processor_time:
        torch.set_num_threads(1)
        os.environ["OMP_NUM_THREADS"] = "1"
    dtypes = (asked.dtypes or "fp32,bf16").split(",")
    entries = {}
    for shape in chosen_shapes(asked):
        say(f"{shape.name}: {shape.title}")
        try:
            if not asked.smoke:
                shape.real_model()
        except FileNotFoundError as error:
            say(f" left out: {error}")
            continue
        with tempfile.TemporaryDirectory(prefix="throughput-") as name:
            folder = Path(name)
            prepared = prepare(shape, folder, asked.data, shape.rows, device)
            fields = results.entry(prepared, describe(device), asked.peer_tokens)
            fields["processor_time"] = asked.processor_time
            runs = {}
            for dtype in dtypes:
                say(f" {dtype}, {prepared.n_rows:,} rows, {prepared.tokens:,} tokens")
                outcome = measure(
                    prepared, dtype, asked.runs, folder, say, asked.peer_tokens,
                    only=None if asked.peers is None else asked.peers.split(","),
                    processor_time=asked.processor_time,
                )  # fmt: skip
                fields["dtypes"][dtype] = results.outcome_fields(outcome, prepared)
                runs[dtype] = outcome.last
            for dtype in {"fp32", "bf16"} - set(runs):
                runs[dtype] = score(prepared, dtype, folder)
            correlation = rank_correlation(runs["fp32"], runs["bf16"])
            results.add_ranking(fields, correlation, runs["fp32"], runs["bf16"])
        entries[shape.name] = fields
        print(results.table(shape.name, fields) + "\n", flush=True)
        if path:
            results.save_entries(path, {shape.name: fields})
    if asked.write:
        results.write_pages(asked.write, results.save_entries(path, {}) if path else entries)


if __name__ == "__main__":
    main()
