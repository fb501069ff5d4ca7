"""Switched labels of preference data (`filter --preference swap`): in the rows that push towards toxic, the
chosen and the rejected answer change places, or KTO's label is turned round. All rows are written.

A switch undoes itself, which is how it is checked: switched once more, a row is the one that was read. In
JSONL the values change places as they stand in the line, and every other byte stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saefilter.artifacts.scores import Scores
from saefilter.columns import Columns
from saefilter.errors import SaefilterError
from saefilter.filtering.soft import SWITCHED, Soft
from saefilter.rows.pieces import Piece
from saefilter.rows.sides import PAIRS, SIDES
from saefilter.rows.tables import TypedRows
from saefilter.select.ranking import Candidates
from saefilter.select.strategies import Choice

LABELS = ("label", "kto_tag")
"""Columns of KTO's label."""
ROW_IDS = "row_ids"
"""Entry of what is told of a file: which rows are switched, by their ids."""
_decoder = json.JSONDecoder()


@dataclass(frozen=True)
class Exchange:
    """What is switched in a row."""

    pairs: tuple[tuple[str, str], ...] = ()
    """Columns that change places where a row has both: the answers, and what else is told of each."""
    flipped: tuple[str, ...] = ()
    """Columns whose true is false then."""

    def row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row, switched."""
        switched = dict(row)
        for one, other in self.pairs:
            if one in row and other in row:
                switched[one], switched[other] = row[other], row[one]
        for name in self.flipped:
            if isinstance(row.get(name), bool):
                switched[name] = not row[name]
        return switched

    def line(self, raw: bytes) -> bytes:
        """A row's line of JSON, switched; every byte but those of the values stays."""
        text = raw.decode("utf-8")
        spans = value_spans(text)
        new = {name: text[start:end] for name, (start, end) in spans.items()}
        old = dict(new)
        for one, other in self.pairs:
            if one in old and other in old:
                new[one], new[other] = old[other], old[one]
        for name in self.flipped:
            new |= {"true": {name: "false"}, "false": {name: "true"}}.get(old.get(name, ""), {})
        pieces, done = [], 0
        for name, (start, end) in spans.items():
            pieces += [text[done:start], new[name]]
            done = end
        return "".join([*pieces, text[done:]]).encode("utf-8")

    def table(self, table: pa.Table, switched: NDArray[np.bool_]) -> pa.Table:
        """Rows of a table, `switched` of them, `[n_rows]`, with their columns of one type."""
        own, n = table.schema, table.num_rows
        place = np.arange(n)
        for one, other in self.pairs:
            both = {
                name: self._cast(table[name], self.schema(own).field(name).type)
                for name in (one, other)
            }
            for name, there in ((one, other), (other, one)):
                together = pa.concat_arrays([both[name], both[there]])
                values = together.take(pa.array(place + n * switched))
                at = own.get_field_index(name)
                table = table.set_column(at, self.schema(own).field(at), values)
        for name in self.flipped:
            at = own.get_field_index(name)
            values = [
                not value if turned and value is not None else value
                for value, turned in zip(table[name].to_pylist(), switched, strict=True)
            ]
            table = table.set_column(at, own.field(at), pa.array(values, own.field(at).type))
        return table

    @staticmethod
    def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
        values = column.combine_chunks()
        values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        return values if values.type == kind else pa.array(values.to_pylist(), kind)

    def schema(self, own: pa.Schema) -> pa.Schema:
        """Columns that change places have one type. Raises SaefilterError where they cannot."""
        for pair in self.pairs:
            kinds = [own.field(name).type for name in pair]
            if kinds[0] == kinds[1]:
                continue
            try:
                (common,) = pa.unify_schemas(
                    [pa.schema([("value", kind)]) for kind in kinds], promote_options="permissive"
                )
            except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
                raise SaefilterError(
                    f"the columns {pair[0]!r} and {pair[1]!r} are {kinds[0]} and {kinds[1]}, and cannot "
                    "change places in a table",
                    remedy="Write JSONL: -o NAME.jsonl",
                ) from error
            for name in pair:
                at = own.get_field_index(name)
                own = own.set(at, own.field(at).with_type(common.type))
        return own

    @classmethod
    def among(cls, names: Sequence[str], kind: str, columns: Columns) -> Exchange:
        """What is switched in data with these columns. Raises SaefilterError where it is not told by
        columns."""
        named = {key: theirs for key, theirs in columns.named.items() if theirs}
        if kind == PAIRS:
            one, other = (named.get(side, side) for side in SIDES)
            whole = re.compile(rf"(?<![A-Za-z0-9]){re.escape(one)}(?![A-Za-z0-9])")
            named_so = [
                (name, whole.sub(lambda _: other, name)) for name in names if whole.search(name)
            ]
            pairs = tuple(pair for pair in named_so if pair[1] in names)
            if pairs:
                return cls(pairs)
        label = named.get("label") or next((name for name in LABELS if name in names), None)
        if kind != PAIRS and label is not None and label in names:
            return cls(flipped=(label,))
        raise SaefilterError(
            "these rows do not hold their answers or their label in columns of their own, so labels "
            "cannot be switched",
            remedy="Use --preference drop.",
        )


def value_spans(text: str) -> dict[str, tuple[int, int]]:
    """Where the values of a JSON object stand in its text, key by key, in their order. Raises ValueError
    for other text."""
    spans: dict[str, tuple[int, int]] = {}
    at = _skip(text, _expect(text, _skip(text, 0), "{"))
    while text[at] != "}":
        if spans:
            at = _skip(text, _expect(text, at, ","))
        _expect(text, at, '"')
        name, at = _decoder.raw_decode(text, at)
        start = _skip(text, _expect(text, _skip(text, at), ":"))
        _, end = _decoder.raw_decode(text, start)
        spans[name] = start, end
        at = _skip(text, end)
    return spans


def _skip(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at


def _expect(text: str, at: int, char: str) -> int:
    if text[at] != char:
        raise ValueError(f"{char!r} was expected at {at}")
    return at + 1


@dataclass(frozen=True)
class Switches:
    """The rows of a file that are switched, as what is done to its rows (see `soft.Notes`)."""

    exchange: Exchange
    mask: NDArray[np.bool_] = field(repr=False)
    """`[n_rows]` of the input."""

    def schema(self, own: pa.Schema) -> pa.Schema:
        return self.exchange.schema(own)

    def table(self, table: pa.Table, piece: Piece, positions: Sequence[int]) -> pa.Table:
        return self.exchange.table(table, self.mask[np.asarray(positions, np.int64) + piece.first])

    def rows(
        self, rows: Sequence[dict[str, Any]], piece: Piece, positions: Sequence[int]
    ) -> list[dict[str, Any]]:
        return [
            self.exchange.row(row) if self.mask[piece.first + i] else row
            for row, i in zip(rows, positions, strict=True)
        ]

    def line(self, raw: bytes, row_id: int) -> bytes:
        """A line as it is written; of a line that was written, the one that was read."""
        return self.exchange.line(raw) if self.mask[row_id] else raw

    @classmethod
    def of(cls, written: Mapping[str, Any], n_rows: int) -> Switches | None:
        """From what a report says of them; None where nothing was switched."""
        if written.get("as") != SWITCHED:
            return None
        mask = np.zeros(n_rows, dtype=np.bool_)
        mask[np.asarray(written[ROW_IDS], dtype=np.int64)] = True
        pairs = tuple((str(one), str(other)) for one, other in written["exchanged"])
        return cls(Exchange(pairs, tuple(written["flipped"])), mask)


def refuse_others(scores: Scores) -> None:
    """Raises SaefilterError for scores of data without labels to switch."""
    if not scores.of_preferences:
        raise SaefilterError(
            "--preference goes with preference data (pairs of a chosen and a rejected answer, or KTO's "
            "labels), and these rows train on an answer as it stands",
            where=str(scores.path),
            remedy="Leave it out.",
        )


def pushing(candidates: Candidates, choice: Choice) -> NDArray[np.int64]:
    """Ids of the rows whose labels are switched: of those that would be dropped, the ones that push
    towards toxic; switched, another one would."""
    return candidates.row_ids[choice.dropped & (candidates.distance < 0)]


def switched(candidates: Candidates, choice: Choice, rows: TypedRows) -> Soft:
    """`--preference swap`. Raises SaefilterError."""
    assert candidates.scores is not None
    made = candidates.scores.provenance
    assert made.preference is not None
    kind = str(made.preference["kind"])
    exchange = Exchange.among(rows.schema.names, kind, made.own_columns)
    ids = pushing(candidates, choice)
    ids = ids[rows.conflict[ids] == 0]  # the others are quarantined
    mask = np.zeros(len(rows.conflict), dtype=np.bool_)
    mask[ids] = True
    about = {
        "as": SWITCHED, "how": kind, "columns": [], ROW_IDS: ids.tolist(),
        "exchanged": [list(pair) for pair in exchange.pairs], "flipped": list(exchange.flipped),
        "left": int(choice.dropped.sum()) - len(ids),
    }  # fmt: skip
    return Soft(Switches(exchange, mask), about)
