"""Score a dataset: the main path of the product, from rows to a scores file.

Open the job (lock, fingerprint, folder), load the scorer, for each shard that is missing keep what
prepare -> encode -> measure gave, publish. Where that work is done is in engine.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from saefilter.artifacts.publish import exclusive, refuse_existing
from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.rows.inputs import open_input
from saefilter.rows.read import Source
from saefilter.rows.sides import ANSWERS, KINDS
from saefilter.scoring.cascade.finish import CascadeRun, CascadeShards
from saefilter.scoring.cascade.run import Reading, Step, read_in_steps
from saefilter.scoring.cascade.screen import screen_shard
from saefilter.scoring.cascade.search import rows_of_budget
from saefilter.scoring.engine import Engine, LocalEngine, ProcessEngine, default_workers
from saefilter.scoring.job import (
    Job,
    Receipt,
    UnusableInput,
    changed_input,
    fingerprint_digest,
    fingerprint_of,
    kind_of_data,
    memory_limit,
    plan_shards,
    read_shards,
)
from saefilter.scoring.join import RunIdentity, join_shards
from saefilter.scoring.part import Part, PartFile, publish_part
from saefilter.scoring.shard import score_shard
from saefilter.scoring.workfolder import WorkFolder, work_folder
from saefilter.storage import Location, names_in, same_file
from saefilter.watch import Interrupted, StopRequest, Watch, stop_on_signals

if TYPE_CHECKING:
    from saefilter.scoring.scorer import RowScorer
    from saefilter.settings import ScoreSettings


def score_file(
    source: Source,
    output: Location,
    settings: ScoreSettings,
    *,
    part: Part | None = None,
    overwrite: bool = False,
    resume: bool = False,
    scorer: RowScorer | None = None,
    watch: Watch | None = None,
    again: str | None = "the same command with --resume scores the rest",
) -> None:
    """Score every row of `source`, or those of a part of it, and publish the scores at `output`.

    Shards go to a folder beside `output`; when the run is killed they stay, and `resume` scores only
    what is missing; `again` tells the user how, None where nobody will. A part has a lock and a folder of
    its own, so that parts need not know of each other. `scorer`, loaded with these settings, saves loading
    when several files are scored.

    Raises SaefilterError, and Interrupted after Ctrl-C or SIGTERM; then `output` is as it was.
    """
    watch = watch or Watch()
    settings = settings.of_data(source.path)
    _refuse_what_is_read(source, settings, output)
    kind = kind_of_data(source, settings.columns)
    if settings.cheap_reader is not None:
        refuse_cascade(part, kind, str(source.path))
    if not resume:
        refuse_existing([output], overwrite=overwrite)
    with exclusive(output):
        if not resume:
            refuse_existing([output], overwrite=overwrite)
            _refuse_unfinished(output, overwrite=overwrite)
        input_sha256, n_rows = source.sha256(), _count(source)
        rows_of_budget(
            settings.budget, n_rows
        )  # one that is too small shows before the model loads
        with _engine(settings, scorer, watch) as engine:
            made_of = fingerprint_of(input_sha256, n_rows, settings, engine.identity)
            shards = plan_shards(n_rows, settings.shard_rows)
            shards = part.among(shards) if part else shards
            if resume and _is_done(output, part, fingerprint_digest(made_of), overwrite=overwrite):
                watch.say(f"{output} is complete already")
                folder = WorkFolder(work_folder(output), made_of, shards)
            else:
                open_folder = WorkFolder.resume if resume else WorkFolder.begin
                folder = open_folder(work_folder(output), made_of, shards, overwrite=overwrite)
                receipts = folder.receipts(verify=True)
                with _going_on_later(folder, receipts, watch, again) as stop:
                    job = Job(source, settings, folder.path, fingerprint_digest(made_of),
                              memory_limit(receipts.values()), kind)  # fmt: skip
                    reading = _read(job, folder, receipts, engine, stop, watch)
                    if stop.is_set() and (len(receipts) < len(shards) or reading is None):
                        raise Interrupted(stop.signal_number, _how_to_go_on(folder, again))
                with _no_use_in_going_on(folder):
                    if source.sha256() != input_sha256:
                        raise changed_input(source)
                    run = RunIdentity(engine.identity, str(source.path), kind)
                    _publish(folder, receipts, output, run, part, reading, settings)
        folder.remove()


def _count(source: Source) -> int:
    if not (n_rows := source.count_rows()):
        raise SaefilterError("there are no rows in it", where=str(source.path))
    return n_rows


def _read(
    job: Job,
    folder: WorkFolder,
    receipts: dict[int, Receipt],
    engine: Engine,
    stop: StopRequest,
    watch: Watch,
) -> Reading | None:
    """Do the work of the missing shards, adding their receipts; of a cascade also what comes after the cheap
    reader has seen all rows. Less where it is asked to stop."""
    is_cascade = job.settings.cheap_reader is not None
    begun: dict[str, Step] | None = None
    if is_cascade and engine.identity.exits and job.settings.budget is None:
        # of a budget is known how many rows are read, and how many go on is not known before they do
        from saefilter.scoring.cascade.sweep import Crew, sweep  # needs torch

        begun = sweep(folder, receipts, job, Crew(engine, stop, watch))
        if begun is None:
            return None
    elif is_cascade and str(job.settings.cascade).startswith("layer:"):
        watch.say("No early exit here: rows that are read begin at the first layer again")
    work = screen_shard if is_cascade else score_shard
    missing = [shard for shard in folder.shards if shard.number not in receipts]
    for receipt in engine.run(
        work, job, read_shards(job, missing), stop, lambda tokens: watch.advance(0, tokens)
    ):
        receipts[receipt.shard] = receipt
        watch.advance(receipt.rows, 0)
    unfinished = len(receipts) < len(folder.shards)
    if not is_cascade or unfinished or not any(one.scored for one in receipts.values()):
        return None
    return read_in_steps(_as_written(folder, receipts), job, engine, stop, watch, begun)


def _as_written(folder: WorkFolder, receipts: dict[int, Receipt]) -> WorkFolder:
    return replace(folder, written={one.shard: one.sha256 for one in receipts.values()})


def _publish(
    folder: WorkFolder,
    receipts: dict[int, Receipt],
    output: Location,
    run: RunIdentity,
    part: Part | None,
    reading: Reading | None,
    settings: ScoreSettings,
) -> None:
    folder = _as_written(folder, receipts)
    if part is not None:
        publish_part(folder, receipts, output, run, part)
    elif reading is None:
        join_shards(folder, receipts, output, run)
    else:
        run = replace(run, cascade=CascadeRun(reading, settings))
        join_shards(CascadeShards(reading), receipts, output, run)


@contextmanager
def _engine(settings: ScoreSettings, scorer: RowScorer | None, watch: Watch) -> Iterator[Engine]:
    """Where the work will be done, with the scorer loaded there."""
    from saefilter.scoring.scorer import RowScorer

    if settings.engine == "ray" and scorer is None:
        from saefilter.scoring.ray_engine import RayEngine

        # of a lost node Ray prints the last lines to standard output, which may be asked for as JSON
        with redirect_stdout(sys.stderr), closing(RayEngine(settings, watch)) as cluster:
            yield _told(cluster, watch)
        return
    n_workers = 1 if scorer else settings.workers or default_workers(settings)
    if n_workers > 1:
        watch.say(f"{n_workers} worker processes")
        with closing(ProcessEngine(settings, n_workers)) as several:
            yield _told(several, watch)
        return
    if scorer is not None:
        yield _told(LocalEngine(scorer), watch)
        return
    with closing(RowScorer.load(settings, watch.say)) as loaded:
        yield _told(LocalEngine(loaded), watch)


def _told(engine: Engine, watch: Watch) -> Engine:
    for line in engine.identity.reasons:
        watch.say(line)
    return engine


@contextmanager
def _going_on_later(
    folder: WorkFolder, receipts: dict[int, Receipt], watch: Watch, again: str | None
) -> Iterator[StopRequest]:
    """For the work on the missing shards: whatever ends it early says what is safe and how to go on."""
    rows = sum(shard.rows for shard in folder.shards)
    watch.plan(rows, sum(receipt.rows for receipt in receipts.values()))
    if receipts:
        watch.say(f"Going on: {len(receipts):,} of {len(folder.shards):,} shards are done")
    try:
        with stop_on_signals(watch.say) as stop:
            yield stop
    except UnusableInput:
        folder.remove()
        raise
    except KeyboardInterrupt:
        raise Interrupted(stop.signal_number, _how_to_go_on(folder, again)) from None
    except SaefilterError as error:
        remedy = " ".join(filter(None, [error.remedy, _how_to_go_on(folder, again)]))
        raise SaefilterError(error.problem, where=error.where, remedy=remedy) from error
    if (limit := memory_limit(receipts.values())) is not None:
        watch.say(
            f"Memory did not suffice for batches of more than {limit:,} tokens; they were halved"
        )


@contextmanager
def _no_use_in_going_on(folder: WorkFolder) -> Iterator[None]:
    """Removes what is done where the input itself is the trouble."""
    try:
        yield
    except UnusableInput:
        folder.remove()
        raise


def _how_to_go_on(folder: WorkFolder, again: str | None) -> str:
    """What is safe, in a sentence; removes the folder when nothing is."""
    if again is None:
        folder.remove()
        return "Nothing was written."
    try:
        done = len(folder.receipts())
        pilot = {shard.receipt for shard in folder.shards} & names_in(folder.path / "pilot-seen")
    except (SaefilterError, OSError):  # a store that is out of reach: nothing is known of them
        return f"What is done is in {folder.path}: {again}."
    if not done and not pilot:
        folder.remove()
        return "No shard was finished, nothing was written."
    if done == len(folder.shards):  # of a cascade, whose model reads on
        return f"What is done is safe in {folder.path}: {again}."
    return f"{done:,} of {len(folder.shards):,} shards are safe in {folder.path}: {again}."


def _refuse_what_is_read(source: Source, settings: ScoreSettings, output: Location) -> None:
    """Raises SaefilterError where the scores would replace data, reference or toxic set."""
    source.refuse_to_join([output])
    if settings.reference is not None:
        open_input(settings.reference).refuse_to_join([output])
    own_set = Path(settings.toxic_set or "")
    if own_set.is_file() and same_file(output, own_set):
        raise SaefilterError(
            f"{output} is the toxic set and would be overwritten",
            remedy="Choose another name with -o.",
        )


def refuse_cascade(part: Part | None, kind: str, data: str) -> None:
    """Raises SaefilterError for a cascade of what it cannot be of."""
    if part is not None:
        raise SaefilterError(
            "--part and --cascade exclude each other: which rows are nearest is known of all rows alone",
            remedy="Use --workers or --engine ray, or score the parts without a cascade.",
        )
    if kind != ANSWERS:
        raise SaefilterError(
            f"--cascade is of rows that train on an answer as it stands, and these are {KINDS[kind]}",
            where=data,
            remedy="Leave --cascade out.",
        )


def _refuse_unfinished(output: Location, *, overwrite: bool) -> None:
    folder = work_folder(output)
    if folder.is_dir() and not overwrite:
        raise SaefilterError(
            f"an earlier run was not finished; its shards are in {folder}",
            remedy="Use --resume to go on, or --overwrite to start anew.",
        )


def _is_done(output: Location, part: Part | None, fingerprint: str, *, overwrite: bool) -> bool:
    """Whether the scores, or a part of them, are there and are the ones that are asked for. Raises
    SaefilterError for others, unless they may be overwritten."""
    if not (os.path.lexists(output) if isinstance(output, Path) else output.exists()):
        return False
    if part is None:
        there: tuple[Part | None, str] = (None, Scores.open(output).provenance.fingerprint)
    else:
        file = PartFile.open(output)
        there = (file.part, file.digest)
    if there == (part, fingerprint):
        return True
    refuse_existing([output], overwrite=overwrite)
    return False
