"""What a strategy is given and what it gives: the scored rows that it chooses among, and the order in
which they would be dropped with what it rests on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation, RowProblem, recognise
from saefilter.select.cost import Cost
from saefilter.watch import Watch

if TYPE_CHECKING:
    from saefilter.artifacts.column import Column
    from saefilter.artifacts.scores import Scores
    from saefilter.rows.read import Source
    from saefilter.rows.row import Row


BYTES_A_ROW = 100
"""What strategies hold that sort or read all rows, about."""


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
    cost: Cost = field(default_factory=Cost, compare=False)
    """What strategies have read of these rows so far."""

    def __len__(self) -> int:
        return len(self.row_ids)

    def distances(self) -> Iterator[NDArray[np.float64]]:
        """The distances in order, so many at a time as are at hand."""
        yield self.distance

    def before(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many of the rows come before each of some, which ascend and are of the input."""
        return np.searchsorted(self.row_ids, ids)

    def among(self, ids: NDArray[np.int64]) -> Candidates:
        """Those of them that have one of some ids, which ascend."""
        near = self.distance[np.isin(self.row_ids, ids)]
        return Candidates(near, ids, self.scores, self.source, self.watch)

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
        if self.scores is not None and self.scores.of_preferences:
            raise SaefilterError(
                "this strategy reads one answer of each row, to be learnt, and these are preference data",
                remedy="Use closest (by what a row pushes towards), chosen-side, random or labels.",
            )
        columns = None if self.scores is None else self.scores.provenance.own_columns
        for row in self.rows():
            try:
                if row.data is None:
                    raise RowProblem(row.error or "unreadable")
                yield recognise(row.data, columns)
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


class UnreadCandidates(Candidates):
    """Candidates whose distances and ids are read when a strategy asks for all of them, sixteen bytes a row;
    until then they take the one byte of `scored`. Once `replace` gave them others, they are like any."""

    @classmethod
    def of(
        cls,
        scored: NDArray[np.bool_],
        column: Column[np.float64],
        scores: Scores,
        source: Source,
        watch: Watch,
    ) -> UnreadCandidates:
        """`scored` is `[n_rows]` of the input, and so is the `column` of distances."""
        nothing = np.empty(0)
        unread = cls(nothing, nothing.astype(np.int64), scores, source, watch)
        del vars(unread)["distance"], vars(unread)["row_ids"]
        vars(unread)["_unread"] = scored, column, int(np.count_nonzero(scored))
        return unread

    @property
    def _unread(self) -> tuple[NDArray[np.bool_], Column[np.float64], int] | None:
        return vars(self).get("_unread")

    def __len__(self) -> int:
        return self._unread[2] if self._unread else super().__len__()

    @cached_property
    def row_ids(self) -> NDArray[np.int64]:
        assert self._unread is not None
        refuse_too_many(len(self))
        return np.flatnonzero(self._unread[0])

    @cached_property
    def distance(self) -> NDArray[np.float64]:
        refuse_too_many(len(self))
        return np.concatenate([np.empty(0), *self.distances()])

    def distances(self) -> Iterator[NDArray[np.float64]]:
        if self._unread is None:
            yield from super().distances()
            return
        scored, column, _ = self._unread
        for first, values in column.blocks():
            yield values[scored[first : first + len(values)]]

    def before(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        if self._unread is None:
            return super().before(ids)
        scored, ends = self._unread[0], [0, *ids.tolist()]
        return np.cumsum([np.count_nonzero(scored[a:b]) for a, b in pairwise(ends)])


def refuse_too_many(n_rows: int) -> None:
    """Raises SaefilterError where so many rows cannot be held on this machine."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not told by this system
        return
    needed = BYTES_A_ROW * n_rows
    if needed > memory:
        raise SaefilterError(
            f"what was asked for holds every row: {n_rows:,} of them take about {needed / 1e9:,.0f} GB of "
            f"memory, and this machine has {memory / 1e9:,.0f}",
            remedy="The strategy closest does not, without --drop auto, --by COLUMN and --keep-balance.",
        )


@dataclass(frozen=True)
class Ranking:
    """The candidates, first to drop first."""

    order: NDArray[np.int64]
    """Positions among the candidates, each once, `[n_rows]`."""
    reason: str
    """Why a row is dropped, in words that are true of every row that this strategy drops."""
    score: NDArray[np.float64] | None = None
    """By which they are ordered, higher is dropped first, `[n_rows]`; NaN for a row without one,
    which is dropped last. None where there is none."""
    score_name: str = "score"
    """What the score is, with its unit."""
    reasons: Sequence[str] | None = None
    """Of each row, `[n_rows]`, where they differ; instead of `reason`."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else the report must know of how it came about: JSON values, no times and no folders."""
    columns: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Further numbers of each row, by the names of their columns without our prefix, `[n_rows]`; NaN where
    a row has none."""

    @classmethod
    def by_score(
        cls,
        score: NDArray[np.floating[Any]],
        name: str,
        reason: str,
        *,
        reasons: Sequence[str] | None = None,
        details: Mapping[str, Any] | None = None,
        columns: Mapping[str, NDArray[np.float64]] | None = None,
    ) -> Ranking:
        """Highest score first; equal ones in the order of the input, NaN last."""
        values = np.asarray(score, dtype=np.float64)
        order = np.argsort(-values, kind="stable")
        return cls(order, reason, values, name, reasons, details or {}, columns or {})

    def reasons_of(self, positions: NDArray[np.int64]) -> list[str]:
        """Why the rows at these positions are dropped."""
        if self.reasons is None:
            return [self.reason] * len(positions)
        return [self.reasons[position] for position in positions.tolist()]


class ByDistance(Ranking):
    """Smallest distance first, equal ones in the order of the input; sorted when the order is asked for."""

    @classmethod
    def of(cls, candidates: Candidates, reason: str) -> ByDistance:
        ranking = cls(np.empty(0, dtype=np.int64), reason)
        del vars(ranking)["order"]
        vars(ranking)["_candidates"] = candidates
        return ranking

    @cached_property
    def order(self) -> NDArray[np.int64]:
        candidates: Candidates = vars(self)["_candidates"]
        return np.argsort(candidates.distance, kind="stable")

    @property
    def is_unsorted(self) -> bool:
        """Whether it is still by distance alone, and not what `replace` made of it."""
        return "_candidates" in vars(self)


@dataclass(frozen=True)
class Ranked:
    """A ranking by row id, for those who know rows of the input and not candidates."""

    ranking: Ranking
    candidates: Candidates

    def reasons(self, ids: NDArray[np.int64]) -> list[str]:
        """Why rows are dropped."""
        if self.ranking.reasons is None:
            return [self.ranking.reason] * len(ids)
        return self.ranking.reasons_of(self._positions(ids))

    def scores(self, ids: NDArray[np.int64]) -> list[float | None] | None:
        """The strategy's scores of rows, None for one that has none; None where there are none."""
        if self.ranking.score is None:
            return None
        return _known(self.ranking.score[self._positions(ids)])

    def columns(self, ids: NDArray[np.int64]) -> dict[str, list[float | None]]:
        """The strategy's further numbers of rows, by column."""
        if not self.ranking.columns:
            return {}
        positions = self._positions(ids)
        return {name: _known(values[positions]) for name, values in self.ranking.columns.items()}

    def first(self, ids: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """The `count` rows of `ids` that are dropped first, in that order."""
        place = np.empty(len(self.candidates), dtype=np.int64)
        place[self.ranking.order] = np.arange(len(self.candidates))
        return ids[np.argsort(place[self._positions(ids)], kind="stable")][:count]

    def _positions(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self.candidates.row_ids, ids)


def _known(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values.tolist()]
