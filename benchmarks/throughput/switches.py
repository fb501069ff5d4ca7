"""What single choices are worth on one machine: lanes, shared prefixes, who finds the nearest directions,
precision. Encoding only, inside this process and in turn, without the alternatives.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.prefixes import after_a_prompt
from benchmarks.throughput.limits import finish
from benchmarks.throughput.ours import rank_correlation, score
from benchmarks.throughput.prepare import Prepared
from saefilter.encode.encoder import Encoder
from saefilter.encode.fast.lanes import Lanes
from saefilter.encode.presets import resolve
from saefilter.geometry.space import DirectionIndex, nearest_by_product
from saefilter.rows.rendered import Window

ROUNDS = 3
FAISS_QUERIES = 4096
"""Of the features, where FAISS has no GPU: all of them against a huge set would take minutes."""
PROMPT_TOKENS = 200
"""Of the made-up system prompt."""
NEAREST_SETS = (200, 50_000)
"""Directions of a toxic set: one that curation finds, and a huge one."""


def encoder_of(prepared: Prepared, dtype: str) -> Encoder:
    """Ours, loaded in this process."""
    preset = resolve(prepared.shape.preset, prepared.model, prepared.sae)
    return Encoder(preset, device=str(prepared.device), dtype=dtype)


def lanes(prepared: Prepared, dtype: str, until: float) -> dict[str, Any]:
    """Seconds of encoding with two lanes and with one, medians of rounds in turn, of which none but the
    first begins after `until`, of `time.monotonic()`."""
    encoder = encoder_of(prepared, dtype)
    encoder.lanes.close()
    # for all rounds: on a GPU a new lane is a new stream, which owns no memory yet
    kinds = {n: Lanes(encoder.device, n) for n in (2, 1)}
    timed: dict[int, list[float]] = {n: [] for n in kinds}
    for number in _rounds(until):
        for n, spent in timed.items():
            encoder.lanes = kinds[n]
            if not number:
                encoder.encode(prepared.windows, prepared.n_rows)  # warms up
            spent.append(_seconds(encoder, prepared.windows, prepared.n_rows))
    encoder.close()
    kinds[2].close()
    return _against(timed[2], "two lanes", timed[1], "one")


def prefixes(prepared: Prepared, dtype: str, until: float) -> dict[str, Any]:
    """Seconds of encoding rows after a system prompt, with and without computing it once, in rounds as
    those of `lanes`."""
    encoder = encoder_of(prepared, dtype)
    vocabulary = encoder.model.model.get_input_embeddings().weight.shape[0]  # type: ignore[union-attr]
    windows = after_a_prompt(prepared.windows, PROMPT_TOKENS, vocabulary)
    sharing = encoder.model.shares_prefixes
    shared = encoder.encode(windows, prepared.n_rows).tally  # warms up
    timed: dict[bool, list[float]] = {True: [], False: []}
    for _ in _rounds(until):
        for share, spent in timed.items():
            encoder.model.shares_prefixes = (  # type: ignore[method-assign]
                sharing if share else (lambda: False)
            )
            spent.append(_seconds(encoder, windows, prepared.n_rows))
    encoder.close()
    fields = _against(timed[True], "shared", timed[False], "not shared")
    return fields | {"shared_tokens": shared.saved / shared.padded}


def precisions(prepared: Prepared, folder: Path) -> dict[str, Any]:
    """Whole runs in both precisions: how alike they rank the rows, and how long each takes."""
    bf16, fp32 = (score(prepared, dtype, folder) for dtype in ("bf16", "fp32"))
    correlation = rank_correlation(fp32, bf16)
    seconds = [float(run.summary["seconds"]) for run in (bf16, fp32)]
    return {
        "spearman": correlation, "seconds": seconds, "rows": prepared.n_rows,
        "figure": f"Spearman {correlation:.5f}, {prepared.n_rows:,} rows; {seconds[0]:.1f} s in bf16, "
        f"{seconds[1]:.1f} s in fp32",
    }  # fmt: skip


def nearest(
    device: torch.device, d_sae: int, d_model: int, sets: Sequence[int] = NEAREST_SETS
) -> dict[str, Any]:
    """Seconds to find every feature's nearest directions of a set: FAISS's flat index and torch's product,
    both with what it takes to copy there and back."""
    import faiss

    on_gpu = device.type == "cuda" and getattr(faiss, "get_num_gpus", int)() > 0
    rng = np.random.default_rng(0)

    def units(n: int) -> Any:
        drawn = rng.standard_normal((n, d_model), dtype=np.float32)
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

    queries = units(d_sae)
    fields: dict[str, Any] = {"faiss_on_gpu": on_gpu, "sets": {}}
    told = []
    for size in sets:
        directions = units(size)
        index = DirectionIndex(directions, str(device))
        some = queries if on_gpu or size < d_sae // 2 else queries[:FAISS_QUERIES]
        share = len(some) / len(queries)  # a flat index takes as long for every query
        spent = [
            _median(device, lambda i=index, q=some: i._faiss.search(q, 1)) / share,
            _median(device, lambda d=directions: nearest_by_product(d, queries, 1, str(device))),
        ]
        fields["sets"][str(size)] = spent
        of = f" (from {len(some):,} of them)" if share < 1 else ""
        told.append(f"{size:,}: FAISS {spent[0]:.3f} s{of}, torch {spent[1]:.3f} s")
    where = "on the GPU" if on_gpu else "on the CPU (the installed FAISS has no GPU)"
    fields["figure"] = f"{d_sae:,} features against {'; '.join(told)}; FAISS {where}"
    return fields


def _rounds(until: float) -> Iterator[int]:
    """`ROUNDS` numbers, of which only the first may come after `until`."""
    for number in range(ROUNDS):
        if number and time.monotonic() > until:
            return
        yield number


def _seconds(encoder: Encoder, windows: Sequence[Window], n_rows: int) -> float:
    started = time.perf_counter()
    encoder.encode(windows, n_rows)
    finish(encoder.device)
    return time.perf_counter() - started


def _median(device: torch.device, work: Callable[[], object]) -> float:
    work()
    spent = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        finish(device)
        spent.append(time.perf_counter() - started)
    return statistics.median(spent)


def _against(
    ours: Sequence[float], name: str, other: Sequence[float], other_name: str
) -> dict[str, Any]:
    """Medians, and the median of the ratios within rounds with its range."""
    ratios = sorted(b / a for a, b in zip(ours, other, strict=True))
    middle = statistics.median(ratios)
    return {
        "seconds": {name: list(ours), other_name: list(other)}, "ratio": middle,
        "figure": f"{middle:.2f} times as fast ({ratios[0]:.2f} to {ratios[-1]:.2f}; "
        f"{name} {statistics.median(ours):.2f} s, {other_name} {statistics.median(other):.2f} s); "
        f"medians of {len(ratios)}",
    }  # fmt: skip
