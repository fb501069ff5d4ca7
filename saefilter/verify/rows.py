"""Kept, dropped and quarantined files against their scores and the input, row by row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from saefilter.artifacts.provenance import METADATA_KEY
from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.filtering.conserve import (
    entries_of,
    is_quarantined_row,
    line_hash,
    row_hashes_sha256,
    same_row,
    unannotated,
)
from saefilter.filtering.soft import taken_off
from saefilter.filtering.switch import Switches
from saefilter.rows.read import Source, open_lines
from saefilter.rows.write import PREFIX
from saefilter.rows.written import CSV, PARQUET, format_of


@dataclass(frozen=True)
class Parts:
    """The files that hold the rows of one run."""

    kept: Path | None
    """None for a file of a folder that lost all its rows."""
    dropped: Path | None
    """None for soft outputs."""
    quarantined: Path | None
    written: dict[str, Any] = field(default_factory=dict)
    """What a soft output added to all rows; see `filtering/soft.py`."""

    @classmethod
    def beside(cls, path: Path, report: dict[str, Any]) -> Parts | None:
        """By the names in the report, all in the folder of `path`; None when one is missing."""
        outputs = report.get("outputs") or {}
        files = {
            role: path.with_name(Path(str(name)).name)
            for role, name in outputs.items()
            if role in ("kept", "dropped", "quarantined")
        }
        written = report.get("written") or {}
        needed = {"kept"} if written else {"kept", "dropped"}
        if not needed <= set(files) or not all(f.is_file() for f in files.values()):
            return None
        return cls(files["kept"], files.get("dropped"), files.get("quarantined"), written)

    def named(self) -> dict[str, Path | None]:
        return {"kept": self.kept, "dropped": self.dropped, "quarantined": self.quarantined}

    def counts(self) -> dict[str, int | None]:
        """Rows of each file; None for one that cannot be read."""
        counts: dict[str, int | None] = {"kept": 0, "dropped": 0, "quarantined": 0}
        for role, path in self.named().items():
            if path is not None:
                try:
                    counts[role] = _count(path)
                except (pa.ArrowException, OSError):
                    counts[role] = None
        return counts


@dataclass(frozen=True)
class Ids:
    """Numbers of rows in each file, in its order."""

    kept: NDArray[np.int64]
    dropped: NDArray[np.int64]
    quarantined: NDArray[np.int64]


def _wrong(what: str) -> SaefilterError:
    return SaefilterError(what)


def check_conservation(parts: Parts, scores: Scores) -> str:
    """Every scored row is in exactly one file, with the hash it was scored with.

    Returns it in words. Raises SaefilterError with what is wrong.
    """
    rows = ScoredRows.of(scores)
    ids = conserved(parts, rows)
    return (
        f"{len(ids.kept):,} kept + {len(ids.dropped):,} dropped + {len(ids.quarantined):,} "
        f"quarantined = {len(rows.hashes):,} scored rows, each in one place"
    )


@dataclass(frozen=True)
class ScoredRows:
    """What the scores say of consecutive rows."""

    hashes: NDArray[np.uint64]
    scored: NDArray[np.bool_]
    """Whether they could be."""
    name: str
    """Of the scores file."""
    first: int = 0
    """The number of the first of them; files have row ids from there on."""

    @classmethod
    def of(cls, scores: Scores) -> ScoredRows:
        flags = [scores.fit(batch.column(0)) for batch in scores.batches(["status"])]
        scored = np.concatenate([np.empty(0, np.bool_), *flags])
        return cls(scores.row_hashes(), scored, scores.path.name)

    def part(self, first: int, count: int) -> ScoredRows:
        """Those of one file."""
        here = slice(first, first + count)
        return ScoredRows(self.hashes[here], self.scored[here], self.name, first)


def conserved(parts: Parts, rows: ScoredRows) -> Ids:
    """Where each of the rows is; `check_conservation` of some of them. Raises SaefilterError."""
    hashes = rows.hashes
    try:
        ids = _row_ids(parts, rows)
        n_kept = _count(parts.kept) if parts.kept else 0
        if n_kept != len(ids.kept):
            name = parts.kept.name if parts.kept else "the missing file"
            raise _wrong(
                f"{n_kept:,} rows in {name}, where {len(ids.kept):,} of the "
                f"{len(hashes):,} scored are neither dropped nor quarantined"
            )
        _check_statuses(ids, rows)
        for path, own in ((parts.kept, ids.kept), (parts.dropped, ids.dropped)):
            recorded = _recorded_hashes(path) if path else None
            if path is None:
                continue
            if recorded is not None and recorded != row_hashes_sha256([hashes[own]]):
                raise _wrong(f"{path.name} was not written from these rows of {rows.name}")
        if parts.quarantined is not None:
            for entry in entries_of(parts.quarantined):
                row_id = int(entry[PREFIX + "row_id"]) - rows.first
                if not is_quarantined_row(entry, int(hashes[row_id])):
                    raise _wrong(
                        f"row {rows.first + row_id + 1} in {parts.quarantined.name} is not the one "
                        "scored"
                    )
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise _wrong(f"the files cannot be read ({str(error).splitlines()[0]})") from error
    return ids


def check_rows(parts: Parts, scores: Scores, source: Source) -> str:
    """The files hold the values of the input's rows, in order; every row is compared.

    Returns it in words. Raises SaefilterError with the first row that differs.
    """
    n_rows = compared(parts, ScoredRows.of(scores), source)
    return f"all {n_rows:,} kept and dropped rows are those of {source.path}"


def compared(parts: Parts, rows: ScoredRows, source: Source) -> int:
    """How many rows were compared; `check_rows` of a file. Raises SaefilterError."""
    hashes = rows.hashes
    ids = _row_ids(parts, rows)
    is_dropped, is_quarantined = np.zeros((2, len(hashes)), dtype=np.bool_)
    is_dropped[ids.dropped], is_quarantined[ids.quarantined] = True, True
    own: list[str] = []
    switches = Switches.of(parts.written, len(hashes))
    kept_rows = _written(parts.kept) if parts.kept else iter(())
    dropped_rows = _written(parts.dropped) if parts.dropped else iter(())
    number = -1
    for number, row in enumerate(source.rows()):
        if number >= len(hashes) or int(row.digest(), 16) != hashes[number]:
            raise _wrong(f"row {number + 1} of {source.path} is not the one that was scored")
        if is_quarantined[number]:
            continue
        goes = bool(is_dropped[number])
        path, written = (parts.dropped, dropped_rows) if goes else (parts.kept, kept_rows)
        line, data = next(written)
        if switches is not None and switches.mask[number]:
            line, data = line and switches.exchange.line(line), switches.exchange.row(data)
        added = bool(parts.written) and switches is None
        whole = not goes and not added and line is not None and bool(row.raw)
        if whole:
            same = line_hash(line or b"") == int(hashes[number])
        elif goes:
            same = same_row(unannotated(data, own), row.data or {})
        else:
            bare = taken_off(row.data or {}, parts.written) if parts.written else row.data or {}
            same = same_row(taken_off(data, parts.written), bare)
        if not same:
            name = path.name if path else ""
            raise _wrong(f"row {number + 1} of {source.path} is not what {name} has for it")
    if number + 1 != len(hashes):
        raise _wrong(f"{source.path} has {number + 1:,} rows, the scores {len(hashes):,}")
    return len(hashes) - len(ids.quarantined)


def _row_ids(parts: Parts, rows: ScoredRows) -> Ids:
    n_rows, none = len(rows.hashes), np.empty(0, np.int64)
    dropped = _ids_in(parts.dropped) - rows.first if parts.dropped else none
    quarantined = _ids_in(parts.quarantined) - rows.first if parts.quarantined else none
    placed = np.concatenate([dropped, quarantined])
    if len(np.unique(placed)) != len(placed):
        raise _wrong("a row is in two places, or twice in one")
    if ((placed < 0) | (placed >= n_rows)).any():
        raise _wrong("a dropped or quarantined row is none of those scored")
    is_kept = np.ones(n_rows, dtype=np.bool_)
    is_kept[placed] = False
    return Ids(np.flatnonzero(is_kept), dropped, quarantined)


def _ids_in(path: Path) -> NDArray[np.int64]:
    name = PREFIX + "row_id"
    if format_of(path.name) == PARQUET:
        if name not in pq.read_schema(path).names and not _count(path):
            return np.empty(0, np.int64)  # a file without rows has no added columns
        ids: NDArray[np.int64] = pq.read_table(path, columns=[name])[name].to_numpy()
        return ids.astype(np.int64)
    return np.fromiter((int(entry[name]) for entry in entries_of(path)), np.int64)


def _count(path: Path) -> int:
    if format_of(path.name) == PARQUET:
        return int(pq.read_metadata(path).num_rows)
    if format_of(path.name) == CSV:
        return sum(1 for _ in entries_of(path))
    with open_lines(path) as lines:
        return sum(1 for _ in lines)


def _check_statuses(ids: Ids, rows: ScoredRows) -> None:
    """Rows that could not be scored are in quarantine."""
    for used in (ids.kept, ids.dropped):
        if not rows.scored[used].all():
            wrong = rows.first + int(used[~rows.scored[used]][0])
            raise _wrong(f"row {wrong + 1} was not scored, and is not in quarantine")


def _recorded_hashes(path: Path) -> str | None:
    if format_of(path.name) != PARQUET:
        return None
    made = (pq.read_metadata(path).metadata or {}).get(METADATA_KEY)
    return None if made is None else json.loads(made).get("row_hashes_sha256")


def _written(path: Path) -> Iterator[tuple[bytes | None, dict[str, Any]]]:
    """The rows of a file, each with its line where it has one."""
    if format_of(path.name) in (PARQUET, CSV):
        for entry in entries_of(path):
            yield None, entry
        return
    with open_lines(path) as lines:
        for line in lines:
            yield line.rstrip(b"\n"), json.loads(line)
