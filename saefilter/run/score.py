"""Score a dataset: plan shards, score those that are missing, join them. The main path of the product."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from saefilter.errors import SaefilterError
from saefilter.rows.read import Source
from saefilter.run.engine import Engine, LocalEngine, ProcessEngine, default_workers
from saefilter.run.interrupt import Interrupted, stop_on_signals
from saefilter.run.join import join_shards
from saefilter.run.publish import exclusive, refuse_existing
from saefilter.run.scores import Scores
from saefilter.run.shards import (
    Job,
    Receipt,
    UnusableInput,
    changed_input,
    digest_of,
    fingerprint_of,
    memory_limit,
    plan_shards,
)
from saefilter.run.summary import ScoreSummary, summarise
from saefilter.run.workfolder import WorkFolder, work_folder
from saefilter.watch import Watch

if TYPE_CHECKING:
    from saefilter.run.chunks import ChunkScorer
    from saefilter.settings import ScoreSettings


def score_file(
    source: Source,
    output: Path,
    settings: ScoreSettings,
    *,
    overwrite: bool = False,
    resume: bool = False,
    chunk_scorer: ChunkScorer | None = None,
    watch: Watch | None = None,
) -> ScoreSummary:
    """Score every row of `source` and publish the scores at `output`.

    Shards go to a folder beside `output`; when the run is killed they stay, and `resume` scores only
    what is missing. `chunk_scorer`, loaded with these settings, saves loading when several files are
    scored.

    Raises SaefilterError, and Interrupted after Ctrl-C or SIGTERM; then `output` is as it was.
    """
    watch = watch or Watch()
    source.refuse_to_join([output])
    if not resume:
        refuse_existing([output], overwrite=overwrite)
    with exclusive(output):
        if not resume:
            refuse_existing([output], overwrite=overwrite)
            _refuse_unfinished(output, overwrite=overwrite)
        input_sha256 = source.sha256()
        n_rows = source.count_rows()
        if not n_rows:
            raise SaefilterError("there are no rows in it", where=str(source.path))
        with _engine(settings, chunk_scorer, watch) as engine:
            made_of = fingerprint_of(input_sha256, n_rows, settings, engine.identity)
            if resume and _is_done(output, digest_of(made_of), overwrite=overwrite):
                watch.say(f"{output} is complete already")
            else:
                at, shards = work_folder(output), plan_shards(n_rows, settings.shard_rows)
                if resume:
                    folder = WorkFolder.resume(at, made_of, shards, overwrite=overwrite)
                else:
                    folder = WorkFolder.begin(at, made_of, shards)
                receipts = _score_missing(source, settings, folder, engine, watch)
                if source.sha256() != input_sha256:
                    folder.remove()
                    raise changed_input(source)
                join_shards(folder, receipts, source, output, engine.identity)
        WorkFolder(work_folder(output), made_of, []).remove()
    return summarise(source, Scores.open(output))


def _score_missing(
    source: Source, settings: ScoreSettings, folder: WorkFolder, engine: Engine, watch: Watch
) -> dict[int, Receipt]:
    """Receipts of all shards, after scoring those that have none yet."""
    receipts = folder.receipts(verify=True)
    missing = [shard for shard in folder.shards if shard.number not in receipts]
    done = sum(receipt.rows for receipt in receipts.values())
    watch.plan(folder.shards[-1].end_row, done)
    if receipts:
        watch.say(f"Going on: {len(receipts):,} of {len(folder.shards):,} shards are done")
    job = Job(
        source,
        settings,
        folder.path,
        digest_of(folder.fingerprint),
        memory_limit(receipts.values()),
    )
    try:
        with stop_on_signals(watch.say) as stop:
            for receipt in engine.run(job, missing, stop, lambda n: watch.advance(0, n)):
                receipts[receipt.shard] = receipt
                watch.advance(receipt.rows, 0)
            if stop.is_set() and len(receipts) < len(folder.shards):
                raise Interrupted(stop.signal_number, _how_to_go_on(folder))
    except UnusableInput:
        folder.remove()
        raise
    except KeyboardInterrupt:
        raise Interrupted(stop.signal_number, _how_to_go_on(folder)) from None
    except SaefilterError as error:
        remedy = " ".join(filter(None, [error.remedy, _how_to_go_on(folder)]))
        raise SaefilterError(error.problem, where=error.where, remedy=remedy) from error
    if (limit := memory_limit(receipts.values())) is not None:
        watch.say(
            f"Memory did not suffice for batches of more than {limit:,} tokens; they were halved"
        )
    return receipts


def _how_to_go_on(folder: WorkFolder) -> str:
    """What is safe, in a sentence; removes the folder when nothing is."""
    if not (done := len(folder.receipts())):
        folder.remove()
        return "No shard was finished, nothing was written."
    return (
        f"{done:,} of {len(folder.shards):,} shards are safe in {folder.path}: the same command with "
        "--resume scores the rest."
    )


@contextmanager
def _engine(settings: ScoreSettings, scorer: ChunkScorer | None, watch: Watch) -> Iterator[Engine]:
    from saefilter.run.chunks import ChunkScorer

    n_workers = 1 if scorer else settings.workers or default_workers(settings)
    if n_workers > 1:
        watch.say(f"{n_workers} worker processes")
        with closing(ProcessEngine(settings, n_workers)) as several:
            yield _told(several, watch)
        return
    if scorer is not None:
        yield _told(LocalEngine(scorer), watch)
        return
    with closing(ChunkScorer.load(settings, watch.say)) as loaded:
        yield _told(LocalEngine(loaded), watch)


def _told(engine: Engine, watch: Watch) -> Engine:
    for line in engine.identity.reasons:
        watch.say(line)
    return engine


def _refuse_unfinished(output: Path, *, overwrite: bool) -> None:
    folder = work_folder(output)
    if folder.is_dir() and not overwrite:
        raise SaefilterError(
            f"an earlier run was not finished; its shards are in {folder}",
            remedy="Use --resume to go on, or --overwrite to start anew.",
        )


def _is_done(output: Path, fingerprint: str, *, overwrite: bool) -> bool:
    """Whether the scores are there and are the ones that are asked for. Raises SaefilterError for
    others, unless they may be overwritten."""
    if not os.path.lexists(output):
        return False
    if Scores.open(output).provenance.fingerprint == fingerprint:
        return True
    refuse_existing([output], overwrite=overwrite)
    return False
