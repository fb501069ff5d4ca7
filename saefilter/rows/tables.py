"""Rows as Arrow tables, a piece at a time, with the types the input has and no value changed.

Python's json reads the rows: Arrow's own JSON reader turns `[null, false]` into `[false, false]`,
texts that look like dates into times, and long integers into doubles. Which types the columns have,
and which rows do not fit, is found first, over all rows (columns.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saefilter.errors import SaefilterError
from saefilter.rows.arrow import table_schema
from saefilter.rows.columns import column_types
from saefilter.rows.pieces import Piece, TablePiece, pieces, rare_garbage_collection
from saefilter.rows.read import TABLES, Source


@dataclass(frozen=True)
class TypedRows:
    """The rows of an input and how they become tables."""

    source: Source
    schema: pa.Schema
    """The input's columns, in order."""
    conflict: NDArray[np.int32]
    """`[n_rows]`: 0 for a row that fits, else 1 + the index of the reason why it does not."""
    reasons: list[str]

    def why(self, row_id: int) -> str | None:
        """Which column's type differs from the other rows', or None for a row that fits."""
        code = int(self.conflict[row_id])
        return self.reasons[code - 1] if code else None

    def table(self, piece: Piece, positions: Sequence[int]) -> pa.Table:
        """Some rows of a piece, none of which is in conflict."""
        if isinstance(piece, TablePiece) and self.source.kind in TABLES:
            return self._of_batch(piece.batch, positions)
        rows = [row or {} for row in piece.values(positions)]
        arrays = [pa.array([row.get(f.name) for row in rows], f.type) for f in self.schema]
        return pa.table(arrays, schema=self.schema)

    def _of_batch(self, batch: pa.RecordBatch, positions: Sequence[int]) -> pa.Table:
        if len(positions) < batch.num_rows:
            batch = batch.take(pa.array(positions, pa.int64()))
        table = pa.Table.from_batches([batch])
        if not table.schema.equals(self.schema):  # of several files, one lacks columns
            table = pa.concat_tables([self.schema.empty_table(), table], promote_options="default")
        return table.replace_schema_metadata(self.schema.metadata)


def typed_rows(source: Source, wanted: NDArray[np.bool_]) -> TypedRows:
    """The columns of the rows that are `wanted`, `[n_rows]`, with the input's order and types."""
    if source.kind in TABLES:
        return TypedRows(source, _schema_of(source), np.zeros(len(wanted), dtype=np.int32), [])
    with rare_garbage_collection():
        return TypedRows(source, *column_types(lambda: pieces(source), wanted))


def _schema_of(source: Source) -> pa.Schema:
    """The files' own columns and types; several files must agree but for columns that lack."""
    schemas = [table_schema(file.path, file.kind) for file in source.files]
    if len(schemas) == 1:
        return schemas[0]
    try:
        return pa.unify_schemas(schemas, promote_options="default")
    except pa.ArrowException as error:
        raise SaefilterError(
            f"its files have columns of different types ({str(error).splitlines()[0]})",
            where=str(source.path),
            remedy="Filter the files one by one.",
        ) from error
