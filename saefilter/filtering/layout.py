"""Where the rows of a folder of files go: each file by its own name and place, its dropped and quarantined
rows beside it. One pass over all files, of which one at a time is open.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter.errors import SaefilterError
from saefilter.filtering.outputs import file_record
from saefilter.filtering.parts import DROPPED, KEPT, QUARANTINED, ROLES, Part
from saefilter.rows.pieces import Piece
from saefilter.rows.read import COMPRESSIONS, TABLES, Source
from saefilter.rows.written import FORMATS, PARQUET, format_of
from saefilter.storage import Location, RemotePath


def goes_to_folder(source: Source, output: Location | None) -> bool:
    """Whether an output is a folder: of several files unless it is called like a file, of one where it is
    called like no file or is there. Raises SaefilterError for a folder in a store."""
    several = len(source.files) > 1
    if output is None:
        return several
    if format_of(output.name) is not None:
        return False
    if isinstance(output, RemotePath):
        if several:
            raise SaefilterError(
                f"{output} would be a folder of files, which are only written on this machine",
                remedy="Name a folder here and copy it there, or one file: -o URL/NAME.jsonl",
            )
        return False
    return several or not output.suffix or output.is_dir()


@dataclass(frozen=True)
class LaidOut:
    """One file of the input, and the names of what is written of it, relative to the folder."""

    file: Source
    name: str
    """Of the file, as rows have it."""
    names: dict[int, str]
    """By place: kept, dropped and quarantined rows."""

    @property
    def is_table(self) -> bool:
        """Whether it is written as Parquet; else as lines."""
        return format_of(self.names[KEPT]) == PARQUET


def laid_out(source: Source) -> list[LaidOut]:
    """The files of an input, in order, and where their rows go.

    JSON lines, CSV (both compressed too) and Parquet keep their names; what cannot be written as it was read
    becomes one of these: `a.json` (an array) becomes `a.jsonl`, and `a.arrow` becomes `a.parquet`.
    Raises SaefilterError when two files would have one name.
    """
    named = [(file, source.name_of(file) or file.path.name) for file in source.files]
    taken = {name for file, name in named if _keeps_its_name(file)}
    files = []
    for file, name in named:
        kept = name if _keeps_its_name(file) else _other_name(file, name, taken)
        taken.add(kept)
        beside = {place: _beside(kept, ROLES[place]) for place in (DROPPED, QUARANTINED)}
        files.append(LaidOut(file, name, {KEPT: kept, **beside}))
    _refuse_clashes(files)
    return files


def _keeps_its_name(file: Source) -> bool:
    return file.kind in FORMATS


def _beside(kept: str, role: str) -> str:
    """`a.jsonl.gz` -> `a.dropped.jsonl.gz`"""
    path = PurePosixPath(kept)
    outer = path.suffix if path.suffix.lower() in COMPRESSIONS else ""
    inner = PurePosixPath(path.name.removesuffix(outer))
    return path.with_name(f"{inner.stem}.{role}{inner.suffix}{outer}").as_posix()


def _other_name(file: Source, name: str, taken: set[str]) -> str:
    """The name with another suffix; behind its own one where another file is called so."""
    suffix = ".parquet" if file.kind in TABLES else ".jsonl"
    path = PurePosixPath(name)
    short = path.with_name(file.stem + suffix).as_posix()
    return short if short not in taken else name + suffix


def _refuse_clashes(files: Iterable[LaidOut]) -> None:
    written: dict[str, str] = {}
    for one in files:
        for place, name in one.names.items():
            other = written.setdefault(name, one.name)
            if other != one.name:
                raise SaefilterError(
                    f"the {ROLES[place]} rows of {one.name} would be called {name}, and so would rows "
                    f"of {other}",
                    remedy="Rename one of the files, or write one file: --single.",
                )


@dataclass
class FolderPart:
    """The rows of one place, each in the file that belongs to its own."""

    place: int
    folder: Path
    files: Sequence[LaidOut]
    starts: Sequence[int]
    """The number of each file's first row, and that of all rows."""
    places: NDArray[np.int8]
    """Of all rows."""
    opened: Callable[[int, Path], Part]
    """The part for the rows of a file, by its number, at a path."""
    n_written: int = 0
    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    """What was written, by the file's number."""
    _number: int = -1
    _part: Part | None = None

    def write(self, piece: Piece, positions: Sequence[int]) -> None:
        number = bisect_right(self.starts, piece.first) - 1  # the last of those that start there
        if number != self._number:
            self._end()
            self._begin(number)
        assert self._part is not None
        self._part.write(piece, positions)
        self.n_written += len(positions)

    def close(self) -> None:
        """A file that was empty is so again; one that lost all its rows is not there."""
        self._end()
        if self.place == KEPT:
            for number in np.flatnonzero(np.diff(self.starts) == 0).tolist():
                self._begin(number)
                self._end()

    def abandon(self) -> None:
        if self._part is not None:
            self._part.abandon()

    def _begin(self, number: int) -> None:
        path = self._path(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._number, self._part = number, self.opened(number, path)

    def _end(self) -> None:
        if self._part is None:
            return
        number = self._number
        self._part.close()
        self._part = None
        here = self.places[self.starts[number] : self.starts[number + 1]]
        count = int((here == self.place).sum())
        name = self.files[number].names[self.place]
        self.records[number] = file_record(self._path(number), name, count)

    def _path(self, number: int) -> Path:
        return self.folder / self.files[number].names[self.place]


def records(
    files: Sequence[LaidOut], starts: Sequence[int], parts: Iterable[FolderPart]
) -> list[dict[str, Any]]:
    """What the report keeps of each file."""
    of_place = {ROLES[part.place]: part.records for part in parts}
    return [
        {
            "file": one.name,
            "rows": starts[number + 1] - starts[number],
            **{role: kept[number] for role, kept in of_place.items() if number in kept},
        }
        for number, one in enumerate(files)
    ]
