"""Scores that a model gives row by row: in chunks, with progress, equal rows once, and kept for a rerun."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from saefilter.rows.formats import Conversation
from saefilter.select.candidates import Candidates
from saefilter.select.row_cache import RowCache

CHUNK_ROWS = 1024
"""Rows that are rendered, sorted by length and read together."""

Score = Callable[[Sequence[Conversation]], NDArray[np.float64]]
Item = TypeVar("Item")


def scored_once(
    candidates: Candidates, kind: str, depends_on: dict[str, Any], score: Score
) -> NDArray[np.float64]:
    """The score of every candidate, `[n_rows]`.

    `score` is asked for those whose number is not in the cache of `kind`, by everything it
    `depends_on`, some at a time.
    """
    cache = RowCache(kind, depends_on, candidates.watch.say)
    hashes = candidates.row_hashes()
    unknown = [row_hash for row_hash in dict.fromkeys(hashes) if cache.get(row_hash) is None]
    wanted = set(unknown)
    n_known = sum(row_hash not in wanted for row_hash in hashes)
    if n_known:
        candidates.watch.say(f"{kind}: {n_known:,} of {len(hashes):,} rows are known already")
    candidates.watch.plan(len(hashes), n_known)
    if wanted:
        for chunk in _chunks(zip(hashes, candidates.conversations(), strict=True), CHUNK_ROWS):
            _score_chunk(chunk, wanted, cache, score, candidates)
    values = [cache.get(row_hash) for row_hash in hashes]
    return np.array(values, dtype=np.float64)


def _score_chunk(
    chunk: list[tuple[str, Conversation]],
    wanted: set[str],
    cache: RowCache,
    score: Score,
    candidates: Candidates,
) -> None:
    new = {row_hash: said for row_hash, said in chunk if row_hash in wanted}
    if new:
        found = score(list(new.values()))
        cache.put(dict(zip(new, found.tolist(), strict=True)))
        wanted.difference_update(new)
    done = sum(row_hash in new for row_hash, _ in chunk)
    candidates.watch.advance(done, 0)


def _chunks(items: Iterable[Item], size: int) -> Iterable[list[Item]]:
    source = iter(items)
    while chunk := list(islice(source, size)):
        yield chunk
