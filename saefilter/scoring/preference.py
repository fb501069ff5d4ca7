"""The scores of preference data: the push of each row, and each answer by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from saefilter.artifacts.scores import OF_SIDE, PREFERENCE_SCHEMA, SCORED
from saefilter.geometry.difference import Pushed, centre_of, difference, signed
from saefilter.geometry.metrics import Sample
from saefilter.rows.sides import LABELLED, PAIRS, SIDES
from saefilter.scoring.table import scores_table
from saefilter.text import rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from saefilter.encode.encoded import Encoded
    from saefilter.geometry.reasons import ThemeReader
    from saefilter.geometry.scorer import Scorer
    from saefilter.rows.render import RenderedRow
    from saefilter.scoring.prepare import Prepared

    Percentiles = Callable[[NDArray[np.float64]], NDArray[np.float64] | None]

ONE_SIDED = 0.02
"""Of the answers; where fewer lie on one side of the middle, it does not divide them."""


def preference_table(
    prepared: Prepared,
    encoded: Encoded,
    scorer: Scorer,
    themes: ThemeReader | None,
    *,
    of_answer: Percentiles,
    of_push: Percentiles,
    harmless: float | None,
) -> pa.Table:
    """Rows of the scores file of pairs or of labelled answers.

    `of_answer` and `of_push` give percentiles of proximities and of pushes; `harmless` is the median
    proximity of harmless rows. Features are of the push, words and themes of the chosen answer, or of
    the only one. Raises SaefilterError for labelled rows that the metric cannot rank.
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
        centre = centre_of(scorer, harmless)
        pushed = signed(scorer, (samples[0], scored[0]), np.where(learnt, 1.0, -1.0), centre)
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
    # 0 is neutral, so that what is smaller is towards toxic; + 0.0 for no "-0.0"
    distance = pc.add(pc.negate(table["proximity"]), 0.0)
    return table.set_column(table.schema.get_field_index("distance"), "distance", distance)


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


class PushTally:
    """How many rows push which way, counted as the scores file is joined."""

    def __init__(self) -> None:
        self.scored = self.towards = self.same = self.toxic_side = 0

    def add(self, table: pa.Table) -> None:
        """Rows of the scores file of preference data."""
        rows = table.filter(pc.equal(table["status"], SCORED))
        push = rows["proximity"].to_numpy()
        learnt = pc.is_valid(rows["chosen_proximity"]).to_numpy()
        self.scored += len(push)
        self.towards += int((push > 0).sum())
        self.same += int((push == 0).sum())
        self.toxic_side += int((np.where(learnt, push, -push) > 0).sum())

    def fields(self, kind: str, by: str) -> dict[str, Any]:
        """`Provenance.preference`."""
        return {"kind": kind, "by": by, "towards": self.towards, "same": self.same}

    def words(self, kind: str, by: str) -> str:
        """What a reader of the scores must know, as sentences."""
        pairs = kind == PAIRS
        what = (
            f"Preference pairs: proximity is the chosen answer's minus the rejected one's ({by})"
            if pairs
            else f"KTO rows: proximity is the answer's, of the other sign where it is undesirable ({by})"
        )
        same = f", {self.same:,} nowhere (both sides score the same)" if pairs and self.same else ""
        return (
            f"{what}; above 0, training pushes towards toxic features: {self.towards:,} of "
            f"{rows_of(self.scored)} do{same}. Distance is its opposite; the percentiles of the two sides are of each answer, and a row has one of its own "
            "only with --reference of pairs; "
            f"features are of {'the difference' if pairs else 'the push'}, words and themes of "
            f"{'the chosen answer' if pairs else 'the answer'}.{'' if pairs else self._middle()}"
        )

    def _middle(self) -> str:
        """Whether the middle, from which labelled answers count, divides these."""
        share = self.toxic_side / max(1, self.scored)
        said = f" {self.toxic_side:,} of the {self.scored:,} answers lie on the toxic side of 0"
        if ONE_SIDED <= share <= 1 - ONE_SIDED:
            return f"{said}."
        return (
            f"{said}, so the order is mostly that of the labels: curate a set from rows like these."
        )
