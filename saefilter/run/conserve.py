"""No row lost, changed, swapped or doubled: what was read is what was scored, what was written is it.

Three links, each checked for every row unless said otherwise:

1. every row of the input, read now, has the hash that the scores file gives it;
2. the table that the rows became holds their values (a thousand rows spread over the data, since
   decoding all of them again would double the time; `saefilter verify` compares every row);
3. what was written, read back from its temporary file, is exactly those rows in the input's order.

A Parquet file does not keep a JSON line as it stood, and a row that lacks a column which others
have gets a null there. Two rows are therefore the same when they are equal once keys with a null
value are left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from saefilter.errors import SaefilterError
from saefilter.rows.read import Source
from saefilter.rows.tables import InputTable
from saefilter.rows.write import PREFIX, Annotations, QuarantinedRow
from saefilter.run.integrity import BATCH_ROWS, ContentHash, parquet_content

N_COMPARED = 1000
BUG = "Nothing was written under its final name. Please report this as a bug."


def lost(what: str) -> SaefilterError:
    """The error of a broken link."""
    return SaefilterError(f"rows would be lost or changed: {what}", remedy=BUG)


def same_row(one: Any, other: Any) -> bool:
    """Whether two rows, or values in them, say the same.

    NaN is itself and `true` is not 1; 2 and 2.0 are the same number, since a column of both is one
    of doubles.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return all(same_row(one.get(key), other.get(key)) for key in {**one, **other})
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same_row, one, other))
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    return bool(one == other or (one != one and other != other))


def digest_of(raw: bytes) -> str:
    """`Row.digest` of a line as it stands."""
    return hashlib.blake2b(raw, digest_size=8).hexdigest()


def row_hashes_sha256(hashes: Sequence[str], row_ids: Sequence[int]) -> str:
    """One hash for the rows of a file: of their row hashes, in order."""
    return hashlib.sha256("\n".join(hashes[i] for i in row_ids).encode()).hexdigest()


def check_read(
    source: Source, rows: InputTable, quarantined: Sequence[QuarantinedRow], hashes: Sequence[str]
) -> None:
    """Links 1 and 2. `hashes` are those of the scores, by row id. Raises SaefilterError."""
    step = max(1, len(rows.row_ids) // N_COMPARED)
    compared = {rows.row_ids[i]: i for i in range(0, len(rows.row_ids), step)}
    seen = 0
    for row_id, digest, data in _rows_read(source, rows, quarantined, compared):
        seen += 1
        if row_id >= len(hashes) or digest != hashes[row_id]:
            raise SaefilterError(
                f"row {row_id + 1} of {source.path} is not the row that was scored",
                remedy=f"Score it again: saefilter score {source.path} --overwrite",
            )
        if row_id in compared:
            held = rows.table.slice(compared[row_id], 1).to_pylist()[0]
            if not same_row(held, data() or {}):
                raise lost(f"row {row_id + 1} was not read as it stands in {source.path}")
    if seen != len(hashes):
        raise lost(f"{seen:,} rows were read of {len(hashes):,}")


def _rows_read(
    source: Source,
    rows: InputTable,
    quarantined: Sequence[QuarantinedRow],
    compared: dict[int, int],
) -> Iterator[tuple[int, str, Callable[[], Any]]]:
    """Id, hash and data of every row; JSONL lines are at hand, other formats are read again."""
    if rows.lines is None:
        for row in source.rows():
            data = row.data
            yield row.index, row.digest(), lambda data=data: data  # type: ignore[misc]
        return
    for row_id, raw in rows.lines.items():
        yield row_id, digest_of(raw), lambda raw=raw: json.loads(raw)  # type: ignore[misc]
    for row, _ in quarantined:
        if row.index not in rows.lines:  # those of conflicting types were read with the others
            yield row.index, row.digest(), lambda row=row: row.data  # type: ignore[misc]


def expected_content(
    rows: InputTable, positions: Sequence[int], annotations: Annotations | None = None
) -> str:
    """Content hash of the Parquet file that these rows and added columns must become."""
    extra = pa.table(dict(annotations.columns())) if annotations else pa.table({})
    schema = pa.schema([*rows.table.schema, *extra.schema])
    found = ContentHash(schema)
    for start in range(0, len(positions), BATCH_ROWS):
        batch = rows.table.take(pa.array(positions[start : start + BATCH_ROWS], pa.int64()))
        for field in extra.schema:
            batch = batch.append_column(field, extra[field.name].slice(start, BATCH_ROWS))
        found.update(batch)
    return found.hexdigest()


def check_parquet(path: Path, what: str, n_rows: int, content: str) -> None:
    """Link 3 for a Parquet file. Raises SaefilterError."""
    found = parquet_content(path)
    if found.rows != n_rows:
        raise lost(f"{found.rows:,} {what} rows were written of {n_rows:,}")
    if found.hexdigest() != content:
        raise lost(f"the {what} rows that were written are not those that were chosen")


def check_jsonl(
    path: Path, what: str, rows: InputTable, positions: Sequence[int], *, annotated: bool
) -> None:
    """Link 3 for a JSONL file, line by line. Raises SaefilterError."""
    number = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if number > len(positions):
                raise lost(f"more than {len(positions):,} {what} rows were written")
            position = positions[number - 1]
            if not _is_line_of(line.rstrip(b"\n"), rows, position, annotated):
                raise lost(f"line {number} of the {what} rows is not the row that was chosen")
    if number != len(positions):
        raise lost(f"{number:,} {what} rows were written of {len(positions):,}")


def _is_line_of(line: bytes, rows: InputTable, position: int, annotated: bool) -> bool:
    raw = None if rows.lines is None else rows.lines[rows.row_ids[position]]
    if raw is not None and not annotated:
        return line == raw
    data = json.loads(line)
    if annotated:
        data = unannotated(data, rows.table.column_names)
    own = rows.table.slice(position, 1).to_pylist()[0] if raw is None else json.loads(raw)
    return same_row(data, own)


def unannotated(data: dict[str, Any], own: Sequence[str] = ()) -> dict[str, Any]:
    """A written row without the columns that were added to it; `own` are the input's."""
    added = {PREFIX + name for name in Annotations._fields} - set(own)
    return {name: value for name, value in data.items() if name not in added}


def check_quarantined(entries: Iterator[dict[str, Any]], hashes: dict[int, str]) -> None:
    """Link 3 for quarantined rows: each entry still has its row's hash. Raises SaefilterError."""
    ids = []
    for entry in entries:
        ids.append(row_id := entry[PREFIX + "row_id"])
        if row_id not in hashes or not is_quarantined_row(entry, hashes[row_id]):
            raise lost(f"the quarantined row {row_id + 1} is not the one that was read")
    if sorted(ids) != sorted(hashes):
        raise lost(f"{len(ids):,} quarantined rows were written of {len(hashes):,}")


def is_quarantined_row(entry: dict[str, Any], row_hash: str) -> bool:
    """Whether an entry of a quarantined file holds the row of that hash.

    Rows that came as lines are kept as they stood; those of other formats as JSON, whose keys have
    to be sorted for the hash.
    """
    coded, text = entry[PREFIX + "bytes_hex"], entry[PREFIX + "text"]
    raw = bytes.fromhex(coded) if coded else text.encode()
    if text != raw.decode("utf-8", "backslashreplace"):
        return False
    if digest_of(raw) == row_hash:
        return True
    try:
        ordered = json.dumps(json.loads(text), sort_keys=True, ensure_ascii=True)
    except (ValueError, RecursionError):
        return False
    return digest_of(ordered.encode()) == row_hash


def entries_of(path: Path, suffix: str) -> Iterator[dict[str, Any]]:
    """The rows of a written file as dicts, in pieces."""
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
        return
    with open(path, "rb") as lines:
        for line in lines:
            yield json.loads(line)
