"""Write kept, dropped and quarantined rows, as Parquet or JSONL by the file's suffix."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from saefilter.errors import SaefilterError
from saefilter.rows.read import Row
from saefilter.rows.tables import InputTable, write_parquet

OUTPUT_SUFFIXES = (".parquet", ".jsonl")
PREFIX = "saefilter_"
"""Of the columns that are added to dropped and quarantined rows; a trainer never sees them."""


class Annotations(NamedTuple):
    """Columns added to the dropped rows, one value per row, in the rows' order."""

    distance: Sequence[float]
    percentile: Sequence[float | None]
    reason: Sequence[str]
    row_id: Sequence[int]
    line: Sequence[int]
    file: Sequence[str] | None = None
    """Where the input is several files."""
    score: Sequence[float | None] | None = None
    """Of the strategy, where it gives one."""

    def columns(self) -> dict[str, Sequence[Any]]:
        return {PREFIX + name: values for name, values in self._asdict().items() if values}


def check_output_name(path: Path) -> None:
    """Raises SaefilterError when the suffix is not one that can be written."""
    if path.suffix not in OUTPUT_SUFFIXES:
        raise SaefilterError(
            f"cannot tell the format from the name {path.name!r}",
            remedy="End it in .parquet or .jsonl.",
        )


def write_rows(
    rows: InputTable,
    positions: Sequence[int],
    path: Path,
    suffix: str,
    *,
    annotations: Annotations | None = None,
    metadata: dict[bytes, bytes] | None = None,
) -> int:
    """Write the rows at `positions` of `rows`; `suffix` is that of the final name.

    Without annotations, JSONL lines are copied byte by byte. Returns the number of rows written.
    """
    extra = annotations.columns() if annotations else {}
    if suffix == ".parquet":
        table = rows.table.take(pa.array(positions, pa.int64()))
        for name, values in extra.items():
            table = table.append_column(name, pa.array(values))
        write_parquet(table, path, metadata)
        return int(table.num_rows)
    with open(path, "wb") as file:
        for number, position in enumerate(positions):
            file.write(_json_line(rows, position, {k: v[number] for k, v in extra.items()}))
    return len(positions)


def _json_line(rows: InputTable, position: int, extra: dict[str, Any]) -> bytes:
    if rows.lines is not None:
        raw = rows.lines[rows.row_ids[position]]
        if not extra:
            return raw + b"\n"
        data = json.loads(raw)
    else:
        data = rows.table.slice(position, 1).to_pylist()[0]
    try:
        return _json({**data, **extra}).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise SaefilterError(
            f"row {rows.row_ids[position] + 1} cannot be written as JSON ({error})",
            remedy="Write Parquet: -o NAME.parquet",
        ) from error


def _json(value: dict[str, Any]) -> str:
    """JSON that any reader takes. Raises ValueError for NaN and infinity, which it does not have."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


class QuarantinedRow(NamedTuple):
    """A row set aside, with everything needed to mend it and put it back."""

    row: Row
    reason: str


def write_quarantined(
    rows: Sequence[QuarantinedRow],
    path: Path,
    suffix: str,
    metadata: dict[bytes, bytes] | None = None,
) -> int:
    """Write quarantined rows as text with line and reason; bytes too where they are not UTF-8."""
    entries = []
    several = any(row.file for row, _ in rows)
    for row, reason in rows:
        raw = row.raw or json.dumps(row.data, ensure_ascii=True, default=str).encode()
        text = raw.decode("utf-8", "backslashreplace")
        entries.append(
            {
                PREFIX + "row_id": row.index,
                PREFIX + "line": row.line,
                **({PREFIX + "file": row.file} if several else {}),
                PREFIX + "reason": reason,
                PREFIX + "text": text,
                PREFIX + "bytes_hex": None if text.encode() == raw else raw.hex(),
            }
        )
    if suffix == ".parquet":
        schema = pa.schema(
            [
                (PREFIX + "row_id", pa.int64()),
                (PREFIX + "line", pa.int64()),
                *([(PREFIX + "file", pa.string())] if several else []),
                (PREFIX + "reason", pa.string()),
                (PREFIX + "text", pa.string()),
                (PREFIX + "bytes_hex", pa.string()),
            ]
        )
        write_parquet(pa.Table.from_pylist(entries, schema=schema), path, metadata)
    else:
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(_json(entry) + "\n" for entry in entries)
    return len(entries)
