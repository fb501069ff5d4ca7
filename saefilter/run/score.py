"""Score a dataset file: rows in, scores file out. The main path of the product, top to bottom."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from saefilter import __version__
from saefilter.errors import SaefilterError
from saefilter.report.build import kind_of_reason
from saefilter.rows.read import Row, Source
from saefilter.run.chunks import ChunkScorer, ScoredRow, ScoreSettings
from saefilter.run.integrity import ContentHash, library_versions
from saefilter.run.publish import publishing, refuse_existing
from saefilter.run.scores import SCHEMA, SCORED, Provenance

CHUNK_ROWS = 2048
"""Rows scored together; enough that batches hold windows of like length."""
N_CLOSEST = 5
"""Rows shown in the summary."""


@dataclass(frozen=True)
class ScoreSummary:
    """What a run found, for the console; everything is in the scores file too."""

    output: Path
    provenance: Provenance
    distances: NDArray[np.float64]
    """Of the scored rows, in order."""
    percentiles: NDArray[np.float64] | None
    reasons: Counter[str]
    """Quarantine reasons, without what is particular to a row."""
    closest: list[dict[str, Any]]
    """Entries of the closest rows, closest first, each with a `preview` of its text."""


def score_file(
    source: Source,
    output: Path,
    settings: ScoreSettings,
    *,
    overwrite: bool = False,
    chunk_scorer: ChunkScorer | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> ScoreSummary:
    """Score every row of `source` and publish the scores at `output`.

    `advance` is told how many rows and tokens have been done since it was told last; `chunk_scorer`
    saves loading when several files are scored. Raises SaefilterError; then nothing is written.
    """
    refuse_existing([output], overwrite=overwrite)
    source.refuse_to_join([output])
    input_sha256 = source.sha256()
    scorer = chunk_scorer or ChunkScorer.load(settings)
    tally = _Tally()
    content = ContentHash(SCHEMA)
    started = time.perf_counter()

    def advance_tokens(tokens: int) -> None:
        tally.tokens += tokens
        if advance is not None:
            advance(0, tokens)

    with (
        publishing([output]) as (temporary,),
        pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer,
    ):
        for rows in _chunks(source.rows()):
            scored = scorer.score(rows, advance_tokens)
            if settings.on_bad_row == "error":
                _refuse_bad_rows(scored, source)
            tally.add(scored)
            table = pa.Table.from_pylist([row.entry for row in scored], schema=SCHEMA)
            content.update(table)
            writer.write_table(table)
            if advance is not None:
                advance(len(rows), 0)
        if not tally.distances:
            raise SaefilterError(tally.nothing_scored(), where=str(source.path))
        if source.sha256() != input_sha256:
            raise SaefilterError(
                "the file changed while it was scored",
                where=str(source.path),
                remedy="Score it again.",
            )
        seconds = time.perf_counter() - started
        provenance = replace(
            _provenance(source, input_sha256, scorer, tally, seconds),
            content_sha256=content.hexdigest(),
            versions=library_versions(),
        )
        writer.add_key_value_metadata(provenance.to_metadata())
    return ScoreSummary(
        output,
        provenance,
        np.array(tally.distances),
        np.array(tally.percentiles) if tally.percentiles else None,
        tally.reasons,
        [entry for _, _, entry in sorted(tally.closest, key=lambda item: (-item[0], -item[1]))],
    )


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while chunk := list(islice(rows, CHUNK_ROWS)):
        yield chunk


def _refuse_bad_rows(scored: list[ScoredRow], source: Source) -> None:
    for row in scored:
        if row.entry["status"] != SCORED:
            raise SaefilterError(
                row.entry["reason"],
                where=f"{row.entry['file'] or source.path}:{row.entry['line']}",
                remedy="Mend the row, or use --on-bad-row quarantine.",
            )


@dataclass
class _Tally:
    """Counters of a run under way."""

    rows: int = 0
    truncated: int = 0
    duplicates: int = 0
    tokens: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    distances: list[float] = field(default_factory=list)
    percentiles: list[float] = field(default_factory=list)
    closest: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def add(self, scored: list[ScoredRow]) -> None:
        self.rows += len(scored)
        for row in scored:
            entry = row.entry
            self.duplicates += entry["row_hash"] in self.seen
            self.seen.add(entry["row_hash"])
            if entry["status"] != SCORED:
                self.reasons[kind_of_reason(entry["reason"])] += 1
                continue
            self.truncated += entry["truncated"]
            self.distances.append(entry["distance"])
            if entry["percentile"] is not None:
                self.percentiles.append(entry["percentile"])
            # the row id decides between equals, and keeps the heap from comparing dicts
            item = (entry["proximity"], -entry["row_id"], {**entry, "preview": row.text})
            if len(self.closest) < N_CLOSEST:
                heapq.heappush(self.closest, item)
            else:
                heapq.heappushpop(self.closest, item)

    def nothing_scored(self) -> str:
        if not self.rows:
            return "there are no rows in it"
        reason, count = self.reasons.most_common(1)[0]
        return f"none of its {self.rows} rows can be scored; {count} of them: {reason}"


def _provenance(
    source: Source, input_sha256: str, scorer: ChunkScorer, tally: _Tally, seconds: float
) -> Provenance:
    encoder, settings = scorer.encoder, scorer.settings
    toxic_set = scorer.scorer.toxic_set
    return Provenance(
        version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        input_path=str(source.path),
        input_sha256=input_sha256,
        preset=encoder.preset.name,
        model=encoder.preset.model,
        sae=encoder.preset.sae,
        hook=encoder.hook,
        sae_fingerprint=encoder.sae.fingerprint,
        toxic_set=toxic_set.name,
        toxic_set_sha256=toxic_set.sha256(),
        metric=scorer.scorer.metric.name,
        pool=settings.pool,
        train_on=settings.train_on,
        max_tokens=settings.max_tokens,
        dtype=encoder.dtype,
        device=str(encoder.device),
        rows=tally.rows,
        scored=len(tally.distances),
        quarantined=tally.rows - len(tally.distances),
        truncated=tally.truncated,
        duplicates=tally.duplicates,
        tokens=tally.tokens,
        seconds=round(seconds, 3),
        reference_rows=scorer.scorer.reference_rows(settings.pool),
        note=" ".join(filter(None, [encoder.preset.note, scorer.note, *encoder.all_warnings()]))
        or None,
        revision=encoder.revision,
        rendering=scorer.renderer.name,
        truncation_side=settings.truncation_side,
        quantize=settings.quantize,
        l0=round(encoder.l0(), 2),
    )
