"""`saefilter score` as a user runs it: a process of its own, timed from outside, start-up included."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.common import user_environment
from benchmarks.throughput.limits import release
from benchmarks.throughput.prepare import Prepared


@dataclass(frozen=True)
class Run:
    """One run."""

    seconds: float
    """Of the whole process, by the clock."""
    processor_seconds: float
    """Of all its threads."""
    summary: dict[str, Any]
    """What `--json` printed."""
    scores: Path

    def distances(self) -> NDArray[np.float64]:
        """Of the scored rows, in their order."""
        table = pq.read_table(self.scores, columns=["distance"])
        return table["distance"].drop_null().to_numpy()

    def geometry_share(self) -> float | None:
        """Geometry's seconds over the run's; None where the summary does not say."""
        timings = self.summary.get("timings")
        return timings["geometry"] / self.summary["seconds"] if timings else None


def score(prepared: Prepared, dtype: str, folder: Path) -> Run:
    """Score the shape's rows. Raises RuntimeError with what the command said when it fails."""
    scores = folder / f"{dtype}.scores.parquet"
    command = [
        sys.executable, "-m", "saefilter", "score", str(prepared.data), "-o", str(scores),
        *prepared.options, "--device", str(prepared.device), "--dtype", dtype,
        "--overwrite", "--json",
    ]  # fmt: skip
    release(prepared.device)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=user_environment()
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(seconds, processor, json.loads(done.stdout), scores)


def rank_correlation(one: Run, other: Run) -> float:
    """Spearman's, of two runs' distances."""
    return float(spearmanr(one.distances(), other.distances()).statistic)
