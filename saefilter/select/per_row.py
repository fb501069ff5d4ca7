"""Scores that a model gives row by row: in pieces, with progress, equal rows once, and kept by the hash of
the row, so that a rerun costs nothing.

They are kept in one text file for everything that the numbers depend on, a line for each row. A line
that a kill or a full disk cut short lacks its end and is left out.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from saefilter import __version__
from saefilter.config import cache_folder
from saefilter.rows.formats import Conversation
from saefilter.select.ranking import Candidates

PIECE_ROWS = 1024
"""Rows that are rendered, sorted by length and read together."""
Score = Callable[[Sequence[Conversation]], NDArray[np.float64]]
Scores = Callable[[Sequence[Any]], NDArray[np.float64]]
"""Of whatever is read of each row, `[n, n_scores]`."""
Item = TypeVar("Item")
END = " ."
"""Of every line."""


def scored_once(
    candidates: Candidates, kind: str, depends_on: dict[str, Any], score: Score
) -> NDArray[np.float64]:
    """The score of every candidate, `[n_rows]`.

    `score` is asked for those whose number is not in the cache of `kind`, by everything it
    `depends_on`, some at a time.
    """
    each = scored_each(candidates, kind, [depends_on], lambda rows: score(rows)[:, None])
    return each[:, 0]


def scored_each(
    candidates: Candidates, kind: str, depends_on: Sequence[dict[str, Any]], score: Scores,
    items: Callable[[], Iterable[Any]] | None = None,
) -> NDArray[np.float64]:  # fmt: skip
    """Several scores of every candidate in one pass over the data, `[n_rows, n_scores]`.

    Each is kept by what it alone `depends_on`; `score` gives all of them, `[n, n_scores]`, and is asked for
    the rows of which one is not known. `items`: what it is given of each row, in their order; its
    conversation unless something else is named.
    """
    caches = [RowCache(kind, one, candidates.watch.say) for one in depends_on]
    hashes = candidates.row_hashes()
    wanted = {
        row_hash for row_hash in hashes if any(cache.get(row_hash) is None for cache in caches)
    }
    n_known = sum(row_hash not in wanted for row_hash in hashes)
    candidates.cost.rows_kept += n_known
    candidates.cost.rows_read += len(hashes) - n_known
    if n_known:
        candidates.watch.say(f"{kind}: {n_known:,} of {len(hashes):,} rows are known already")
    candidates.watch.plan(len(hashes), n_known)
    if wanted:
        for piece in _pieces(
            zip(hashes, (items or candidates.conversations)(), strict=True), PIECE_ROWS
        ):
            _score_piece(piece, wanted, caches, score, candidates)
    values = [[cache.get(row_hash) for cache in caches] for row_hash in hashes]
    return np.array(values, dtype=np.float64).reshape(len(hashes), len(caches))


def _score_piece(
    piece: list[tuple[str, Any]],
    wanted: set[str],
    caches: Sequence[RowCache],
    score: Scores,
    candidates: Candidates,
) -> None:
    new = {row_hash: said for row_hash, said in piece if row_hash in wanted}
    if new:
        with candidates.cost.of_rows():
            scores = score(list(new.values()))
        for cache, column in zip(caches, scores.T, strict=True):
            cache.put(dict(zip(new, column.tolist(), strict=True)))
        wanted.difference_update(new)
    done = sum(row_hash in new for row_hash, _ in piece)
    candidates.watch.advance(done, 0)


def _pieces(items: Iterable[Item], size: int) -> Iterable[list[Item]]:
    source = iter(items)
    while piece := list(islice(source, size)):
        yield piece


class RowCache:
    """What is known of rows already; NaN is kept as well."""

    def __init__(self, kind: str, depends_on: dict[str, Any], say: Callable[[str], None]):
        """`say` is told when the numbers cannot be kept; the run goes on without."""
        key = json.dumps([__version__, depends_on], sort_keys=True)
        digest = hashlib.sha256(key.encode()).hexdigest()[:24]
        self.path: Path = cache_folder() / "strategies" / f"{kind}-{digest}.txt"
        self._say, self._kept = say, True
        self._known: dict[str, float] = {}
        try:
            self._known.update(self._read())
        except OSError as error:
            self._give_up(error)

    def get(self, row_hash: str) -> float | None:
        """The row's number, or None when it is not known."""
        return self._known.get(row_hash)

    def put(self, numbers: dict[str, float]) -> None:
        """Keep the numbers of some rows."""
        self._known.update(numbers)
        if not self._kept:
            return
        lines = "".join(f"{row_hash} {value!r}{END}\n" for row_hash, value in numbers.items())
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # one write that begins a line of its own, so that what was cut short stays apart
            with open(self.path, "a", encoding="ascii") as file:
                file.write("\n" + lines)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._kept = False
        self._say(f"What is found out cannot be kept for a rerun ({error})")

    def _read(self) -> Iterable[tuple[str, float]]:
        if not self.path.is_file():
            return
        text = self.path.read_text(encoding="ascii", errors="replace")
        for line in text.split("\n"):
            row_hash, _, number = line.removesuffix(END).partition(" ")
            if not line.endswith(END):
                continue
            try:
                value = float(number)
            except ValueError:
                continue
            if row_hash and (math.isfinite(value) or math.isnan(value)):
                yield row_hash, value


def weights_in(name: str) -> list[list[Any]]:
    """Which weights a folder holds, without reading them; a hub model has its commit."""
    if not Path(name).is_dir():
        return []
    files = sorted(path for path in Path(name).iterdir() if path.is_file())
    stats = [(path.name, path.stat()) for path in files]
    return [[file, stat.st_size, stat.st_mtime_ns] for file, stat in stats]
