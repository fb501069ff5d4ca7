"""Everything that runs on one shape in one precision, in turn, round after round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

from benchmarks.throughput import rows
from benchmarks.throughput.contenders import Contender, Models, contenders
from benchmarks.throughput.limits import bare_forward, clock, measure_floor, release
from benchmarks.throughput.ours import Run, score
from benchmarks.throughput.prepare import SAMPLE_TOKENS, Prepared
from saefilter.encode.model import DTYPES
from saefilter.rows.rendered import Window

Say = Callable[[str], None]
CLEARLY_SLOWER = 1.3
"""Larger batches are not tried once one takes so many times the best one's time."""
OURS, INSIDE, BARE, FLOOR = "ours", "ours-inside", "bare", "floor"
TITLES = {
    OURS: "(a) `saefilter score`, whole process",
    INSIDE: "(a) `saefilter score`, without its start-up",
    BARE: "(e) bare truncated forward pass, no SAE",
    FLOOR: "(f) arithmetic at the measured matrix-product rate",
}


@dataclass
class Timed:
    """One contender's rounds."""

    title: str
    batch: str = ""
    """The batch it chose."""
    tokens_per_second: list[float] = field(default_factory=list)
    """One per round."""
    agreement: float | None = None
    """Least cosine of its pooled features, on the sample, with those of Hugging Face's model cut at the
    hook."""
    problem: str | None = None
    """Why it does not run on this shape."""

    def median(self) -> float | None:
        """None where it does not run."""
        return statistics.median(self.tokens_per_second) if self.tokens_per_second else None


@dataclass
class Outcome:
    """All contenders on one shape in one precision."""

    timed: dict[str, Timed]
    last: Run
    """Ours, the last round's."""
    ours_seconds: list[float]
    floor: dict[str, float]
    """Median rates, and the floor's seconds."""


def measure(
    prepared: Prepared,
    dtype: str,
    runs: int,
    folder: Path,
    say: Say,
    peer_tokens: int | None,
    *,
    only: Sequence[str] | None = None,
    until: float = float("inf"),
    processor_time: bool = False,
) -> Outcome:
    """Choose batches (which warms up), run ours once unmeasured, then `runs` rounds. A single round is
    no measurement, and nothing goes before it.

    `peer_tokens` lets the alternatives read an even sample of the rows instead of all. `only`: keys of
    the alternatives that run; None for all. No round but the first begins after `until`, of
    `time.monotonic()`. `processor_time` counts that instead of the clock's, of one thread each, for a
    machine with other work on it; the bare forward pass then reads the alternatives' sample too.
    """
    models = Models(prepared, DTYPES[dtype], cut_only=only is not None and not only)
    peer_windows = rows.every(prepared.windows, peer_tokens) if peer_tokens else prepared.windows
    timed = {key: Timed(title) for key, title in TITLES.items()}
    work: dict[str, Callable[[], float]] = {}
    sample = prepared.sample()
    if peer_tokens:
        sample = rows.every(sample, min(peer_tokens, SAMPLE_TOKENS))
    for contender in _chosen(models, only):
        timed[contender.key] = entry = Timed(contender.title)
        try:
            size = _best_size(models, contender, sample, say)
            entry.agreement = _agreement(models, contender)
        except (RuntimeError, ValueError, ImportError, AttributeError) as error:
            entry.problem = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
            say(f"  {contender.key}: does not run: {entry.problem}")
            continue
        entry.batch = f"{size} rows"
        batches = rows.fixed_batches(peer_windows, size, prepared.device)
        work[contender.key] = _rate(
            lambda c=contender, b=batches: [c.run(batch) for batch in b],
            peer_windows, prepared, processor_time,
        )  # fmt: skip
    try:
        budget = _best_budget(models, say)
    except RuntimeError as error:
        timed[BARE].problem = str(error)
    else:
        timed[BARE].batch = f"{budget:,} tokens"
        windows = peer_windows if processor_time else prepared.windows
        batches = rows.budget_batches(windows, budget, prepared.device)
        work[BARE] = _rate(lambda: bare_forward(models, batches), windows, prepared, processor_time)
    if runs > 1:
        score(prepared, dtype, folder)
    ours: list[Run] = []
    floors = []
    for number in range(runs):
        if number and time.monotonic() > until:
            say(f"  no time for more than {number} of {runs} rounds")
            break
        last = score(prepared, dtype, folder)
        ours.append(last)
        spent = last.processor_seconds if processor_time else last.seconds
        timed[OURS].tokens_per_second.append(prepared.tokens / spent)
        if not processor_time:  # the summary tells the clock's
            timed[INSIDE].tokens_per_second.append(prepared.tokens / float(last.summary["seconds"]))
        for key, run in work.items():
            release(prepared.device)
            timed[key].tokens_per_second.append(run())
        floors.append(measure_floor(prepared, DTYPES[dtype], processor_time=processor_time))
        timed[FLOOR].tokens_per_second.append(prepared.tokens / floors[-1].seconds)
        say(f"  round {number + 1}: " + ", ".join(
            f"{key} {entry.tokens_per_second[-1]:,.0f}"
            for key, entry in timed.items() if entry.tokens_per_second
        ))  # fmt: skip
    floor = {
        "model_flop": floors[0].model_flop, "sae_flop": floors[0].sae_flop,
        "model_rate": statistics.median(f.model_rate for f in floors),
        "sae_rate": statistics.median(f.sae_rate for f in floors),
        "seconds": statistics.median(f.seconds for f in floors),
    }  # fmt: skip
    return Outcome(
        timed, last, [r.processor_seconds if processor_time else r.seconds for r in ours], floor
    )


def _chosen(models: Models, only: Sequence[str] | None) -> list[Contender]:
    """The alternatives that run. Those left out are not made ready either."""
    if only is not None and not only:
        return []
    return [one for one in contenders(models) if only is None or one.key in only]


def _rate(
    work: Callable[[], object], windows: Sequence[Any], prepared: Prepared, processor_time: bool
) -> Any:
    """A function that runs the work and returns tokens per second."""
    tokens = sum(len(window.ids) for window in windows)

    @torch.no_grad()
    def run() -> float:
        return tokens / clock(work, prepared.device, processor_time=processor_time)

    return run


@torch.no_grad()
def _best_size(models: Models, contender: Contender, sample: Sequence[Window], say: Say) -> int:
    """The batch size at which it is fastest on the sample; sizes beyond the memory do not count."""
    prepared = models.prepared
    best, best_seconds = 0, float("inf")
    for size in prepared.shape.batches:
        batches = rows.fixed_batches(sample, size, prepared.device)
        try:
            contender.run(batches[-1])
            seconds = clock(lambda b=batches: [contender.run(x) for x in b], prepared.device)
        except torch.OutOfMemoryError:
            release(prepared.device)
            break
        if seconds < best_seconds:
            best, best_seconds = size, seconds
        elif seconds > CLEARLY_SLOWER * best_seconds:
            break
    if not best:
        raise RuntimeError("out of memory at the smallest batch")
    say(f"  {contender.key}: {best} rows a batch")
    return best


def _best_budget(models: Models, say: Say) -> int:
    """The bare model's fastest number of tokens per batch, on the sample."""
    prepared = models.prepared
    found = {}
    for budget in prepared.shape.budgets:
        batches = rows.budget_batches(prepared.sample(), budget, prepared.device)
        try:
            bare_forward(models, batches[-1:])
            found[budget] = min(
                clock(lambda b=batches: bare_forward(models, b), prepared.device) for _ in range(2)
            )
        except torch.OutOfMemoryError:
            release(prepared.device)
            break
    if not found:
        raise RuntimeError("out of memory at the smallest batch")
    best = min(found, key=lambda budget: found[budget])
    say(f"  bare: {best:,} tokens a batch")
    return best


@torch.no_grad()
def _agreement(models: Models, contender: Contender) -> float:
    """Least cosine, over a batch of documents, with features pooled from Hugging Face's model."""
    prepared = models.prepared
    (batch,) = rows.fixed_batches(prepared.sample()[-8:], 8, prepared.device)
    hidden = models.cut(input_ids=batch.ids, attention_mask=batch.attention)[0]
    acts = models.sae.encode(hidden).float()
    if contender.pool == "mean":
        kept = batch.scored.float()[..., None]
        expected = (acts * kept).sum(dim=1) / kept.sum(dim=1)
    else:
        expected = (acts * batch.attention[..., None]).amax(dim=1)
    got = contender.run(batch)
    return float(np.min(_cosines(got, sparse.csr_matrix(expected.cpu().numpy()))))


def _cosines(one: sparse.csr_matrix, other: sparse.csr_matrix) -> Any:
    dots = np.asarray(one.multiply(other).sum(axis=1)).ravel()
    norms = [np.sqrt(np.asarray(m.multiply(m).sum(axis=1)).ravel()) for m in (one, other)]
    return dots / np.maximum(norms[0] * norms[1], 1e-12)
