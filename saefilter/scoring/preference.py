"""The scores of preference data: the push of each row, and each answer by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from saefilter.artifacts.scores import OF_SIDE, PREFERENCE_SCHEMA
from saefilter.geometry.difference import Pushed, difference, signed
from saefilter.geometry.metrics import Sample
from saefilter.rows.sides import LABELLED, PAIRS, SIDES
from saefilter.scoring.table import scores_table
from saefilter.text import rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from saefilter.encode.encoded import Encoded
    from saefilter.geometry.reasons import ThemeReader
    from saefilter.geometry.scorer import Scorer
    from saefilter.rows.rendered import RenderedRow
    from saefilter.scoring.prepare import Prepared

    Percentiles = Callable[[NDArray[np.float64]], NDArray[np.float64] | None]


def preference_table(
    prepared: Prepared,
    encoded: Encoded,
    scorer: Scorer,
    themes: ThemeReader | None,
    *,
    of_answer: Percentiles,
    of_push: Percentiles,
) -> pa.Table:
    """Rows of the scores file of pairs or of labelled answers.

    `of_answer` and `of_push` give percentiles of proximities and of pushes. Features are of the push, words
    and themes of the chosen answer, or of the only one.
    """
    n = len(prepared)
    samples = [
        Sample(encoded.features[start : start + n], encoded.residual[start : start + n])
        for start in range(0, prepared.texts, n or 1)
    ]
    scored = [scorer.score(one.features, one.residual) for one in samples]
    ok = np.array([problem is None for problem in prepared.problem], dtype=bool)
    learnt = np.array([desirable is not False for desirable in prepared.desirable or []])
    if prepared.kind == PAIRS:
        pushed = difference(scorer, (samples[0], scored[0]), (samples[1], scored[1]))
        texts = (prepared.rendered, prepared.rejected or [])
        there = (ok, ok)
    else:
        pushed = signed(scorer, (samples[0], scored[0]), np.where(learnt, 1.0, -1.0))
        texts = (prepared.rendered, prepared.rendered)
        there = (ok & learnt, ok & ~learnt)
    shown = prepared if prepared.kind == LABELLED else _together(prepared)
    table = _push_columns(shown, encoded, pushed, scorer, themes, of_push)
    sides: dict[str, pa.Array] = {}
    for number, side in enumerate(SIDES):
        proximity = scored[min(number, len(scored) - 1)].proximity
        own = _side_columns(texts[number], proximity, of_answer(proximity), ~there[number])
        sides |= {f"{side}_{name}": values for name, values in own.items()}
    for name, values in sides.items():
        table = table.append_column(PREFERENCE_SCHEMA.field(name), values)
    return table


def _push_columns(
    prepared: Prepared,
    encoded: Encoded,
    pushed: Pushed,
    scorer: Scorer,
    themes: ThemeReader | None,
    of_push: Percentiles,
) -> pa.Table:
    n = len(prepared)
    table = scores_table(
        prepared,
        pushed.push,
        of_push(pushed.push),
        pushed.evidence.top_features(),
        encoded.top_tokens[:n],
        pushed.evidence.own_share,
        scorer,
        None if themes is None else (themes, themes.read(encoded.features[:n])),
    )
    return _with_push(table, table["proximity"])


def _with_push(table: pa.Table, push: pa.ChunkedArray) -> pa.Table:
    """The table with these pushes as proximity, and their opposites as distance: 0 is neutral, and what is
    smaller is towards toxic."""
    values = {"proximity": push, "distance": pc.add(pc.negate(push), 0.0)}  # no "-0.0"
    for name, column in values.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table


def _side_columns(
    texts: Sequence[RenderedRow | None],
    proximity: NDArray[np.float64],
    percentile: NDArray[np.float64] | None,
    absent: NDArray[np.bool_],
) -> dict[str, pa.Array]:
    """OF_SIDE of one side; nulls where it is `absent`, `[n_rows]`."""
    values: dict[str, Any] = {
        "proximity": proximity,
        "percentile": percentile,
        "n_scored": np.array([text.n_scored if text else 0 for text in texts]),
        "truncated": np.array([bool(text and text.truncated) for text in texts]),
    }
    return {
        name: pa.nulls(len(absent), kind)
        if values[name] is None
        else pa.array(values[name].astype(kind.to_pandas_dtype()), kind, mask=absent)
        for name, kind in OF_SIDE.items()
    }


def _together(prepared: Prepared) -> Prepared:
    """Pairs with the tokens of both sides, and the chosen answer's text."""
    both = zip(prepared.rendered, prepared.rejected or prepared.rendered, strict=True)
    rendered = [
        replace(
            one,
            n_tokens=one.n_tokens + other.n_tokens,
            n_trained=one.n_trained + other.n_trained,
            n_scored=one.n_scored + other.n_scored,
        )
        if one is not None and other is not None
        else one
        for one, other in both
    ]
    return replace(prepared, rendered=rendered)


class Pushes:
    """The pushes of all shards: their middle, for labelled answers, and how many push which way."""

    def __init__(self, kind: str, difference: str):
        """`kind`: of rows.sides.KINDS; `difference`: what differences are of, for people."""
        self.kind, self.difference = kind, difference
        self.middle = 0.0
        self.scored = self.towards = self.same = 0

    def find_middle(self, tables: Iterable[pa.Table]) -> None:
        """The median answer, from which labelled ones count: half of the answers lie on either side, whatever
        text they are of, so that neither label has a start. `tables`: the shards."""
        if self.kind == LABELLED:
            answers = [_sign(table) * table["proximity"].to_numpy() for table in tables]
            self.middle = float(np.nanmedian(np.concatenate(answers)))

    def counted(self, table: pa.Table) -> pa.Table:
        """Rows of a shard as the scores file has them."""
        if self.kind == LABELLED:
            push = table["proximity"].to_numpy() - _sign(table) * self.middle
            is_bad = np.asarray(pc.is_null(table["proximity"]))
            table = _with_push(table, pa.chunked_array([pa.array(push + 0.0, mask=is_bad)]))
        push = table["proximity"].drop_null().to_numpy()
        self.scored += len(push)
        self.towards += int((push > 0).sum())
        self.same += int((push == 0).sum())
        return table

    def fields(self) -> dict[str, Any]:
        """`Provenance.preference`."""
        return {
            "kind": self.kind, "by": self.difference, "middle": self.middle,
            "towards": self.towards, "same": self.same,
        }  # fmt: skip

    def words(self) -> str:
        """What a reader of the scores must know, as sentences."""
        pairs = self.kind == PAIRS
        what = (
            f"Preference pairs: proximity is the chosen answer's minus the rejected one's ({self.difference})"
            if pairs
            else "KTO rows: proximity is the answer's, from the median answer of these rows on, of the other sign "
            f"where it is undesirable ({self.difference})"
        )
        same = f", {self.same:,} nowhere (both sides score the same)" if pairs and self.same else ""
        return (
            f"{what}; above 0, training pushes towards toxic features: {self.towards:,} of "
            f"{rows_of(self.scored)} do{same}. Distance is its opposite; chosen and rejected answers have "
            "percentiles of their own, a row only with --reference of pairs; features are of "
            f"{'the difference' if pairs else 'the push'}, words and themes of "
            f"{'the chosen answer' if pairs else 'the answer'}."
        )


def _sign(table: pa.Table) -> NDArray[np.float64]:
    """1 for answers that are learnt, -1 for the others, `[n_rows]`."""
    sign: NDArray[np.float64] = np.where(pc.is_valid(table["chosen_proximity"]), 1.0, -1.0)
    return sign
