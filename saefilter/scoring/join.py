"""Join finished shards to the scores file, with the provenance of the whole run.

Shards come from the folder of a run or from the files of its parts; what is joined is the same.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from saefilter.artifacts.integrity import ContentHash, library_versions
from saefilter.artifacts.provenance import Provenance
from saefilter.artifacts.publish import publishing
from saefilter.artifacts.scores import CASCADE_SCHEMA, PREFERENCE_SCHEMA, SCHEMA
from saefilter.encode.checks import l0_warning, sentence
from saefilter.errors import SaefilterError
from saefilter.geometry.likeness import summed, unlikeness, warning
from saefilter.rows.row import kind_of_reason
from saefilter.rows.sides import ANSWERS
from saefilter.scoring.job import Receipt, Shard, UnusableInput, fingerprint_digest
from saefilter.scoring.preference import Pushes
from saefilter.stats.tally import Tally

if TYPE_CHECKING:
    from saefilter.scoring.cascade.finish import CascadeRun
    from saefilter.scoring.scorer import ScorerIdentity
    from saefilter.storage import Location

GROUP_ROWS = 32_768
"""Shards are put together to row groups of about so many rows: each group takes 30 KiB of whoever opens the file, so
one of each of a hundred thousand shards would take 3 GB."""


@dataclass(frozen=True)
class RunIdentity:
    """What the scores file says of a run that no shard says."""

    scorer: ScorerIdentity
    input_path: str
    kind: str = ANSWERS
    """What the data train on, of rows.sides.KINDS."""
    versions: dict[str, str] = field(default_factory=library_versions)
    """Of the libraries that computed the scores."""
    cascade: CascadeRun | None = None
    """How it was found which rows to read; None where all were."""


class FinishedShards(Protocol):
    """Where finished shards lie."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What they were made of."""

    @property
    def shards(self) -> list[Shard]:
        """All of the rows, in order."""

    def read(self, shard: Shard, columns: list[str] | None = None) -> pa.Table:
        """The rows of one. Raises SaefilterError when it cannot be read."""

    def where(self, shard: Shard) -> str:
        """For people."""


def join_shards(
    finished: FinishedShards, receipts: dict[int, Receipt], output: Location, run: RunIdentity
) -> None:
    """Publish the scores file of all shards, in the rows' order.

    Raises SaefilterError when no row could be scored, a shard cannot be read or rows are missing.
    """
    ordered = [receipts[shard.number] for shard in finished.shards]
    if not any(receipt.scored for receipt in ordered):
        first = finished.read(finished.shards[0], ["reason"])
        raise UnusableInput(_nothing_scored(ordered, first), where=run.input_path)
    hashes = np.empty(finished.shards[-1].end_row, np.uint64)
    schema = SCHEMA if run.kind == ANSWERS else PREFERENCE_SCHEMA
    schema = schema if run.cascade is None else CASCADE_SCHEMA
    content = ContentHash(schema)
    pushes = Pushes(run.kind, run.scorer.difference)
    pushes.find_middle(_pushes_of(finished))
    with (
        publishing([output]) as (temporary,),
        pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        next_row = 0
        held: list[pa.Table] = []
        for shard in finished.shards:
            table = finished.read(shard)
            if table["row_id"].to_pylist() != list(range(next_row, shard.end_row)):
                raise SaefilterError(
                    f"the shard does not hold the rows {next_row} to {shard.end_row - 1}",
                    where=finished.where(shard),
                )
            digests = table["row_hash"].to_pylist()
            hashes[next_row : shard.end_row] = [int(digest, 16) for digest in digests]
            next_row = shard.end_row
            if run.kind != ANSWERS:
                table = pushes.counted(table)
            content.update(table)
            held.append(table)
            if sum(map(len, held)) >= GROUP_ROWS or next_row == len(hashes):
                group = pa.concat_tables(held)
                writer.write_table(group, row_group_size=group.num_rows)
                held = []
        if run.cascade is None:
            made = _provenance(ordered, finished.fingerprint, run)
        else:
            made = run.cascade.provenance(
                ordered, lambda some: _provenance(some, finished.fingerprint, run)
            )
        made = replace(
            made, duplicates=_count_duplicates(hashes), content_sha256=content.hexdigest()
        )
        if run.kind != ANSWERS:
            note = " ".join(filter(None, [pushes.words(), made.note]))
            made = replace(made, preference=pushes.fields(), note=note)
        writer.add_key_value_metadata(made.to_metadata())


def _count_duplicates(hashes: NDArray[np.uint64]) -> int:
    """Rows that another one is equal to, but for one of each; sorts the hashes where they are, since
    they are the one thing here that grows with the rows: eight bytes each."""
    hashes.sort()
    return int(np.count_nonzero(hashes[1:] == hashes[:-1]))


def _pushes_of(finished: FinishedShards) -> Iterator[pa.Table]:
    """Of each shard of preference data, what its pushes are and whether they are of answers that are learnt."""
    for shard in finished.shards:
        yield finished.read(shard, ["proximity", "chosen_proximity"])


def _nothing_scored(receipts: list[Receipt], first: pa.Table) -> str:
    """The commonest kind of reason, in the words of the first row that has it."""
    reasons = _counted(receipt.reasons for receipt in receipts)
    reason, count = next(iter(reasons.items()))
    rows = sum(receipt.rows for receipt in receipts)
    said = next((why for why in first["reason"].to_pylist() if kind_of_reason(why) == reason), "")
    return f"none of its {rows} rows can be scored; {count} of them: {said or reason}"


def _counted(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Counts of several shards added up, commonest first."""
    return dict(sum(map(Counter, counts), Counter()).most_common())


def _provenance(
    receipts: list[Receipt], fingerprint: dict[str, Any], run: RunIdentity
) -> Provenance:
    identity = run.scorer
    rows = sum(receipt.rows for receipt in receipts)
    scored = sum(receipt.scored for receipt in receipts)
    tally = sum((receipt.tally for receipt in receipts), Tally())
    doubt = l0_warning(tally.l0, identity.expected_l0)
    like = summed((receipt.likeness for receipt in receipts), scored)
    unlike = None
    if like is not None and identity.likeness is not None:
        unlike = unlikeness(like, identity.likeness.mean, identity.likeness.limit, scored)
    said = warning(unlike or [], identity.reference_name)
    notes = [*filter(None, [said]), *identity.notes, *([sentence(doubt)] if doubt else [])]
    created, seconds = _times(receipts)
    reported = tally.reported()
    if not seconds:
        reported["timings"] = None
    return Provenance.of(
        identity,
        version=fingerprint["saefilter"],
        created=created,
        input_path=run.input_path,
        input_sha256=fingerprint["input"],
        fingerprint=fingerprint_digest(fingerprint),
        rows=rows,
        scored=scored,
        quarantined=rows - scored,
        truncated=sum(receipt.truncated for receipt in receipts),
        duplicates=0,
        seconds=seconds,
        note=" ".join(notes) or None,
        spillover=_spillover(receipts, scored, identity),
        likeness=like and {name: [round(a, 4), round(b, 4)] for name, (a, b) in like.items()},
        unlike=unlike,
        formats=_counted(receipt.formats for receipt in receipts),
        told=_counted(receipt.told for receipt in receipts),
        versions=run.versions,
        **reported,
    )


def _spillover(
    receipts: list[Receipt], n_rows: int, identity: ScorerIdentity
) -> list[dict[str, Any]] | None:
    """Mean push of the rows on each toxic feature minus the reference's, with a 95 % interval from the
    variances of both."""
    if identity.push is None:
        return None
    sums = [receipt.push_sums for receipt in receipts if receipt.push_sums is not None]
    if not sums:  # of preference data
        return None
    total, squares = (np.sum([pair[i] for pair in sums], axis=0) for i in (0, 1))
    mean = total / n_rows
    variance = np.maximum(squares / n_rows - mean**2, 0)
    push = mean - np.array(identity.push.mean)
    error = np.sqrt(variance / n_rows + np.array(identity.push.variance) / identity.push.rows)
    return [
        {
            "feature": identity.push.features[i],
            "label": identity.push_labels[i],
            "push": float(f"{push[i]:.6g}"),
            "low": float(f"{push[i] - 1.96 * error[i]:.6g}"),
            "high": float(f"{push[i] + 1.96 * error[i]:.6g}"),
        }
        for i in np.argsort(-push, kind="stable")
    ]


def _times(receipts: Iterable[Receipt]) -> tuple[str, float]:
    """When the scores were finished, and for how many seconds any shard was being scored.

    Where SOURCE_DATE_EPOCH is set, as for reproducible builds, it is the time and no duration is
    kept: equal input and settings then give equal bytes.
    """
    if epoch := os.environ.get("SOURCE_DATE_EPOCH"):
        try:
            when, seconds = float(epoch), 0.0
        except ValueError as error:
            raise SaefilterError(f"SOURCE_DATE_EPOCH is {epoch!r}, not a number") from error
    else:
        spans = sorted((receipt.started, receipt.finished) for receipt in receipts)
        when, seconds, end = max(finish for _, finish in spans), 0.0, 0.0
        for start, finish in spans:  # shards of several workers overlap
            seconds += max(0.0, finish - max(start, end))
            end = max(end, finish)
    return (
        datetime.fromtimestamp(int(when), UTC).isoformat(timespec="seconds"),
        round(seconds, 3),
    )
