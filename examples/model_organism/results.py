"""Finished runs on disk, and their intervals. A run is appended as one line when it is done."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
PUBLISHED = (
    "dataset", "arm", "drop_frac", "seed", "out_of_domain", "in_domain", "coherence", "utility",
)  # fmt: skip
RATES = PUBLISHED[4:]


class Log:
    """Lines of JSON, appended one by one and forced to disk; a line that a kill cut short is ignored."""

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        found = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return found

    def append(self, entry: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def text(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f}–{self.high:.3f})"


Rates = NDArray[np.float64]
"""Share of a question's sampled answers for which something holds, `[n_seeds, n_questions]`."""


def resampled(rates: Rates) -> NDArray[np.float64]:
    """Means over seeds and questions, both drawn with replacement, `[RESAMPLES]`.

    The draws are the same for every arm with as many seeds and questions, so that differences and
    ratios of two arms' results are paired.
    """
    n_seeds, n_questions = rates.shape
    rng = np.random.default_rng(0)
    seeds = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), RESAMPLES) / n_seeds
    questions = (
        rng.multinomial(n_questions, np.full(n_questions, 1 / n_questions), RESAMPLES) / n_questions
    )
    means: NDArray[np.float64] = np.einsum("rs,sq,rq->r", seeds, rates, questions, optimize=True)
    return means


def interval(rates: Rates) -> Interval:
    return spread(float(rates.mean()), resampled(rates))


def spread(mean: float, draws: NDArray[np.float64]) -> Interval:
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(mean, float(low), float(high))


def cut(rates: Rates, reference: Rates) -> Interval:
    """By which share of the reference's rate an arm's is lower."""
    mean = 1 - float(rates.mean()) / float(reference.mean())
    return spread(mean, 1 - resampled(rates) / np.maximum(resampled(reference), 1e-9))


@dataclass(frozen=True)
class Cell:
    """One arm at one fraction on one dataset, over its seeds."""

    dataset: str
    arm: str
    drop_frac: float
    rates: dict[str, Rates]
    precision: float
    """Share of bad rows among those dropped; NaN when none was."""
    recall: float
    """Share of the bad rows that was dropped."""


def cells(runs: Iterable[dict[str, Any]]) -> dict[tuple[str, str, float], Cell]:
    """Runs by dataset, arm and fraction."""
    groups: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["dataset"], run["arm"], run["drop_frac"]), []).append(run)
    found = {}
    for key, members in groups.items():
        members.sort(key=lambda run: run["seed"])
        rates = {name: np.array([run["questions"][name] for run in members]) for name in RATES}
        found[key] = Cell(
            *key,
            rates,
            precision=mean_of(members, lambda run: run["precision"]),
            recall=mean_of(members, lambda run: run["recall"]),
        )
    return found


def mean_of(
    runs: Sequence[dict[str, Any]], value: Callable[[dict[str, Any]], float | None]
) -> float:
    known = [found for run in runs if (found := value(run)) is not None]
    return float(np.mean(known)) if known else float("nan")


def published(runs: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The results file: every run's rates."""
    ordered = sorted(runs, key=lambda r: (r["dataset"], r["arm"], r["drop_frac"], r["seed"]))
    return {"runs": [{name: run[name] for name in PUBLISHED} for run in ordered]}


def write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
