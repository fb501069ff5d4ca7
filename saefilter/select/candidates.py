"""The scored rows that a strategy chooses among: their distances at hand, all else when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation, RowProblem, recognise
from saefilter.watch import Watch

if TYPE_CHECKING:
    from saefilter.artifacts.scores import Scores
    from saefilter.rows.read import Source
    from saefilter.rows.row import Row


@dataclass(frozen=True)
class Candidates:
    """The scored rows that a strategy chooses among."""

    distance: NDArray[np.float64]
    """`[n_rows]`"""
    row_ids: NDArray[np.int64]
    """Their positions in the input, ascending, `[n_rows]`."""
    scores: Scores | None = None
    """The scores file, for its other columns: `scores.read(["top_features"])` has every input row."""
    source: Source | None = None
    """The data; `rows()` and `conversations()` read it."""
    watch: Watch = field(default_factory=Watch)
    """For progress and messages of a strategy that takes long."""

    def __len__(self) -> int:
        return len(self.row_ids)

    def rows(self) -> Iterator[Row]:
        """The scored rows, one after the other, in order; nothing is kept.

        Raises SaefilterError without the data, or when rows are missing from it.
        """
        if self.source is None:
            raise SaefilterError("this strategy reads the rows, and the data were not given")
        seen = 0
        for row in self.source.rows(set(self.row_ids.tolist())):
            seen += 1
            yield row
        if seen != len(self):
            raise SaefilterError(
                f"{self.source.path} has {seen:,} of the {len(self):,} scored rows",
                remedy="Score it again.",
            )

    def conversations(self) -> Iterator[Conversation]:
        """What the scored rows say, one after the other, in order; nothing is kept.

        Raises SaefilterError for a row that is no longer what was scored.
        """
        for row in self.rows():
            try:
                if row.data is None:
                    raise RowProblem(row.error or "unreadable")
                yield recognise(row.data)
            except RowProblem as problem:
                raise SaefilterError(
                    f"row {row.index + 1} was scored and cannot be read now ({problem})",
                    remedy="Score the data again.",
                ) from problem

    def row_hashes(self) -> list[str]:
        """The hash of each scored row, as the scores file has it; equal rows have equal hashes."""
        if self.scores is None:
            raise SaefilterError("this strategy needs the scores file")
        hashes: list[str] = (
            self.scores.read(["row_hash"])["row_hash"].take(self.row_ids).to_pylist()
        )
        return hashes
