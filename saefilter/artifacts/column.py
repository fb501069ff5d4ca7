"""Columns of a scores file that are read where they are asked for, and not held: `filter` goes over a hundred
million rows in the memory that it needs for a million.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from saefilter.artifacts.integrity import WINDOW_ROWS, row_group_windows
from saefilter.errors import SaefilterError

if TYPE_CHECKING:
    from saefilter.artifacts.scores import Scores

Number = TypeVar("Number", bound=np.generic)


class Groups:
    """A Parquet file's row groups, as windows that are read as a whole."""

    def __init__(self, scores: Scores, window_rows: int = WINDOW_ROWS):
        """Raises SaefilterError when the file cannot be read."""
        self.scores = scores
        with scores.reading():
            self._file = pq.ParquetFile(scores.file)
        metadata = self._file.metadata
        self._groups = row_group_windows(metadata, window_rows)
        rows = [sum(metadata.row_group(i).num_rows for i in groups) for groups in self._groups]
        self.ends = np.cumsum(rows, dtype=np.int64)
        """The number of the row behind each window's last."""

    def read(self, window: int, column: str) -> pa.Array:
        """A column of the rows of a window. Raises SaefilterError."""
        with self.scores.reading():
            table = self._file.read_row_groups(self._groups[window], [column], use_threads=False)
        array = table[column].combine_chunks()
        return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


@dataclass
class Column(Generic[Number]):
    """One column of consecutive rows, as an array that is not held. Cheap in the rows' order: of it, one
    window is kept."""

    groups: Groups
    name: str
    decoded: Callable[[pa.Array], NDArray[Number]]
    """The numbers of a window."""
    dtype: type[Number]
    first: int = 0
    n_rows: int = -1
    """All where nothing else is said."""
    _window: int = -1
    _values: NDArray[Any] = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        if self.n_rows < 0:
            self.n_rows = int(self.groups.ends[-1]) if len(self.groups.ends) else 0

    def __len__(self) -> int:
        return self.n_rows

    def part(self, first: int, last: int) -> Column[Number]:
        """Some of its rows, as a column of their own."""
        return replace(self, first=self.first + first, n_rows=last - first, _window=-1)

    def blocks(self) -> Iterator[tuple[int, NDArray[Number]]]:
        """All of its rows in order: the number of the first, and as many as a window has."""
        first = 0
        while first < self.n_rows:
            window = self._window_of(self.first + first)
            last = min(self.n_rows, int(self.groups.ends[window]) - self.first)
            yield first, self[first:last]
            first = last

    @overload
    def __getitem__(self, rows: int) -> Number: ...
    @overload
    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[Number]: ...
    def __getitem__(self, rows: int | slice | NDArray[np.int64]) -> Number | NDArray[Number]:
        """Of a row, of consecutive ones, or of ascending numbers of rows."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(self.n_rows)
            return self._between(self.first + start, self.first + max(start, stop))
        if isinstance(rows, np.ndarray):
            if not len(rows):
                return self._between(self.first, self.first)
            start = int(rows[0])
            return self[start : int(rows[-1]) + 1][rows - start]
        if not 0 <= rows < self.n_rows:
            raise IndexError(rows)
        value: Number = self[rows : rows + 1][0]
        return value

    def _between(self, start: int, stop: int) -> NDArray[Number]:
        pieces: list[NDArray[Number]] = []
        while start < stop:
            window = self._window_of(start)
            first = int(self.groups.ends[window - 1]) if window else 0
            if window != self._window:
                self._values = self.decoded(self.groups.read(window, self.name))
                self._window = window
            here: NDArray[Number] = self._values[start - first : stop - first]
            if not len(here):  # a row group that has fewer rows than it says
                raise SaefilterError("rows are missing", where=str(self.groups.scores.path))
            pieces.append(here)
            start += len(here)
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else np.empty(0, self.dtype)

    def _window_of(self, row: int) -> int:
        return int(np.searchsorted(self.groups.ends, row, "right"))
