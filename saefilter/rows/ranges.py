"""Read ranges of rows of an input, one after the other, without starting over for each."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from saefilter.rows.read import Source
from saefilter.rows.row import Row


class _Window(Collection[int]):
    """The rows that are wanted now; readers ask it about each row as they come to it."""

    def __init__(self) -> None:
        self.first = self.end = 0

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and self.first <= index < self.end

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.end))

    def __len__(self) -> int:
        return self.end - self.first


class RangeReader:
    """Reads ranges of one source. Ascending ranges cost a single pass over it, in which the rows
    between them are not parsed (JSONL); going back starts a new pass."""

    def __init__(self, source: Source):
        self.source = source
        self._files: list[tuple[Source, int]] = []  # with the id of its first row
        self._ends: list[int] = []
        self._open = -1  # which file is being read
        self._next = 0  # id of the next row that it can give
        self._window = _Window()
        self._rows: Iterator[Row] = iter(())

    def read(self, first: int, end: int) -> list[Row]:
        """The rows `first` to `end` - 1; fewer where the source has no more."""
        found: list[Row] = []
        for number, (file, start, stop) in enumerate(self._spans()):
            if stop > first and start < end:
                found += self._of_file(number, file, start, max(first, start), min(end, stop))
        return found

    def _spans(self) -> Iterator[tuple[Source, int, int]]:
        """Each file with its range of row ids."""
        if not self._files:
            start = 0
            for file in self.source.files:
                self._files.append((file, start))
                start += file.count_rows()
                self._ends.append(start)
        for (file, start), stop in zip(self._files, self._ends, strict=True):
            yield file, start, stop

    def _of_file(self, number: int, file: Source, start: int, first: int, end: int) -> list[Row]:
        if number != self._open or first < self._next:
            self._open, self._window = number, _Window()
            self._rows = file.rows(self._window)
        self._window.first, self._window.end = first - start, end - start
        name = self.source.name_of(file)
        found = []
        for _ in range(end - first):
            row = next(self._rows, None)
            if row is None:
                break
            found.append(replace(row, index=row.index + start, file=name))
        self._next = end
        return found
