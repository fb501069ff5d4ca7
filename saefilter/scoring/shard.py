"""What is done with one shard, wherever: its rows are prepared, encoded, measured, and what came of it is written
into the job's folder, then the receipt that says that it is whole.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from saefilter.artifacts.integrity import file_sha256
from saefilter.artifacts.publish import publishing
from saefilter.errors import SaefilterError, is_out_of_memory
from saefilter.rows.read import Source
from saefilter.rows.row import commonest, kind_of_reason
from saefilter.scoring.job import Job, Receipt, ShardRows, UnusableInput
from saefilter.scoring.processes import give_back_free_memory
from saefilter.stats.tally import Tally

if TYPE_CHECKING:
    from saefilter.scoring.prepare import Prepared
    from saefilter.scoring.scorer import Measured, RowScorer


def score_shard(
    job: Job, scorer: RowScorer, read: ShardRows, advance: Callable[[int], None]
) -> Receipt:
    """Score one shard and write it and its receipt into the job's folder, each whole or not at all.

    `advance` is told the tokens done. Several threads may score shards of a job at the same time.
    Raises SaefilterError.
    """
    spent = {"read": read.seconds}
    with no_memory_is_an_error():
        prepared = scorer.preparer.prepare(read.rows, job.kind)
        spent["render"] = prepared.seconds
        with timed(spent, "encode"):
            encoded, read_as = scorer.read(prepared, advance)
        with timed(spent, "geometry"):
            measured = scorer.measure(prepared, encoded, read_as)
    return written(job, scorer, read, prepared, measured, encoded.tally, spent)


def written(
    job: Job,
    scorer: RowScorer,
    read: ShardRows,
    prepared: Prepared,
    measured: Measured,
    tally: Tally,
    spent: dict[str, float],
) -> Receipt:
    """Write what was found out of a shard's rows, then its receipt. `spent`: seconds by stage. Raises
    SaefilterError for a row that cannot be scored, where that is asked for."""
    shard, table = read.shard, measured.table
    bad = table.filter(pc.is_valid(table["reason"]))
    if job.settings.on_bad_row == "error":
        _refuse_bad_rows(bad, job.source)
    with (
        timed(spent, "write"),
        publishing([job.folder / shard.name], folders=False) as (temporary,),
    ):
        pq.write_table(table, temporary, compression="zstd")
        sha256 = file_sha256(temporary)
    receipt = Receipt(
        shard=shard.number,
        first_row=shard.first_row,
        end_row=shard.end_row,
        fingerprint=job.fingerprint,
        sha256=sha256,
        scored=table.num_rows - bad.num_rows,
        truncated=pc.sum(table["truncated"]).as_py() or 0,
        tally=tally + Tally(seconds={stage: round(s, 4) for stage, s in spent.items()}),
        reasons=dict(Counter(map(kind_of_reason, bad["reason"].to_pylist()))),
        formats=dict(Counter(filter(None, prepared.format))),
        told=dict(commonest(Counter(note for notes in prepared.notes for note in notes))),
        push_sums=measured.push_sums,
        likeness=measured.likeness,
        memory_limit=scorer.encoder.memory_limit,
        started=round(read.started, 3),
        finished=round(time.time(), 3),
    )
    with publishing([job.folder / shard.receipt], folders=False) as (temporary,):
        temporary.write_text(json.dumps(asdict(receipt)), encoding="utf-8")
    give_back_free_memory()
    return receipt


@contextmanager
def no_memory_is_an_error() -> Iterator[None]:
    """A lack of memory becomes a SaefilterError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise SaefilterError(
            f"out of memory ({str(error).splitlines()[0] if str(error) else 'on this machine'})",
            remedy="Use fewer --batch-tokens or --shard-rows, or a larger machine.",
        ) from error


@contextmanager
def timed(spent: dict[str, float], stage: str) -> Iterator[None]:
    """Keeps the seconds that it took."""
    started = time.perf_counter()
    yield
    spent[stage] = time.perf_counter() - started


def _refuse_bad_rows(bad: pa.Table, source: Source) -> None:
    for entry in bad.slice(0, 1).to_pylist():
        raise UnusableInput(
            entry["reason"],
            where=f"{entry['file'] or source.path}:{entry['line']}",
            remedy="Mend the row, or use --on-bad-row quarantine.",
        )
