"""Score a dataset file: rows in, scores file out. The main path of the product, top to bottom."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from saefilter import __version__
from saefilter.errors import SaefilterError
from saefilter.report.build import kind_of_reason
from saefilter.rows.formats import Conversation, RowProblem, recognise
from saefilter.rows.read import Row, Source
from saefilter.rows.words import word_evidence
from saefilter.run.publish import publishing, refuse_existing
from saefilter.run.scores import QUARANTINED, SCHEMA, SCORED, Provenance

if TYPE_CHECKING:
    from saefilter.encode.encoder import Encoder
    from saefilter.geometry.scorer import Scorer
    from saefilter.rows.render import PlainRenderer

CHUNK_ROWS = 2048
"""Rows scored together; enough that batches hold windows of like length."""
N_CLOSEST = 5
"""Rows shown in the summary."""


@dataclass(frozen=True)
class ScoreSettings:
    """What a user chooses for a scoring run."""

    preset: str
    toxic_set: str | None = None
    """File or name; None for the preset's own."""
    metric: str | None = None
    """None for the toxic set's best."""
    pool: str = "mean"
    neighbours: int | None = None
    train_on: str = "assistant"
    max_tokens: int = 1024
    batch_tokens: int = 8192
    device: str = "auto"
    dtype: str = "auto"
    on_bad_row: str = "quarantine"


@dataclass
class ScoreSummary:
    """What a run found, for the console; everything is in the scores file too."""

    output: Path
    provenance: Provenance
    distances: np.ndarray[Any, Any]
    """Of the scored rows, in order."""
    percentiles: np.ndarray[Any, Any] | None
    reasons: Counter[str]
    """Quarantine reasons, without what is particular to a row."""
    closest: list[dict[str, Any]]
    """The closest rows as they stand in the file, closest first, with a preview."""


@dataclass
class _Progress:
    """Counters of a run under way."""

    rows: int = 0
    scored: int = 0
    truncated: int = 0
    duplicates: int = 0
    tokens: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    distances: list[np.ndarray[Any, Any]] = field(default_factory=list)
    percentiles: list[np.ndarray[Any, Any]] = field(default_factory=list)
    closest: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)


def score_file(
    source: Source,
    output: Path,
    settings: ScoreSettings,
    *,
    overwrite: bool = False,
    load: Callable[[ScoreSettings], tuple[Encoder, Scorer]] | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> ScoreSummary:
    """Score every row of `source` and publish the scores at `output`.

    `load` gives the encoder and the scorer (by default from the settings); `advance` is told how
    many rows and tokens have been done since it was told last. Raises SaefilterError; then nothing
    is written.
    """
    refuse_existing([output], overwrite=overwrite)
    input_sha256 = source.sha256()
    encoder, scorer = (load or load_scorer)(settings)
    renderer = encoder.renderer(max_tokens=settings.max_tokens, train_on=settings.train_on)
    progress = _Progress()
    started = time.perf_counter()
    with publishing([output]) as (temporary,):
        with pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
            for rows in _chunks(source.rows()):
                table = _score_chunk(
                    rows, source, settings, encoder, renderer, scorer, progress, advance
                )
                writer.write_table(table)
            if not progress.scored:
                raise SaefilterError(_nothing_scored(progress), where=str(source.path))
            if source.sha256() != input_sha256:
                raise SaefilterError(
                    "the file changed while it was scored",
                    where=str(source.path),
                    remedy="Score it again.",
                )
            provenance = Provenance(
                version=__version__,
                created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                input_path=str(source.path),
                input_sha256=input_sha256,
                preset=encoder.preset.name,
                model=encoder.preset.model,
                sae=encoder.preset.sae,
                hook=encoder.preset.hook,
                sae_fingerprint=encoder.sae.fingerprint,
                toxic_set=scorer.toxic_set.name,
                toxic_set_sha256=scorer.toxic_set.sha256(),
                metric=scorer.metric.name,
                pool=settings.pool,
                train_on=settings.train_on,
                max_tokens=settings.max_tokens,
                dtype=encoder.dtype,
                device=str(encoder.device),
                rows=progress.rows,
                scored=progress.scored,
                quarantined=progress.rows - progress.scored,
                truncated=progress.truncated,
                duplicates=progress.duplicates,
                tokens=progress.tokens,
                seconds=round(time.perf_counter() - started, 3),
                reference_rows=scorer.reference_rows(settings.pool),
                note=encoder.preset.note,
            )
            writer.add_key_value_metadata(provenance.to_metadata())
    return ScoreSummary(
        output,
        provenance,
        np.concatenate(progress.distances),
        np.concatenate(progress.percentiles) if progress.percentiles else None,
        progress.reasons,
        [entry for _, _, entry in sorted(progress.closest, key=lambda item: (-item[0], -item[1]))],
    )


def load_scorer(settings: ScoreSettings) -> tuple[Encoder, Scorer]:
    """The preset's encoder, and the scorer of its toxic set; the set is checked against the SAE."""
    from saefilter.encode.encoder import Encoder
    from saefilter.encode.presets import load_preset
    from saefilter.geometry.scorer import Scorer
    from saefilter.toxic.toxicset import load_toxic_set

    preset = load_preset(settings.preset)
    reference = settings.toxic_set or preset.toxic_set
    if reference is None:
        raise SaefilterError(
            f"preset {preset.name} has no toxic set of its own",
            remedy="Make one: saefilter features curate, and name it with --toxic-set.",
        )
    toxic_set = load_toxic_set(reference)
    encoder = Encoder(preset, device=settings.device, dtype=settings.dtype)
    toxic_set.check_sae(encoder.sae.fingerprint, f"that of preset {preset.name}")
    scorer = Scorer(
        toxic_set, encoder.sae.directions(), metric=settings.metric, neighbours=settings.neighbours
    )
    return encoder, scorer


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while chunk := list(islice(rows, CHUNK_ROWS)):
        yield chunk


def _score_chunk(
    rows: list[Row],
    source: Source,
    settings: ScoreSettings,
    encoder: Encoder,
    renderer: PlainRenderer,
    scorer: Scorer,
    progress: _Progress,
    advance: Callable[[int, int], None] | None,
) -> pa.Table:
    entries: list[dict[str, Any]] = [
        {"row_id": row.index, "line": row.line, "row_hash": row.digest(), "status": QUARANTINED}
        for row in rows
    ]
    positions: list[int] = []  # of the rows that hold a conversation
    conversations: list[Conversation] = []
    for position, row in enumerate(rows):
        conversation, reason = conversation_of(row)
        if conversation is None:
            entries[position]["reason"] = reason
        else:
            positions.append(position)
            conversations.append(conversation)
    rendered, windows = renderer.render(conversations)

    def report_tokens(tokens: int) -> None:
        progress.tokens += tokens
        if advance is not None:
            advance(0, tokens)

    encoded = encoder.encode(
        windows,
        len(conversations),
        pool=settings.pool,
        batch_tokens=settings.batch_tokens,
        token_weights=scorer.token_weights,
        advance=report_tokens,
    )
    result = scorer.score(encoded.features, encoded.residual)
    percentile = scorer.percentile(result.proximity, settings.pool)
    scored = []
    for i, (position, row) in enumerate(zip(positions, rendered, strict=True)):
        entry = entries[position]
        if row.problem is not None:
            entry["reason"] = row.problem
            continue
        scored.append(i)
        entry.update(
            status=SCORED,
            distance=float(1.0 - result.proximity[i]),
            proximity=float(result.proximity[i]),
            percentile=None if percentile is None else float(percentile[i]),
            n_tokens=row.n_tokens,
            n_trained=row.n_trained,
            n_scored=row.n_scored,
            truncated=row.truncated,
            top_features=result.top_features(i),
            top_words=word_evidence(row.text, [(t.start, t.end) for t in encoded.top_tokens[i]]),
        )
        progress.truncated += row.truncated
        _keep_closest(progress.closest, float(result.proximity[i]), entry, row.text)
    progress.distances.append(1.0 - result.proximity[scored])
    if percentile is not None:
        progress.percentiles.append(percentile[scored])
    _count(progress, rows, entries, source, settings)
    if advance is not None:
        advance(len(rows), 0)
    return pa.Table.from_pylist(entries, schema=SCHEMA)


def conversation_of(row: Row) -> tuple[Conversation | None, str]:
    """The row's conversation, or None and why there is none."""
    if row.data is None:
        return None, row.error or "unreadable"
    try:
        return recognise(row.data), ""
    except RowProblem as problem:
        return None, str(problem)


def _count(
    progress: _Progress,
    rows: list[Row],
    entries: list[dict[str, Any]],
    source: Source,
    settings: ScoreSettings,
) -> None:
    progress.rows += len(rows)
    for entry in entries:
        if entry["row_hash"] in progress.seen:
            progress.duplicates += 1
        progress.seen.add(entry["row_hash"])
        if entry["status"] == SCORED:
            progress.scored += 1
            continue
        if settings.on_bad_row == "error":
            raise SaefilterError(
                entry["reason"],
                where=f"{source.path}:{entry['line']}",
                remedy="Mend the row, or use --on-bad-row quarantine.",
            )
        progress.reasons[kind_of_reason(entry["reason"])] += 1


def _keep_closest(
    closest: list[tuple[float, int, dict[str, Any]]],
    proximity: float,
    entry: dict[str, Any],
    text: str,
) -> None:
    item = (proximity, -int(entry["row_id"]), {**entry, "preview": text})
    if len(closest) < N_CLOSEST:
        heapq.heappush(closest, item)
    else:
        heapq.heappushpop(closest, item)


def _nothing_scored(progress: _Progress) -> str:
    if not progress.rows:
        return "there are no rows in it"
    reason, count = progress.reasons.most_common(1)[0]
    return f"none of its {progress.rows} rows can be scored; {count} of them: {reason}"
