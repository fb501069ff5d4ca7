"""One pass over the input that puts every row where it belongs, and proves that none is lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.filtering.conserve import check_scored, lost
from saefilter.filtering.parts import Part
from saefilter.rows.pieces import pieces, rare_garbage_collection
from saefilter.rows.read import Source

KEPT, DROPPED, QUARANTINED = 0, 1, 2
"""Places of rows."""
ROLES = {KEPT: "kept", DROPPED: "dropped", QUARANTINED: "quarantined"}


def partition(
    source: Source,
    places: NDArray[np.int8],
    hashes: NDArray[np.uint64],
    parts: Mapping[int, Part],
) -> None:
    """Write every row of the input to the part of its place, and check what was written.

    `places` and `hashes`, those of the scores, are `[n_rows]`. Raises SaefilterError when a row is
    not the one that was scored, cannot be written, or is not read back as it was written.
    """
    with rare_garbage_collection(), ExitStack() as stack:
        for part in parts.values():
            stack.callback(part.abandon)
        n_read = 0
        for piece in pieces(source):
            check_scored(piece, hashes, source)
            here = places[piece.first : piece.first + len(piece)]
            for place, part in parts.items():
                if positions := np.flatnonzero(here == place).tolist():
                    part.write(piece, positions)
            n_read += len(piece)
        if n_read != len(hashes):
            raise lost(f"{n_read:,} rows were read of {len(hashes):,}")
        _check_conservation(places, parts)
        for part in parts.values():
            part.close()


def _check_conservation(places: NDArray[np.int8], parts: Mapping[int, Part]) -> None:
    """Every input row was given to one part."""
    n_written = {place: parts[place].n_written if place in parts else 0
                 for place in (KEPT, DROPPED, QUARANTINED)}  # fmt: skip
    if any(int((places == place).sum()) != count for place, count in n_written.items()):
        raise SaefilterError(
            f"rows would be lost: {n_written[KEPT]} kept, {n_written[DROPPED]} dropped and "
            f"{n_written[QUARANTINED]} quarantined are not the {len(places)} rows of the input",
            remedy="Nothing was written. Please report this as a bug.",
        )


class Reasons:
    """Why rows were not scored, asked for in the rows' order, so that few are held."""

    def __init__(self, scores: Scores):
        self._batches = self._read(scores)
        self._first = 0
        self._held: list[str | None] = []

    @staticmethod
    def _read(scores: Scores) -> Iterator[list[str | None]]:
        for batch in scores.batches(["reason"]):
            yield batch.column(0).to_pylist()

    def of(self, row_id: int) -> str:
        """The reason of a row; its id is larger than that of the one before."""
        while row_id >= self._first + len(self._held):
            self._first += len(self._held)
            self._held = next(self._batches)
        return self._held[row_id - self._first] or "not scored"
