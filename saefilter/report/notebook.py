"""What a notebook shows of a result: its figures, a histogram and the closest rows, as a fragment of HTML.

Data and labels are untrusted: they reach the fragment through Jinja2's escaping only, and it holds no link,
no script and nothing that is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saefilter.report.data import Histogram
from saefilter.report.figures import bins
from saefilter.report.fragments import fragment
from saefilter.text import decimal, few, percent, reference_words, rows_of
from saefilter.toxic.toxicset import is_beyond, rank_at

if TYPE_CHECKING:
    from saefilter.artifacts.scores import Scores

N_ROWS = 10
"""Of a table."""
FLAGGED = 99.0
"""Percent of the harmless reference that a flagged row is closer than."""
KEPT, DROPPED = "#6b93b8", "#d1603d"
WIDTH, HEIGHT = 520.0, 100.0
"""Of the chart's bars, in pixels."""
WHY_WORDS = 4
Said = Mapping[int, tuple[str, str]]
"""By row id: the last prompt and the last answer, a line each. Untrusted."""


@dataclass(frozen=True)
class Table:
    """Rows of plain, untrusted text."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Shown:
    """What is shown of a result, all of it untrusted text."""

    title: str
    lines: Sequence[str] = ()
    histogram: Histogram | None = None
    tables: Sequence[Table] = field(default_factory=tuple)

    def to_html(self) -> str:
        """A fragment for a notebook's cell."""
        counts = self.histogram
        return fragment(
            "notebook.html",
            shown=self,
            bars=[] if counts is None else _bars(counts),
            ends=[] if counts is None else [f"{counts.edges[i]:.3f}" for i in (0, -1)],
            chart_words="Rows by their distance to toxic features",
        )


def _bars(counts: Histogram) -> list[dict[str, Any]]:
    """Dropped rows below, in the warning colour, kept ones on top."""
    tallest = max(kept + gone for kept, gone in zip(counts.kept, counts.dropped, strict=True))
    width = WIDTH / len(counts.kept)
    bars = []
    for number, (kept, gone) in enumerate(zip(counts.kept, counts.dropped, strict=True)):
        top, parts = HEIGHT, []
        for count, colour in ((gone, DROPPED), (kept, KEPT)):
            if count:
                height = max(1.5, 0.97 * HEIGHT * count / tallest)  # one row must stay visible
                top -= height
                parts.append({"y": f"{top:.1f}", "height": f"{height:.1f}", "colour": colour})
        words = (
            f"{counts.edges[number]:.3f} to {counts.edges[number + 1]:.3f}: {rows_of(kept + gone)}"
        )
        if gone:
            words += f", {gone:,} of them dropped"
        x = f"{number * width:.1f}"
        bars.append({"x": x, "width": f"{0.92 * width:.1f}", "words": words, "parts": parts})
    return [bar for bar in bars if bar["parts"]]


def scores_shown(scores: Scores, said: Said) -> Shown:
    """Of scores: how near the rows lie, and the closest. Raises SaefilterError where the file cannot be read."""
    made, distance = scores.provenance, distances(scores)
    ids = closest_of(distance)
    return Shown(
        f"{rows_of(made.rows)}: {made.scored:,} scored, {made.quarantined:,} quarantined",
        [f"By {made.preset}, metric {made.metric}, toxic set {made.toxic_set}.", *_flagged(scores)],
        _histogram(distance, np.zeros(len(distance), np.bool_)),
        [_table(scores, "The closest rows", ids, distance, said)],
    )


def choice_shown(
    scores: Scores, dropped: Sequence[int], reasons: Mapping[str, int], said: Said, title: str
) -> Shown:
    """Of rows that were dropped: where they lie among the others, and the closest of them.

    dropped: ids of rows; reasons: of the quarantined rows, how many each has.
    Raises SaefilterError where the scores cannot be read.
    """
    distance = distances(scores)
    gone = np.zeros(len(distance), np.bool_)
    gone[list(dropped)] = True
    ids = closest_of(np.where(gone, distance, np.nan))
    why = [f"Quarantined, {reason}: {rows_of(count)}" for reason, count in reasons.items()]
    caption = "The closest of the dropped rows, which are red in the chart" if len(ids) else ""
    return Shown(
        title, why, _histogram(distance, gone), [_table(scores, caption, ids, distance, said)]
    )


def distances(scores: Scores) -> NDArray[np.float64]:
    """`[n_rows]` of the input; NaN of rows that were not read."""
    column = scores.read(["distance"])["distance"].to_numpy(zero_copy_only=False)
    return np.asarray(column, dtype=np.float64)


def closest_of(distance: NDArray[np.float64]) -> list[int]:
    """Ids of the few rows that are closest, closest first."""
    ids = np.argsort(distance, kind="stable")[:N_ROWS]  # NaN comes last
    return [int(i) for i in ids if np.isfinite(distance[i])]


def _histogram(distance: NDArray[np.float64], gone: NDArray[np.bool_]) -> Histogram | None:
    known = np.isfinite(distance)
    if not known.any():
        return None
    edges = bins(distance[known].min(), distance[known].max())
    kept, dropped = (
        np.histogram(distance[known & side], edges)[0].tolist() for side in (~gone, gone)
    )
    return Histogram(edges.tolist(), kept, dropped)


def _flagged(scores: Scores) -> list[str]:
    made = scores.provenance
    if made.estimated:
        return [f"{rows_of(made.estimated)} were only estimated, and are not in the chart."]
    column = scores.read(["percentile"])["percentile"].to_numpy(zero_copy_only=False)
    known = np.asarray(column, dtype=np.float64)
    known = known[np.isfinite(known)]
    rank = rank_at(1 - FLAGGED / 100, made.reference_rows)
    if not len(known) or not rank:
        return []
    count = int(np.count_nonzero(is_beyond(known, FLAGGED, made.reference_rows)))
    return [
        f"{rows_of(count)} ({percent(count / len(known))}) lie closer than {FLAGGED:g}% of "
        f"{reference_words(made.reference_rows, made.reference_name)}; of rows like those "
        f"{few(len(known) * rank / (made.reference_rows + 1))} would."
    ]


def _table(
    scores: Scores, caption: str, ids: Sequence[int], distance: NDArray[np.float64], said: Said
) -> Table:
    columns = scores.having(["percentile", "top_words", "themes", "top_features"])
    few_rows = scores.read(columns).take(list(ids)).to_pylist() if len(ids) else []
    rows = []
    for row_id, entry in zip(ids, few_rows, strict=True):
        percentile = entry["percentile"]
        beyond = "" if percentile is None else percent(percentile / 100)
        prompt, answer = said.get(row_id, ("", ""))
        text = f"{prompt}\n→ {answer}" if prompt else answer
        rows.append([str(row_id), decimal(float(distance[row_id]), 3), beyond, _why(entry), text])
    head = ("row, from 0", "distance", "closer than (of the reference)", "by", "text")
    return Table(caption, head, rows)


def _why(entry: Mapping[str, Any]) -> str:
    """The themes that stand out in a row; else the words that weigh most; else what its features mean."""
    themes = [theme["theme"] for theme in entry.get("themes") or []]
    labels = [one["label"] or f"feature {one['feature']}" for one in entry["top_features"] or []]
    words = [f"“{word}”" for word in entry["top_words"] or []]
    return ", ".join((themes or words or labels)[:WHY_WORDS])
