"""A trial: some rows of a dataset scored for real, in a process of its own, to learn what all of them take.

Its process begins as that of `saefilter score` does, so that what loading takes is measured too, once.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from saefilter.columns import Columns
from saefilter.encode.plan import Rows
from saefilter.errors import SaefilterError
from saefilter.rows.read import Source
from saefilter.rows.row import Row
from saefilter.rows.sides import kind_of
from saefilter.scoring.job import Job, Shard, ShardRows
from saefilter.scoring.prepare import prepare, understood_of
from saefilter.scoring.processes import be_a_worker, died_is_an_error, end_pool

if TYPE_CHECKING:
    import psutil

    from saefilter.encode.encoder import Encoder
    from saefilter.rows.render import PlainRenderer
    from saefilter.scoring.scorer import RowScorer
    from saefilter.settings import ScoreSettings
    from saefilter.toxic.toxicset import ToxicSet

SAMPLE_ROWS = 1000
"""Rows whose tokens are counted."""
TRIAL_SECONDS, TRIAL_ROWS = 8.0, 512
"""Of scoring, and at most that many rows."""
FEWEST = 4
"""Rows below which a trial says nothing."""
ALONE = 0.6
"""Share of its lanes' time that a process computes in at least, where it has the processor to itself."""
FIRST_ROWS = 16
"""Rows that are scored twice before the others: what the first time took longer is a run's once."""
SCORED_PER_READ = 0.7
"""Tokens scored of those read, where the tokenizer is not at hand."""
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class Sample:
    """Some rows of a dataset, evenly spread."""

    source: Source
    total: int
    rows: list[Row]
    kind: str
    """What they train on, of KINDS."""


@dataclass(frozen=True)
class Trial:
    """What scoring some rows came to."""

    rows: int
    start: float
    """Seconds from the process's beginning to its first row, and what the first rows took longer."""
    seconds: float
    """Of the rows."""
    scores_bytes: float
    """Of a row in the scores file."""
    peak_bytes: int
    """Of memory: the card's, or of the process."""
    device: str
    processor: tuple[float, float]
    """Seconds of all cores: `start`, and of a row."""
    shared_cores: int
    """Lanes, where other processes had much of the processor meanwhile; else 0."""

    @property
    def row(self) -> float:
        """Seconds of a row."""
        return self.seconds / self.rows


def sample_of(source: Source, columns: str | None) -> Sample:
    """Rows of it. Raises SaefilterError where none can be scored."""
    total = source.count_rows()
    if not total:
        raise SaefilterError("there are no rows in it", where=str(source.path))
    every = max(1, total // SAMPLE_ROWS)
    rows = list(source.rows(set(range(0, total, every))))
    outcomes = [understood_of(row, Columns.parse(columns)) for row in rows]
    kinds = Counter(kind_of(one) for one in outcomes if not isinstance(one, str))
    if not kinds:
        raise SaefilterError(
            f"no row can be scored; the first: {outcomes[0]}", where=str(source.path)
        )
    return Sample(source, total, rows, kinds.most_common(1)[0][0])


def count_tokens(sample: Sample, renderer: PlainRenderer | None, count: int) -> Rows:
    """Tokens of `count` such rows; without a renderer a guess."""
    n = len(sample.rows)
    about = f"{n:,} of its rows" if n < sample.total else f"all {n:,} rows"
    if renderer is None:
        letters = sum(len(json.dumps(row.data, ensure_ascii=False)) for row in sample.rows)
        tokens = letters / CHARACTERS_PER_TOKEN / n
        rests_on = f"{about} at {CHARACTERS_PER_TOKEN} characters a token: its tokenizer is not on this machine"
        return Rows(count, tokens, tokens * SCORED_PER_READ, rests_on)
    windows = prepare(renderer, sample.rows, sample.kind).windows
    tokens = sum(len(window.ids) for window in windows) / n
    scored = sum(int(np.count_nonzero(window.scored)) for window in windows) / n
    if not scored:
        raise SaefilterError("no token of its rows is scored", where=str(sample.source.path))
    return Rows(count, tokens, scored, f"tokens counted in {about}")


def is_worth_trying(seconds_per_row: float) -> bool:
    """Whether a few rows are scored in the time of a trial, where one takes about so long."""
    return FEWEST * seconds_per_row <= TRIAL_SECONDS


def try_rows(settings: ScoreSettings, sample: Sample, seconds_per_row: float) -> Trial:
    """Score rows of the sample, as many as there is time for, and throw the scores away. Raises
    SaefilterError."""
    settings = replace(settings, reference=None, workers=1, on_bad_row="quarantine")
    first = min(FIRST_ROWS, max(1, int(TRIAL_SECONDS / 4 / seconds_per_row)))
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), be_a_worker)
    try:
        with died_is_an_error("Use a smaller preset, or --no-trial."):
            return pool.submit(_try, settings, sample, first).result()
    finally:
        end_pool(pool)


def _try(settings: ScoreSettings, sample: Sample, first: int) -> Trial:
    import psutil

    from saefilter.scoring.engine import LocalEngine
    from saefilter.scoring.shard import score_shard

    process = psutil.Process()
    began, peak = process.create_time(), 0

    def look(done: int) -> None:
        nonlocal peak
        peak = max(peak, process.memory_info().rss)

    with closing(_loaded(settings)) as scorer, tempfile.TemporaryDirectory() as name:
        start, processor_start = time.time() - began, _processor(process)
        folder = Path(name)
        job = Job(sample.source, settings, folder, "", None, sample.kind)
        engine = LocalEngine(scorer)

        def timed(rows: list[Row], shards: int) -> tuple[float, int]:
            clock, sizes = time.perf_counter(), 0
            cut = _as_shards(rows, shards)
            for receipt in engine.run(score_shard, job, cut, threading.Event(), look):
                sizes += (folder / f"{receipt.shard:06d}.parquet").stat().st_size
            return time.perf_counter() - clock, sizes

        few = spread(sample.rows, first)
        cold, _ = timed(few, 1)
        warm, few_bytes = timed(few, 1)
        rows = spread(sample.rows, min(TRIAL_ROWS, int(TRIAL_SECONDS * len(few) / warm)))
        # one shard, where all rows are one; else two, so that they overlap as shards do
        shards = 1 if sample.total <= settings.shard_rows else 2
        before = _processor(process)
        seconds, n_bytes = timed(rows, shards)
        spent = _processor(process) - before
        device = scorer.encoder.device
        if device.type == "cuda":
            import torch

            peak = torch.cuda.max_memory_allocated(device)
    more = len(rows) - shards * len(few)  # each file has a part that does not grow with its rows
    per_row = (n_bytes - shards * few_bytes) / more if more > 0 else n_bytes / len(rows)
    start += max(0.0, cold - warm)
    lanes = scorer.encoder.lanes.n
    busy = device.type == "cpu" and seconds > 1 and spent < ALONE * seconds * lanes
    processor = processor_start, spent / len(rows)
    shared = lanes if busy else 0
    return Trial(len(rows), start, seconds, per_row, peak, str(device), processor, shared)


def _processor(process: psutil.Process) -> float:
    """Seconds of all cores that it has had."""
    times = process.cpu_times()
    return float(times.user + times.system)


def spread(rows: list[Row], count: int) -> list[Row]:
    """So many of them, evenly spread; all where they are fewer."""
    count = max(1, min(count, len(rows)))
    return [rows[i * len(rows) // count] for i in range(count)]


def _as_shards(rows: list[Row], count: int) -> Iterator[ShardRows]:
    for number in range(count):
        part = rows[number * len(rows) // count : (number + 1) * len(rows) // count]
        if part:
            yield ShardRows(Shard(number, 0, len(part)), part, time.time(), 0.0)


def _loaded(settings: ScoreSettings) -> RowScorer:
    """The scorer of a run. A preset without a toxic set, which a run would make first, gets one that
    means nothing: it costs as much to measure by."""
    from saefilter.encode.presets import preset_of
    from saefilter.scoring.scorer import RowScorer

    if settings.toxic_set or preset_of(settings).toxic_set:
        return RowScorer.load(settings)
    from saefilter.encode.encoder import Encoder
    from saefilter.geometry.scorer import Scorer

    encoder = Encoder.of(settings)
    scorer = Scorer(
        stand_in(encoder), encoder.sae.directions(), metric=settings.metric,
        neighbours=settings.neighbours, device=str(encoder.device),
    )  # fmt: skip
    return RowScorer(encoder, scorer, settings)


def stand_in(encoder: Encoder, features: int = 200) -> ToxicSet:
    """A set of features that mean nothing, half of each side."""
    from saefilter.toxic.toxicset import ToxicFeature, ToxicSet

    d_model, d_sae = encoder.sae.d_model, encoder.sae.d_sae
    chosen = np.linspace(0, d_sae - 1, min(features, d_sae // 2), dtype=int)
    return ToxicSet(
        name="none", model=encoder.preset.model, sae=encoder.preset.sae, hook=encoder.hook,
        d_model=d_model, d_sae=d_sae, fingerprint=encoder.sae.fingerprint, pool="mean", method={},
        sources=[],
        features=[
            ToxicFeature(int(index), ("toxic", "benign")[i % 2], 1.0, "", 1.0, 0.5, 1.0)
            for i, index in enumerate(chosen)
        ],
        scale=[1.0] * d_sae, intercept=0.0, direction=[1.0] + [0.0] * (d_model - 1),
        direction_mean=[0.0] * d_model, largest=[1e9] * d_sae,
    )  # fmt: skip
