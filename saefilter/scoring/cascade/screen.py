"""The first pass of a cascade: every row is rendered as the model would read it, and seen by the cheap reader.

A shard of it holds what the scores file says of a row that the model never reads, and the cheap reader's vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saefilter.scoring.job import Job, Receipt, Shard, ShardRows
from saefilter.scoring.shard import no_memory_is_an_error, timed, written

if TYPE_CHECKING:
    from saefilter.scoring.prepare import Prepared
    from saefilter.scoring.scorer import RowScorer
    from saefilter.scoring.workfolder import WorkFolder

SCREENED = pa.schema(
    [
        ("row_id", pa.int64()),
        ("line", pa.int64()),
        ("file", pa.string()),
        ("row_hash", pa.string()),
        ("reason", pa.string()),
        ("n_tokens", pa.int32()),
        ("n_trained", pa.int32()),
        ("n_scored", pa.int32()),
        ("truncated", pa.bool_()),
        ("known", pa.bool_()),
        ("vector", pa.binary()),
    ]
)
"""One line per row; `vector` is of half-precision numbers, null where the row cannot be scored."""


def screen_shard(
    job: Job, scorer: RowScorer, read: ShardRows, advance: Callable[[int], None]
) -> Receipt:
    """See a shard's rows with the cheap reader. Raises SaefilterError."""
    from saefilter.scoring.scorer import Measured  # imports torch, which merging does without

    assert scorer.cheap is not None
    spent = {"read": read.seconds}
    with no_memory_is_an_error():
        prepared = scorer.preparer.prepare(read.rows, job.kind)
        spent["render"] = prepared.seconds
        with timed(spent, "cheap"):
            view = scorer.cheap.read(read.rows, prepared, advance)
    table = screened_table(prepared, view.vectors, view.known)
    return written(job, scorer, read, prepared, Measured(table, None), view.tally, spent)


def screened_table(
    prepared: Prepared, vectors: NDArray[np.float16], known: NDArray[np.bool_]
) -> pa.Table:
    """The rows as SCREENED keeps them; `vectors`, `[n_rows, d]`, and `known`, `[n_rows]`, as in a `View`."""
    texts = [
        text if problem is None else None
        for text, problem in zip(prepared.rendered, prepared.problem, strict=True)
    ]
    read = [(None,) * 4 if text is None else (text.n_tokens, text.n_trained, text.n_scored, text.truncated)
            for text in texts]  # fmt: skip
    n_tokens, n_trained, n_scored, truncated = zip(*read, strict=True) if read else ((),) * 4
    columns = [
        prepared.row_id, prepared.line, prepared.file, prepared.row_hash, prepared.problem,
        n_tokens, n_trained, n_scored, truncated, known,
        [None if text is None else vector.tobytes() for text, vector in zip(texts, vectors, strict=True)],
    ]  # fmt: skip
    arrays = [pa.array(column, one.type) for one, column in zip(SCREENED, columns, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCREENED)


@dataclass(frozen=True)
class ScreenedRows:
    """The rows that can be scored, as the cheap reader saw them; vectors stay in their shards."""

    folder: WorkFolder
    ids: NDArray[np.int64]
    """Of the rows in the input, ascending, `[n]`."""
    known: NDArray[np.bool_]
    tokens: NDArray[np.int64]
    """That the model would read of each, `[n]`."""

    @classmethod
    def of(cls, folder: WorkFolder, max_tokens: int) -> ScreenedRows:
        """Of a folder whose shards are all screened."""
        ids, known, tokens = [], [], []
        for shard in folder.shards:
            table = folder.read(shard, ["row_id", "reason", "known", "n_tokens"])
            good = table["reason"].is_null().to_numpy()
            ids.append(table["row_id"].to_numpy()[good])
            known.append(table["known"].to_numpy()[good])
            counts = table["n_tokens"].fill_null(0).to_numpy()[good]
            tokens.append(np.minimum(counts, max_tokens).astype(np.int64))
        return cls(folder, np.concatenate(ids), np.concatenate(known), np.concatenate(tokens))

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Seen`."""
        first = np.searchsorted(self.ids, [shard.first_row for shard in self.folder.shards])
        parts = []
        for number, shard in enumerate(self.folder.shards):
            start, end = np.searchsorted(rows, [first[number], [*first, len(self.ids)][number + 1]])
            if end > start:
                parts.append(self._of_shard(shard)[rows[start:end] - first[number]])
        return np.concatenate(parts)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """See `Seen`."""
        for shard in self.folder.shards:
            if len(vectors := self._of_shard(shard)):
                yield vectors

    def _of_shard(self, shard: Shard) -> NDArray[np.float32]:
        """Vectors of its rows that can be scored."""
        vectors = self.folder.read(shard, ["vector"])["vector"].drop_null().to_pylist()
        numbers = np.frombuffer(b"".join(vectors), np.float16).astype(np.float32)
        return numbers.reshape(len(vectors), -1) if vectors else numbers.reshape(0, 0)
