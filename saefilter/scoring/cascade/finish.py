"""The scores file of a cascade: rows that the model read, and estimates of the others, in the rows' order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from saefilter.artifacts.provenance import Provenance
from saefilter.artifacts.scores import CASCADE_SCHEMA, ESTIMATED, QUARANTINED
from saefilter.scoring.cascade.run import Reading, Step
from saefilter.scoring.cascade.search import COVERAGE
from saefilter.scoring.job import Receipt, Shard
from saefilter.scoring.workfolder import WorkFolder
from saefilter.settings import ScoreSettings


@dataclass(frozen=True)
class CascadeShards:
    """Finished shards of all rows, put together from what was seen and what was read."""

    reading: Reading
    _open: dict[str, tuple[int, pa.Table]] = field(default_factory=dict)
    """Step -> number and rows of the shard of it that was read last: neighbours are mostly in one."""

    @property
    def folder(self) -> WorkFolder:
        return self.reading.screened.folder

    @property
    def fingerprint(self) -> dict[str, Any]:
        """See `FinishedShards`."""
        return self.folder.fingerprint

    @property
    def shards(self) -> list[Shard]:
        """See `FinishedShards`."""
        return self.folder.shards

    def where(self, shard: Shard) -> str:
        """See `FinishedShards`."""
        return self.folder.where(shard)

    def read(self, shard: Shard, columns: list[str] | None = None) -> pa.Table:
        """See `FinishedShards`."""
        parts = [part for step in self.reading.steps for part in self._of_step(step, shard)]
        ids = np.concatenate(
            [np.zeros(0, np.int64), *(part["row_id"].to_numpy() for part in parts)]
        )
        screened = self.folder.read(shard)
        unread = ~np.isin(screened["row_id"].to_numpy(), ids)
        parts = [*(self._marked(part) for part in parts), self._unread(screened.filter(unread))]
        table = pa.concat_tables(parts)
        table = table.take(np.argsort(table["row_id"].to_numpy(), kind="stable"))
        return table if columns is None else table.select(columns)

    def _of_step(self, step: Step, shard: Shard) -> list[pa.Table]:
        """The rows of a step that are in a shard of all rows."""
        start, end = np.searchsorted(step.ids, [shard.first_row, shard.end_row]).tolist()
        parts = []
        for own in step.folder.shards:
            first, last = max(start, own.first_row), min(end, own.end_row)
            if first < last:
                number, table = self._open.get(step.name, (-1, None))
                if number != own.number:
                    table = step.folder.read(own)
                    self._open[step.name] = own.number, table
                assert table is not None
                parts.append(table.slice(first - own.first_row, last - first))
        return parts

    def _marked(self, part: pa.Table) -> pa.Table:
        """Rows that were read, with what only the scores of a cascade have."""
        screened, outcome = self.reading.screened, self.reading.outcome
        place = np.searchsorted(screened.ids, part["row_id"].to_numpy())
        nothing = pa.nulls(len(part), pa.float64())
        for name in ("estimate", "estimate_low", "estimate_high"):
            part = part.append_column(name, nothing)
        return part.append_column("sampled", pa.array(outcome.sampled[place])).cast(CASCADE_SCHEMA)

    def _unread(self, part: pa.Table) -> pa.Table:
        """Rows that were not, with what is guessed of them; and those that cannot be scored."""
        screened, outcome = self.reading.screened, self.reading.outcome
        bad = pc.is_valid(part["reason"]).to_numpy()
        guess: NDArray[np.float64] = np.full(len(part), np.nan)
        guess[~bad] = outcome.guess[np.searchsorted(screened.ids, part["row_id"].to_numpy()[~bad])]
        columns: dict[str, Any] = {
            "status": pa.array(np.where(bad, QUARANTINED, ESTIMATED), pa.string()),
            "estimate": pa.array(guess, pa.float64(), mask=bad),
            "estimate_low": pa.array(guess + outcome.below, pa.float64(), mask=bad),
            "estimate_high": pa.array(guess + outcome.above, pa.float64(), mask=bad),
            "sampled": pa.array(np.zeros(len(part), dtype=np.bool_)),
        }
        of_rows = [
            columns[one.name] if one.name in columns
            else part[one.name] if one.name in part.column_names
            else pa.nulls(len(part), one.type)
            for one in CASCADE_SCHEMA
        ]  # fmt: skip
        return pa.Table.from_arrays(
            [one.combine_chunks() if isinstance(one, pa.ChunkedArray) else one for one in of_rows],
            schema=CASCADE_SCHEMA,
        )


@dataclass(frozen=True)
class CascadeRun:
    """What the provenance says of a cascade."""

    reading: Reading
    settings: ScoreSettings

    def provenance(
        self, screened: list[Receipt], told: Callable[[list[Receipt]], Provenance]
    ) -> Provenance:
        """Counts are of all rows, work of those that were read, and what the data are like of the pilot, since
        the audit's step has no row of the front; of all rows where none is unread. `told`: what receipts say
        together."""
        steps = self.reading.steps
        read = [receipt for step in steps for receipt in step.receipts.values()]
        drawn = list(steps[0].receipts.values()) if self.reading.outcome.unread else read
        everything, work, sample = told(screened), told(read), told(drawn)
        return replace(
            work,
            rows=everything.rows,
            scored=work.rows,
            quarantined=everything.quarantined,
            truncated=everything.truncated,
            formats=everything.formats,
            told=everything.told,
            seconds=told(
                [*screened, *read]
            ).seconds,  # of a sweep, what was seen and scored took the same
            note=" ".join(filter(None, [self.words(), sample.note])),
            spillover=sample.spillover,
            likeness=sample.likeness,
            unlike=sample.unlike,
            timings=_added(everything.timings, work.timings),
            cascade=self.fields(everything.tokens),
        )

    def words(self) -> str:
        """What a reader of the scores must know of how they came about."""
        outcome, reader = self.reading.outcome, self.settings.cheap_reader
        n, read = len(outcome.read), int(outcome.read.sum())
        if not outcome.unread:
            return f"The model read all {n:,} rows: what {reader} saw of them spared none."
        held = (
            f"with {outcome.goal.confidence:.0%} confidence at least {outcome.recall:.1%} of the {outcome.goal.count:,} "
            "nearest are among them"
        )
        if not outcome.reached:
            held += f", less than the {outcome.goal.recall:.0%} that was asked for: the budget was spent"
        return (
            f"The model read {read:,} of {n:,} rows ({read / n:.0%}), chosen by what {reader} saw of all; {held}. "
            f"The other {outcome.unread:,} have estimates."
        )

    def fields(self, cheap_tokens: int) -> dict[str, Any]:
        """See `Provenance.cascade`."""
        reading, outcome = self.reading, self.reading.outcome
        swept = next((step for step in reading.steps if step.name == "sweep"), None)
        distance = np.concatenate([step.distances() for step in reading.steps])
        return {
            "reader": self.settings.cheap_reader,
            "nearest": outcome.goal.count,
            "recall": round(outcome.recall, 4),
            "wanted_recall": outcome.goal.recall,
            "confidence": outcome.goal.confidence,
            "reached": outcome.reached,
            "cut": float(np.partition(distance, outcome.goal.count - 1)[outcome.goal.count - 1])
            if len(distance) >= outcome.goal.count
            else None,
            "pilot": outcome.pilot,
            "audit": outcome.audit,
            "rate": outcome.rate,
            "front": outcome.front,
            "near_in_audit": outcome.near_in_audit,
            "allowed_in_audit": outcome.allowed,
            "correlation": round(outcome.correlation, 4),
            "estimated": outcome.unread,
            "coverage": COVERAGE,
            "interval_rows": outcome.interval_rows,
            "budget": self.settings.budget,
            "seed": self.settings.cascade_seed or 0,
            "cheap_tokens": cheap_tokens,
            "one_pass": swept is not None,
            "went_on": 0 if swept is None else len(swept.ids),
            "tokens_gone_on": 0
            if swept is None
            else sum(receipt.tally.tokens for receipt in swept.receipts.values()),
            "tokens_spared": int(reading.screened.tokens[~outcome.read].sum()),
        }


def _added(one: dict[str, float] | None, other: dict[str, float] | None) -> dict[str, float] | None:
    if one is None or other is None:
        return None
    return {name: round(one.get(name, 0) + other.get(name, 0), 3) for name in {**one, **other}}
