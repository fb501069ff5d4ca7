"""The scores file: its schema, its provenance, reading it back. No torch here."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from saefilter.artifacts.column import Column, Groups
from saefilter.artifacts.integrity import BATCH_ROWS, batches_of, parquet_content
from saefilter.artifacts.provenance import METADATA_KEY, PART_KEY, SCORES_VERSION, Provenance
from saefilter.errors import SaefilterError
from saefilter.storage import Location, local_copy, located
from saefilter.text import command_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Self

    from saefilter.rows.read import Source

SUFFIX = ".scores.parquet"
SCORED = "scored"
QUARANTINED = "quarantined"
ESTIMATED = "estimated"
"""Of a cascade's rows that the model did not read: they have an estimate instead of a distance."""

TOP_FEATURE = pa.struct(
    [
        ("feature", pa.int32()),
        ("label", pa.string()),
        ("activation", pa.float32()),
        ("share", pa.float32()),
        ("toxic_feature", pa.int32()),
        ("toxic_label", pa.string()),
        ("cosine", pa.float32()),
    ]
)

THEME = pa.struct(
    [
        ("theme", pa.string()),
        ("share", pa.float32()),
        ("usual", pa.float32()),
        ("words", pa.list_(pa.string())),
    ]
)
"""A theme that stands out in a row: its share of the row's toxic evidence, its share in harmless rows, and
the row's words that carry it."""
CLOSEST = pa.struct(
    [
        ("text", pa.string()),
        ("prompt", pa.string()),
        ("theme", pa.string()),
        ("cosine", pa.float32()),
    ]
)
"""The toxic set's example that a row is most like."""

SCHEMA = pa.schema(
    [
        ("row_id", pa.int64()),
        ("line", pa.int64()),
        ("file", pa.string()),
        ("row_hash", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("distance", pa.float64()),
        ("proximity", pa.float64()),
        ("percentile", pa.float64()),
        ("n_tokens", pa.int32()),
        ("n_trained", pa.int32()),
        ("n_scored", pa.int32()),
        ("truncated", pa.bool_()),
        ("top_features", pa.list_(TOP_FEATURE)),
        ("top_words", pa.list_(pa.string())),
        ("own_share", pa.float32()),
        ("themes", pa.list_(THEME)),
        ("closest", CLOSEST),
        ("read_as", pa.int64()),
    ]
)
"""One line per input row, in the input's order; quarantined rows have nulls and their reason. The last four are not in files of before there were any.
`read_as` is the row that was read in this one's place, where the two are nearly identical and that was asked for."""

CASCADE_SCHEMA = pa.schema(
    [
        *SCHEMA,
        ("estimate", pa.float64()),
        ("estimate_low", pa.float64()),
        ("estimate_high", pa.float64()),
        ("sampled", pa.bool_()),
    ]
)
"""Of a cascade: rows that were not read have an estimate of their distance, and its interval. `sampled` rows were
read because they were drawn at random, each with the same chance; they stand for all."""
OF_SIDE = {
    "proximity": pa.float64(), "percentile": pa.float64(), "n_scored": pa.int32(),
    "truncated": pa.bool_(),
}  # fmt: skip
PREFERENCE_SCHEMA = pa.schema(
    [*SCHEMA]
    + [
        (f"{side}_{name}", kind)
        for side in ("chosen", "rejected")
        for name, kind in OF_SIDE.items()
    ]
)
"""Of preference data: `proximity` is what training pushes towards and `distance` its opposite (0 is neutral), the
`percentile` is of that, and each answer has its own. A KTO row has its answer among the chosen ones where
it is learnt, and among the rejected ones where it is unlearnt."""


@dataclass(frozen=True)
class Scores:
    """A scores file, opened: its provenance, and its columns on demand."""

    path: Location
    provenance: Provenance
    copy: Path | None = None
    """On this machine, of a file in a store."""

    def __repr__(self) -> str:
        made = self.provenance
        read = f"{made.scored:,} scored, {made.quarantined:,} quarantined"
        return f"Scores({made.rows:,} rows: {read}; {made.preset}, metric {made.metric})"

    @property
    def file(self) -> Path:
        """What is read."""
        if self.copy is not None:
            return self.copy
        return self.path if isinstance(self.path, Path) else local_copy(self.path)

    @classmethod
    def open(cls, path: str | Location) -> Self:
        """Raises SaefilterError when it is missing, damaged or not a scores file."""
        path = located(path)
        if not path.exists():
            raise SaefilterError(
                f"there is no scores file {path}", remedy="Run: saefilter score DATA"
            )
        file = local_copy(path)
        try:
            metadata = pq.read_metadata(file).metadata or {}
        except (pa.ArrowException, OSError) as error:
            raise SaefilterError(
                f"not a readable Parquet file ({str(error).splitlines()[0]})",
                where=str(path),
                remedy="Run saefilter score again with --overwrite."
                if path.name.endswith(".parquet")
                else "Scores end in .parquet; of data, saefilter score makes them.",
            ) from error
        if PART_KEY in metadata:
            raise SaefilterError(
                "a part of scores, not all of them",
                where=str(path),
                remedy="When all parts are there: saefilter scores merge PART... -o SCORES",
            )
        if METADATA_KEY not in metadata:
            raise SaefilterError("not a scores file of saefilter", where=str(path))
        try:
            fields: dict[str, Any] = json.loads(metadata[METADATA_KEY])
            version = fields.get("scores_version")
            made = Provenance(**fields) if version == SCORES_VERSION else None
            if made is not None and not isinstance(made.settings, dict | None):
                raise TypeError("settings")
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise SaefilterError(
                f"its metadata are damaged ({str(error)[:100]})",
                where=str(path),
                remedy="Run saefilter score again with --overwrite.",
            ) from error
        if made is not None:
            return cls(path, made, None if file == path else file)
        if version is None:  # kept, dropped or quarantined rows
            raise SaefilterError(
                f"holds {fields.get('role', 'filtered')} rows, not scores",
                where=str(path),
                remedy="Name the .scores.parquet file.",
            )
        raise SaefilterError(
            f"scores of version {version}; this saefilter reads {SCORES_VERSION}",
            where=str(path),
            remedy="Score the data again.",
        )

    def check_belongs(self, source: Source) -> None:
        """Raises SaefilterError when these are not the scores of that data."""
        if source.sha256() != self.provenance.input_sha256:
            raise SaefilterError(
                f"{source.path} is not the data that {self.path} was made from (its content differs)",
                remedy=f"Score it again: saefilter score {command_line(str(source.path))} --overwrite",
            )

    def verify(self) -> None:
        """Raises SaefilterError when its rows are not those that were written. Reads all of it."""
        content = parquet_content(self.file)
        recorded = self.provenance.content_sha256
        if recorded is not None and content.hexdigest() != recorded:
            raise SaefilterError(
                "these scores were changed after they were made (their content hash is "
                f"{content.hexdigest()[:12]}, {recorded[:12]} was recorded)",
                where=str(self.path),
                remedy="Run saefilter score again with --overwrite.",
            )
        if content.rows != self.provenance.rows:
            raise SaefilterError(
                f"{content.rows:,} rows where {self.provenance.rows:,} were scored",
                where=str(self.path),
                remedy="Run saefilter score again with --overwrite.",
            )

    def read(self, columns: list[str]) -> pa.Table:
        """Some of its columns."""
        with self.reading():
            return pq.read_table(self.file, columns=columns)

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Some of its columns, a number of rows at a time."""
        with self.reading(), pq.ParquetFile(self.file) as file:
            yield from batches_of(file, BATCH_ROWS, columns)

    def column(self, name: str, groups: Groups | None = None) -> Column[np.float64]:
        """One of its columns of numbers, not held; NaN where there is none."""

        def decoded(array: pa.Array) -> NDArray[np.float64]:
            return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float64)

        return Column(groups or Groups(self), name, decoded, np.float64)

    def fit(self, status: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
        """Of the column `status`, which rows could be scored: those that were, and those of a cascade that have
        an estimate."""
        known = pc.is_in(status, pa.array([SCORED, ESTIMATED]))
        flags: NDArray[np.bool_] = (
            known.to_numpy(zero_copy_only=False)
            if isinstance(known, pa.Array)
            else known.to_numpy()
        )
        return flags

    def having(self, columns: Iterable[str]) -> list[str]:
        """Those of the columns that the file has."""
        names = set(pq.read_schema(self.file).names)
        return [name for name in columns if name in names]

    @property
    def of_preferences(self) -> bool:
        """Whether it is of preference data, and has the columns of the two sides."""
        return self.provenance.preference is not None

    def own_share(self) -> float | None:
        """How much of what adds to the scores is of the toxic set's own features, mean over rows, 0 to 1;
        the rest is of features that lie next to them. None in files of before it was kept."""
        if not self.having(["own_share"]):
            return None
        total, rows = 0.0, 0
        for batch in self.batches(["own_share"]):
            rows += len(batch) - batch.column(0).null_count
            total += pc.sum(batch.column(0)).as_py() or 0.0
        return total / rows if rows else None

    def row_hashes(self) -> NDArray[np.uint64]:
        """`Row.digest` of every row as numbers, eight bytes a row."""
        return self.row_hash_column()[:]

    def row_hash_column(self, groups: Groups | None = None) -> Column[np.uint64]:
        """The same, not held."""
        return Column(groups or Groups(self), "row_hash", self._hashes, np.uint64)

    def _hashes(self, array: pa.Array) -> NDArray[np.uint64]:
        numbers = _as_numbers(array.to_pylist())
        if numbers is None:
            raise SaefilterError(
                "its row hashes are damaged",
                where=str(self.path),
                remedy="Run saefilter score again with --overwrite.",
            )
        return numbers

    def rows_of_files(self, source: Source) -> NDArray[np.int64]:
        """How many rows each of the source's files has, `[n_files]`.

        Raises SaefilterError when they are not of these files.
        """
        names = [source.name_of(file) for file in source.files]
        place = {name: number for number, name in enumerate(names)}
        counts, last = np.zeros(len(names), dtype=np.int64), 0
        for batch in self.batches(["file"]):
            runs = pc.run_end_encode(batch.column(0))
            ends = np.diff(runs.run_ends.to_numpy(), prepend=0)
            for name, count in zip(runs.values.to_pylist(), ends.tolist(), strict=True):
                number = place.get(name, -1)
                if number < last:
                    raise SaefilterError(
                        f"its rows are not in the order of the files of {source.path}",
                        where=str(self.path), remedy="Score the data again.",
                    )  # fmt: skip
                counts[number] += count
                last = number
        return counts

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What goes wrong with the file becomes a SaefilterError."""
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise SaefilterError(
                f"cannot be read ({str(error).splitlines()[0]})",
                where=str(self.path),
                remedy="Run saefilter score again with --overwrite.",
            ) from error


def _as_numbers(hashes: list[str]) -> NDArray[np.uint64] | None:
    try:
        digests = bytes.fromhex("".join(hashes))
    except (TypeError, ValueError):
        return None
    if any(len(digest) != 16 for digest in hashes):
        return None
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def latest_scores(folder: Path) -> Path:
    """The scores file in `folder` that was written last. Raises SaefilterError without one."""
    by_age = sorted(
        filter(Path.is_file, folder.glob(f"*{SUFFIX}")), key=lambda path: path.stat().st_mtime
    )
    if not by_age:
        raise SaefilterError(
            "there are no scores in this folder",
            remedy="Run: saefilter score DATA, or name the data: saefilter filter DATA --drop-frac 0.1",
        )
    return by_age[-1]
