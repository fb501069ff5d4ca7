"""Soft outputs of `filter --as`: every scored row in one file, with a weight, marks of what not to train on,
or labels, instead of rows in two files. What is added, and how it is taken off again, to compare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saefilter.described import Checked, option
from saefilter.errors import SaefilterError
from saefilter.rows.pieces import Piece
from saefilter.rows.write import annotated
from saefilter.select.ranking import Candidates
from saefilter.select.strategies import AUTO, Choice, Selection
from saefilter.text import command_line
from saefilter.toxic.toxicset import conformal_p

ROWS, WEIGHTS, MASK, LABELS = "rows", "weights", "mask", "labels"
SWITCHED = "switched"
"""What `--preference swap` writes; see switch.py."""
DROP, SWAP = "drop", "swap"
WEIGHT = "weight"
"""The column of weights: what trainers that have weights of rows read."""
STEPS = (0.0, 0.005, 0.01, 0.02, 0.05, *(tenth / 10 for tenth in range(1, 11)))
"""Ends of the steps in which the mixture's weights fall, in p-values."""


@dataclass(frozen=True)
class SoftOptions(Checked):
    """What is written."""

    written_as: str = option(
        ROWS, "What to write: rows (kept and dropped apart), or all of them with weights, mask or labels.",
        choices=(ROWS, WEIGHTS, MASK, LABELS), flag="--as", metavar="FORM",
    )  # fmt: skip
    weights: str | None = option(
        None, "Of --as weights: linear, exponential or mixture (1 less the probability of being bad; with "
        "--drop auto).",
        choices=("linear", "exponential", "mixture"), unless_said="linear",
    )  # fmt: skip
    mask: str | None = option(
        None, "What --as mask leaves out of training: turns or sentences.",
        choices=("turns", "sentences"), unless_said="turns",
    )  # fmt: skip
    mask_for: str | None = option(
        None, "Whose marks --as mask writes: axolotl (train), openai (weight) or trl (input_ids, labels).",
        choices=("axolotl", "openai", "trl"), unless_said="axolotl",
    )  # fmt: skip
    tokenizer: str | None = option(
        None, "Of the model to be trained, for --mask-for trl: hub id or folder.",
        unless_said="that of the model that was read", metavar="ID|FOLDER",
    )  # fmt: skip

    preference: str | None = option(
        None, "What is done with pairs and KTO rows that push towards toxic: drop, or swap their labels "
        "(with --as labels only said).",
        choices=(DROP, SWAP), unless_said="drop",
    )  # fmt: skip

    @property
    def swaps(self) -> bool:
        return self.preference == SWAP

    @property
    def is_soft(self) -> bool:
        return self.written_as != ROWS

    @property
    def fits_csv(self) -> bool:
        """Whether all that is added are texts."""
        return not self.swaps and self.written_as not in (WEIGHTS, MASK)

    def check_csv(self) -> None:
        """Raises SaefilterError for what CSV, which has texts alone, does not hold."""
        if not self.fits_csv:
            asked = f"--as {self.written_as}" if self.is_soft else "--preference swap"
            raise SaefilterError(
                f"{asked} writes numbers and lists, and CSV has only texts",
                remedy="Write JSON lines: -o NAME.jsonl",
            )

    def check_with(self, selection: Selection) -> None:
        """Raises SaefilterError for options that have no effect or do not go with the selection."""
        of = {"weights": WEIGHTS, "mask": MASK, "mask_for": MASK, "tokenizer": MASK}
        for name, kind in of.items():
            if getattr(self, name) is not None and self.written_as != kind:
                raise SaefilterError(
                    f"--{name.replace('_', '-')} has no effect without --as {kind}"
                )
        if self.swaps and self.written_as not in (ROWS, LABELS):
            raise SaefilterError(
                f"--preference swap does not go with --as {self.written_as}",
                remedy="Leave --as out, or use --as labels.",
            )
        if self.swaps and selection.strategy != "closest":
            raise SaefilterError(
                f"--preference swap does not go with --strategy {selection.strategy}: labels are switched "
                "where the difference says so, and by nothing else",
                remedy="Leave --strategy out.",
            )
        if self.tokenizer is not None and self.mask_for != "trl":
            raise SaefilterError("--tokenizer has no effect without --mask-for trl")
        if self.mask == "sentences" and self.mask_for == "openai":
            raise SaefilterError(
                "OpenAI's format has no marks of sentences", remedy="Use --mask turns."
            )
        if self.weights == "mixture" and selection.drop != AUTO:
            raise SaefilterError(
                "--weights mixture needs the estimate of --drop auto", remedy="Add --drop auto."
            )
        if self.written_as == MASK and selection.strategy != "closest":
            raise SaefilterError(
                f"--as mask does not go with --strategy {selection.strategy}, which tells no parts of rows",
                remedy="Use --as weights or --as labels.",
            )
        if self.written_as == WEIGHTS and selection.keep_balance is not None:
            raise SaefilterError("--keep-balance does not go with --as weights")

    def check_decided(self) -> None:
        """Raises SaefilterError for outputs that decisions on whole rows do not go with."""
        if self.written_as == MASK:
            raise SaefilterError(
                "--decisions are on whole rows, and --as mask leaves out parts of them",
                remedy="Use --as labels or --as weights, or leave --as out.",
            )
        if self.swaps:
            raise SaefilterError(
                "--decisions say which rows go, and --preference swap lets none go",
                remedy="Leave --preference out.",
            )


@dataclass(frozen=True)
class Notes:
    """Columns that are added to rows."""

    types: pa.Schema
    of: Callable[[Piece, Sequence[int]], Mapping[str, Sequence[Any]]]
    """Those of some rows of a piece."""

    def schema(self, own: pa.Schema) -> pa.Schema:
        return pa.schema([*own, *self.types], metadata=own.metadata)

    def table(self, table: pa.Table, piece: Piece, positions: Sequence[int]) -> pa.Table:
        return annotated(table, self.of(piece, positions), self.types)

    def rows(
        self, rows: Sequence[dict[str, Any]], piece: Piece, positions: Sequence[int]
    ) -> list[dict[str, Any]]:
        added = self.of(piece, positions)
        return [
            {**row, **{name: values[number] for name, values in added.items()}}
            for number, row in enumerate(rows)
        ]


@dataclass(frozen=True)
class TurnMarks:
    """Keys that are set in the turns of rows."""

    column: str
    """That holds the turns."""
    keys: dict[str, pa.DataType]
    of: Callable[[dict[str, Any], int], list[dict[str, Any]]]
    """Of a row and its id, the keys of each turn."""

    def schema(self, own: pa.Schema) -> pa.Schema:
        place = own.get_field_index(self.column)
        turns = own.field(place).type
        large = pa.types.is_large_list(turns)
        if not (large or pa.types.is_list(turns)) or not pa.types.is_struct(turns.value_type):
            raise SaefilterError(
                f"the turns of {self.column!r} are not lists of objects, so marks cannot be set in them",
                remedy="Write the turns as lists, or use --mask-for trl or --as weights.",
            )
        fields = [one for one in turns.value_type if one.name not in self.keys]
        fields += [pa.field(name, kind) for name, kind in self.keys.items()]
        marked = (pa.large_list if large else pa.list_)(pa.struct(fields))
        return own.set(place, own.field(place).with_type(marked))

    def table(self, table: pa.Table, piece: Piece, positions: Sequence[int]) -> pa.Table:
        place = table.schema.get_field_index(self.column)
        kind = self.schema(table.schema).field(place)
        rows = self.rows([row or {} for row in piece.values(positions)], piece, positions)
        return table.set_column(
            place, kind, pa.array([row[self.column] for row in rows], kind.type)
        )

    def rows(
        self, rows: Sequence[dict[str, Any]], piece: Piece, positions: Sequence[int]
    ) -> list[dict[str, Any]]:
        return [
            {**row, self.column: self._marked(row, piece.first + i)}
            for row, i in zip(rows, positions, strict=True)
        ]

    def _marked(self, row: dict[str, Any], row_id: int) -> list[dict[str, Any]]:
        bare = without_keys(row[self.column], self.keys)
        marks = self.of(row, row_id)
        return [{**turn, **mark} for turn, mark in zip(bare, marks, strict=True)]


class Additions(Protocol):
    """What is done to the rows of a file: of `Notes`, `TurnMarks`, or switches (switch.py)."""

    def schema(self, own: pa.Schema) -> pa.Schema:
        """Of the rows with it. Raises SaefilterError where they cannot have it."""

    def table(self, table: pa.Table, piece: Piece, positions: Sequence[int]) -> pa.Table:
        """Rows at positions of a piece, with it."""

    def rows(
        self, rows: Sequence[dict[str, Any]], piece: Piece, positions: Sequence[int]
    ) -> list[dict[str, Any]]:
        """The same of rows as dicts."""


@dataclass(frozen=True)
class Soft:
    """A soft output that is about to be written."""

    additions: Additions
    about: dict[str, Any] = field(default_factory=dict)
    """For report, provenance and `verify`: `as`, `how`, the `columns` that are added, the `turns` column
    and the `keys` set in it, `removed` (rows' worth of weight, or what is left out)."""


def weights_of(kind: str, candidates: Candidates, choice: Choice) -> NDArray[np.float64]:
    """A weight of each scored row, 0 to 1, `[n_rows]`; together they take out about as much as dropping
    the rows would. 1 for all where nothing would be dropped.

    With `k` rows to drop and `r` the place of a row, from the closest: linear `min(1, (r + 1/2) / 2k)`,
    exponential `1 - exp(-(r + 1/2) / k)`; mixture `min(1, (1 - bad) / density)` of the row's p-value.
    """
    n, k = len(candidates), int(choice.dropped.sum())
    if not k:
        return np.ones(n)
    place = np.empty(n)
    place[choice.ranking.order] = np.arange(n) + 0.5
    if kind == "linear":
        weight: NDArray[np.float64] = np.minimum(1, place / (2 * k))
    elif kind == "exponential":
        weight = 1 - np.exp(-place / k)
    else:
        weight = _mixture(candidates, choice)
    rounded: NDArray[np.float64] = np.round(weight, 6)
    return rounded


def _mixture(candidates: Candidates, choice: Choice) -> NDArray[np.float64]:
    """1 less the probability of being bad, by the estimate of the cut and the density of p-values, which
    falls (Grenander 1956; as an estimate of local false-discovery rates Strimmer, BMC Bioinformatics 9,
    2008)."""
    assert choice.cut is not None
    assert candidates.scores is not None
    column = candidates.scores.read(["percentile"])["percentile"].take(candidates.row_ids)
    percentile = column.to_numpy(zero_copy_only=False).astype(np.float64)
    p = conformal_p(percentile, choice.cut.reference_rows)
    step = np.clip(np.searchsorted(STEPS, p, "left") - 1, 0, len(STEPS) - 2)
    width = np.diff(STEPS)
    density = falling(np.bincount(step, minlength=len(width)) / len(p) / width, width)
    weight: NDArray[np.float64] = np.minimum(1, (1 - choice.cut.bad) / np.maximum(density, 1e-12))
    return weight[step]


def falling(values: NDArray[np.float64], width: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest values that do not rise, by least squares: neighbours that rise get their mean, by
    width (pool adjacent violators)."""
    pools: list[list[float]] = []  # mean, width, how many
    for value, own in zip(values.tolist(), width.tolist(), strict=True):
        pools.append([value, own, 1])
        while len(pools) > 1 and pools[-2][0] < pools[-1][0]:
            mean, more, count = pools.pop()
            last = pools[-1]
            last[0] = (last[0] * last[1] + mean * more) / (last[1] + more)
            last[1] += more
            last[2] += count
    means = np.array([pool[0] for pool in pools], dtype=np.float64)
    return np.repeat(means, [int(pool[2]) for pool in pools])


def weighted(options: SoftOptions, candidates: Candidates, choice: Choice, n_rows: int) -> Soft:
    """`--as weights`. `n_rows`: of the input."""
    if candidates.scores is not None and candidates.scores.provenance.estimated:
        raise SaefilterError(
            "weights are by how near every row is, and a cascade has estimated some",
            where=str(candidates.scores.path),
            remedy=f"Score again without --cascade: saefilter score {command_line(candidates.scores.provenance.input_path)} "
            "--overwrite.",
        )
    kind = options.weights or "linear"
    weight = np.ones(n_rows)
    if (decided := choice.decided) is None:
        own = weights_of(kind, candidates, choice)
    else:  # what decisions keep counts in full, and what they drop not at all
        own = np.where(decided.dropped, 0.0, 1.0)
        own[decided.undecided] = weights_of(kind, decided.rest, decided.choice)
    weight[candidates.row_ids] = own
    notes = Notes(
        pa.schema([(WEIGHT, pa.float64())]),
        lambda piece, positions: {
            WEIGHT: weight[np.asarray(positions, dtype=np.int64) + piece.first].tolist()
        },
    )
    about = {"as": WEIGHTS, "how": kind, "columns": [WEIGHT], "removed": float((1 - own).sum())}
    return Soft(notes, about)


def without_keys(turns: Any, keys: Any) -> Any:
    """Turns without some of their keys; anything else as it is."""
    if not isinstance(turns, list):
        return turns
    return [
        {name: value for name, value in turn.items() if name not in keys}
        if isinstance(turn, dict)
        else turn
        for turn in turns
    ]


def taken_off(row: dict[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """A row without what a soft output added, by its `about`. A row of the input loses what marks of its
    own it had in the same place."""
    columns, turns = written.get("columns") or [], written.get("turns")
    bare = {name: value for name, value in row.items() if name not in columns}
    if turns in bare:
        bare[turns] = without_keys(bare[turns], written.get("keys") or [])
    return bare


def refuse_columns(about: Mapping[str, Any], names: Sequence[str], source: str) -> None:
    """Raises SaefilterError when the input has a column that is to be added."""
    taken = sorted(set(about.get("columns") or []) & set(names))
    if taken:
        raise SaefilterError(
            f"{source} has the column {taken[0]!r}, which --as {about['as']} adds",
            remedy="Rename or remove it.",
        )
