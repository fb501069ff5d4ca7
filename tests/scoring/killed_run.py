"""Score a file in this process, and kill it (SIGKILL) at a chosen moment. Run by test_resume.py.

    python killed_run.py DATA OUTPUT LOG SHARD_ROWS MOMENT COUNT [CASCADE]

A moment is `read`, `score`, `shard-write`, `publish` or `join` at its COUNT-th time, a number of
seconds after the model was loaded, or `never`. Shards whose scoring begins are noted in LOG.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from saefilter.artifacts import publish
from saefilter.rows.inputs import open_input
from saefilter.scoring import job as shards
from saefilter.scoring import join, score
from saefilter.scoring.cascade import run as cascade_run
from saefilter.scoring.scorer import RowScorer
from saefilter.settings import ScoreSettings


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at(owner: Any, name: str, count: int, last_act: Callable[..., None]) -> None:
    """Die at the `count`-th call of a function, after `last_act` with its arguments."""
    real, calls = getattr(owner, name), 0

    def wrapped(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            last_act(*args, **options)
            die()
        return real(*args, **options)

    setattr(owner, name, wrapped)


def half_written(table: Any, path: Path, **options: Any) -> None:
    real_write(table, path, **options)
    with open(path, "rb+") as file:
        file.truncate(path.stat().st_size // 2)


def nothing(*args: Any, **options: Any) -> None:
    pass


data, output, log, shard_rows, moment, times, *cheap = sys.argv[1:]
count = int(times)
torch.set_num_threads(1)  # rounding must not depend on what else the machine does
cascade = {"cascade": cheap[0], "nearest": 0.2, "recall": 0.7} if cheap else {}
scorer = RowScorer.load(ScoreSettings("minilm", device="cpu", **cascade))

real_write = pq.write_table
real_score = score.score_shard


def noting(job: Any, scorer: Any, read: Any, advance: Any) -> Any:
    with open(log, "a") as file:
        file.write(f"{read.shard.number}\n")
    return real_score(job, scorer, read, advance)


score.score_shard = noting
cascade_run.score_shard = noting
if moment == "read":
    at(shards, "islice", count, nothing)
elif moment == "score":
    at(RowScorer, "measure", count, nothing)
elif moment == "shard-write":
    at(pq, "write_table", count, half_written)
elif moment == "publish":
    at(publish.os, "replace", count, nothing)
elif moment == "join":
    at(join, "_provenance", count, nothing)
elif moment != "never":
    threading.Thread(target=lambda: (time.sleep(float(moment)), die()), daemon=True).start()
score.score_file(
    open_input(data), Path(output), replace(scorer.settings, shard_rows=int(shard_rows)),
    resume=True, scorer=scorer,
)  # fmt: skip
