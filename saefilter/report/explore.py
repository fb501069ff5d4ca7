"""The rows that a reader searches, sorts and judges in the HTML report: which these are, and what the page's
script (`explore.js`) is given of them. They are in the page alone; the JSON report does not hold them.

All of it is untrusted. It reaches the page as JSON in a data block, and the script shows it as text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saefilter.artifacts.column import Column
from saefilter.artifacts.decisions import Decisions
from saefilter.report.data import finite
from saefilter.report.explore_cut import Curve, curve_of
from saefilter.report.explore_rows import Listed
from saefilter.report.explore_text import cut_page, facets_of, size_of
from saefilter.rows.written import format_of, split_name
from saefilter.select.closest import First
from saefilter.text import clean, json_safe

if TYPE_CHECKING:
    from saefilter.artifacts.scores import Scores
    from saefilter.rows.read import Source
    from saefilter.select.ranking import Ranked

N_ROWS = 5_000
"""Rows in a page; of more, most are the nearest."""
NEAREST = 0.8
"""The part of them that is the nearest; the others are drawn at random from all others."""
SEED = 0
"""One report is like the next of the same scores."""
PAGE_BYTES = 8_500_000
"""What all of it may take as JSON: with everything else, a page stays below 10 MB."""
DETAILS = [
    "row_id", "row_hash", "n_tokens", "truncated", "top_features", "top_words", "themes", "closest",
    "read_as",
]  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """Which rows are in the page."""

    ids: NDArray[np.int64]
    """Ascending, `[n_shown]`."""
    nearest: int
    """How many of them are the nearest there are, or the first to go."""
    drawn: int
    """How many were drawn at random from the others."""
    of: int
    """How many rows there are to choose from."""

    @classmethod
    def among(
        cls,
        there: NDArray[np.bool_],
        distance: Column[np.float64],
        ranked: Ranked,
        limit: int = N_ROWS,
    ) -> Shown:
        """At most `limit` of the rows that are `there`, `[n_rows]`: the nearest, where the strategy gives scores the
        first to go, and a random sample of the others."""
        count = int(np.count_nonzero(there))
        if count <= limit:
            return cls(np.flatnonzero(there), count, 0, count)
        wanted = round(NEAREST * limit)
        if ranked.ranking.score is not None:
            nearest = ranked.first(np.flatnonzero(there), wanted)
        else:
            first = First(wanted)
            for start, values in distance.blocks():
                here = np.flatnonzero(there[start : start + len(values)])
                first.add(start + here, values[here])
            nearest = first.ids
        others = there.copy()
        others[nearest] = False
        random = np.random.default_rng(SEED)
        places = np.sort(random.choice(count - wanted, limit - wanted, replace=False))
        drawn = np.flatnonzero(others)[places]
        return cls(np.sort(np.concatenate([nearest, drawn])), wanted, limit - wanted, count)


@dataclass(frozen=True)
class Outcome:
    """What the run did, as far as the page must know to do it again, otherwise."""

    written: str
    """Name of what the kept rows were written to."""
    gone: str = "dropped"
    """What was done with the others, in a word."""
    by_distance: bool = True
    """Whether that is what one cut of the distance does, beside what was decided."""
    threshold: float | None = None
    """The largest distance that the cut dropped."""
    decisions: Decisions | None = None
    """What a person had decided."""


@dataclass(frozen=True)
class Explorer:
    """What the page's script is given. Lists of rows have one entry for each row that is shown."""

    about: dict[str, Any]
    """Of the run: names and hashes for the decisions, and how many rows are shown of how many."""
    curve: Curve
    names: dict[str, list[Any]]
    """What rows refer to by number: `themes`, `files`, `examples`, `features`, `reasons` of the strategy."""
    facets: list[dict[str, Any]]
    """Columns by whose values rows can be filtered: `name`, `values`, and `of` each row the value's number or -1."""
    rows: dict[str, list[Any]]
    """Columns of short values."""
    details: list[dict[str, Any]]
    """What a row that is opened shows."""

    def to_json(self) -> str:
        """JSON text of at most about `PAGE_BYTES`: where rows are too long, their texts are cut, the longest most."""
        fields = finite(asdict(self))
        texts = fields["details"]
        room = PAGE_BYTES - size_of({**fields, "details": [{**d, "turns": []} for d in texts]})
        cut_page([detail["turns"] for detail in texts], room)
        return json_safe(json.dumps(fields, ensure_ascii=False, separators=(",", ":")))


def explorer_of(
    source: Source,
    scores: Scores,
    ranked: Ranked,
    *,
    kept: NDArray[np.bool_],
    dropped: NDArray[np.bool_],
    distance: Column[np.float64],
    percentile: Column[np.float64],
    outcome: Outcome,
    limit: int = N_ROWS,
) -> Explorer | None:
    """Of the kept and the `dropped` rows, `[n_rows]` of the input each, that have a distance; None where there are
    none, or none are wanted."""
    there = kept | dropped
    for first, values in distance.blocks():  # of a cascade, some were only estimated
        there[first : first + len(values)] &= ~np.isnan(values)
    if limit < 1 or not there.any():
        return None
    shown = Shown.among(there, distance, ranked, limit)
    table = Listed(scores)
    wanted = set(shown.ids.tolist())
    evidence = _details(scores, shown.ids)
    for row in source.rows(wanted):
        table.add(row, next(evidence))
    rows = {
        **table.rows,
        "distance": list(_at(distance, shown.ids)),
        "percentile": [round(value, 3) for value in _at(percentile, shown.ids)],
        "gone": dropped[shown.ids].astype(int).tolist(),
    }
    if shown.of > len(shown.ids):
        rows["elsewhere"] = _elsewhere(scores, there, shown.ids)
    if (by := ranked.scores(shown.ids)) is not None:
        rows["score"] = by
        table.explain(dropped[shown.ids], ranked.reasons(shown.ids))
    nearer = int(np.count_nonzero(dropped & there))
    if outcome.decisions is not None and outcome.by_distance:
        nearer = _up_to(distance, there, outcome.threshold)
    about = {
        **_about(source, scores, outcome), "of": shown.of, "shown": len(shown.ids), "nearest": shown.nearest,
        "drawn": shown.drawn, "unread": int(np.count_nonzero(kept | dropped)) - shown.of, "dropped": nearer,
        "by": clean(ranked.ranking.score_name) if by is not None else None,
    }  # fmt: skip
    return Explorer(
        about, curve_of(distance, there, nearer), table.names(), facets_of(table.data), rows, table.details
    )  # fmt: skip


def _about(source: Source, scores: Scores, outcome: Outcome) -> dict[str, Any]:
    """What the page says of the run, and what decisions on it must name."""
    made, decided = scores.provenance, outcome.decisions
    return {
        "input": clean(source.path.name), "stem": clean(source.stem), "input_sha256": made.input_sha256,
        "scores": clean(scores.path.name), "scores_content_sha256": made.content_sha256,
        "output": clean(_next_to(outcome.written)), "gone": outcome.gone, "by_distance": outcome.by_distance,
        "preference": made.preference is not None,
        "reference": made.reference_name and clean(made.reference_name),
        "reviewer": clean(decided.reviewer) if decided else "", "decided": decided.sha256 if decided else "",
        "decisions": [asdict(one) for one in decided.decisions] if decided else [],
    }  # fmt: skip


def _up_to(column: Column[np.float64], there: NDArray[np.bool_], last: float | None) -> int:
    """How many of the rows that are `there` are as close as `last` or closer."""
    if last is None:
        return 0
    return sum(
        int(np.count_nonzero(there[first : first + len(values)] & (values <= last)))
        for first, values in column.blocks()
    )


def _next_to(name: str) -> str:
    """A name for what is written after a review, in the format of before; of a folder, a folder. It is the one
    that `saefilter review` gives: `data.filtered.jsonl` -> `data.reviewed.jsonl`."""
    stem, ending = (name, "") if format_of(name) is None else split_name(name)
    return f"{stem.removesuffix('.filtered')}.reviewed{ending}"


def _at(column: Column[Any], ids: NDArray[np.int64]) -> Iterator[Any]:
    """The column's values of some rows, which ascend."""
    for first, values in column.blocks():
        here = ids[np.searchsorted(ids, first) : np.searchsorted(ids, first + len(values))]
        yield from values[here - first].tolist()


def _elsewhere(scores: Scores, there: NDArray[np.bool_], ids: NDArray[np.int64]) -> list[int]:
    """Of each row that is shown, how many of the rows that are `there` equal it and are not shown: a decision is
    on them too."""
    hidden = there.copy()
    hidden[ids] = False
    hashes = scores.row_hash_column()
    own = np.array(list(_at(hashes, ids)), dtype=np.uint64)
    known = np.unique(own)
    counts = np.zeros(len(known), dtype=np.int64)
    for first, values in hashes.blocks():
        others = values[hidden[first : first + len(values)]]
        at = np.minimum(np.searchsorted(known, others), len(known) - 1)
        counts += np.bincount(at[known[at] == others], minlength=len(known))
    return [int(count) for count in counts[np.searchsorted(known, own)]]


def _details(scores: Scores, ids: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    """What the scores say of some rows, which ascend."""
    first = 0
    for batch in scores.batches(scores.having(DETAILS)):
        here = ids[(ids >= first) & (ids < first + batch.num_rows)]
        if len(here):
            yield from batch.take(here - first).to_pylist()
        first += batch.num_rows
