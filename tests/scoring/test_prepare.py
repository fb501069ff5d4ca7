"""Rows prepared in another process are those prepared here."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import chat

from saefilter.encode.presets import load_preset
from saefilter.encode.rendering import RendererSpec
from saefilter.errors import SaefilterError
from saefilter.rows.read import Source
from saefilter.rows.rendered import RenderOptions
from saefilter.rows.row import Row
from saefilter.scoring.prepare import Preparer, default_processes, prepare
from saefilter.scoring.score import score_file
from saefilter.scoring.scorer import RowScorer
from saefilter.settings import ScoreSettings

ROWS = [
    Row(0, 1, chat("Hello?", "A first answer.")),
    Row(1, 2, None, "not readable JSON"),
    Row(2, 3, chat("Hello?", "")),
    Row(3, 4, {"text": "words " * 700}),
]


def test_another_process_prepares_the_same() -> None:
    spec = RendererSpec(load_preset("minilm"), 512, False, RenderOptions())
    renderer = spec.load()
    here = prepare(renderer, ROWS)
    several = Preparer(renderer, spec, 1)
    try:
        there = several.prepare(ROWS)
    finally:
        several.close()
    assert here.problem == [None, "not readable JSON", "the answer is empty", None]
    assert [window.row for window in here.windows] == [0, 3, 3]
    for name in ("row_id", "line", "file", "row_hash", "problem", "rendered"):
        assert getattr(here, name) == getattr(there, name)
    for ours, theirs in zip(here.windows, there.windows, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_scores_do_not_depend_on_who_prepares(
    jsonl: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    data = jsonl([chat(f"Question {i}?", f"Answer number {i}. " * (i % 5 + 1)) for i in range(30)])
    tables = []
    for processes in (0, 1):
        settings = ScoreSettings(
            "minilm", device="cpu", dtype="fp32", prepare_processes=processes, shard_rows=8
        )
        scorer = RowScorer.load(settings)
        output = tmp_path / f"{processes}.parquet"
        try:
            score_file(Source.open(data), output, settings, scorer=scorer)
        finally:
            scorer.close()
        tables.append(pq.read_table(output))
    assert tables[0].equals(tables[1])


@pytest.mark.parametrize(("cores", "processes"), [(1, 0), (3, 0), (4, 1), (16, 4), (64, 4)])
def test_a_process_for_four_cores_beside_a_gpu_and_none_beside_a_cpu(
    monkeypatch: pytest.MonkeyPatch, cores: int, processes: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert default_processes("cuda") == processes
    assert default_processes("cpu") == 0


def test_a_dead_process_is_an_error_and_the_others_end() -> None:
    spec = RendererSpec(load_preset("minilm"), 512, False, RenderOptions())
    several = Preparer(spec.load(), spec, 2)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(several.prepare, [ROWS] * 8))
    mine = multiprocessing.active_children()
    assert len(mine) == 2
    assert mine[0].pid is not None
    os.kill(mine[0].pid, signal.SIGKILL)
    mine[0].join()
    with pytest.raises(SaefilterError, match=r"a worker process died.*--prepare-workers"):
        list(map(several.prepare, [ROWS] * 1000))  # until Python has noticed
    several.close()
    assert not any(process.is_alive() for process in mine)
