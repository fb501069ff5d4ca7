"""All rows of an input as one table, from the pieces that the package works with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from saefilter.rows.pieces import LinePiece, pieces
from saefilter.rows.read import Source
from saefilter.rows.tables import typed_rows


@dataclass(frozen=True)
class InputTable:
    """The wanted rows of an input, as they can be written."""

    table: pa.Table
    row_ids: list[int]
    conflicts: dict[int, str]
    lines: dict[int, bytes]


def read_table(source: Source, wanted: Sequence[int]) -> InputTable:
    """The rows whose ids are in `wanted` (ascending)."""
    mask = np.zeros(max(wanted, default=-1) + 1, dtype=np.bool_)
    mask[list(wanted)] = True
    rows = typed_rows(source, mask)
    fits = mask & (rows.conflict == 0)
    tables = [rows.schema.empty_table()]
    lines: dict[int, bytes] = {}
    for piece in pieces(source):
        positions = np.flatnonzero(fits[piece.first : piece.first + len(piece)]).tolist()
        tables.append(rows.table(piece, positions))
        if isinstance(piece, LinePiece):
            lines |= {piece.first + i: piece.raw[i] for i in positions}
    conflicts = {int(i): rows.why(int(i)) or "" for i in np.flatnonzero(rows.conflict)}
    return InputTable(pa.concat_tables(tables), np.flatnonzero(fits).tolist(), conflicts, lines)
