"""Rows that a person has decided on, taken out of the ranking: what is told to stay stays, what is told to go
goes, and the strategy chooses among the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter.artifacts.decisions import Decisions
from saefilter.errors import SaefilterError
from saefilter.select.ranking import Candidates, Ranking
from saefilter.select.strategies import AUTO, Choice, Selection, choose, refuse_unvouched
from saefilter.text import rows_of


@dataclass(frozen=True)
class Decided:
    """Which of the candidates were decided on, and what was chosen among the others."""

    decisions: Decisions
    number: NDArray[np.int64]
    """Of the decision on each candidate, `[n_rows]`; -1 where there is none."""
    dropped: NDArray[np.bool_]
    """That a decision drops, `[n_rows]`."""
    spared: NDArray[np.bool_]
    """That a decision keeps, `[n_rows]`."""
    near: int
    """Decided rows that lie as close as the last one that goes by its distance; 0 where another order chose."""
    saved: int
    """Of these, how many a decision keeps."""
    rest: Candidates
    """The others."""
    choice: Choice
    """Among them."""
    absent: int = 0
    """Decisions on rows that could not be scored, or are not in the data."""

    @property
    def undecided(self) -> NDArray[np.int64]:
        """Positions of the others among the candidates."""
        return np.flatnonzero(self.number < 0)

    def about(self) -> dict[str, Any]:
        """For report and provenance: no folders, and no reviewer's name beyond the file's own."""
        file = self.decisions.path
        return {
            "file": file.name if file is not None else "",
            "sha256": self.decisions.sha256,
            "reviewer": self.decisions.reviewer,
            "decisions": len(self.decisions.decisions),
            "spared": int(np.count_nonzero(self.spared)),
            "dropped": int(np.count_nonzero(self.dropped)),
            "near": self.near,
            "saved": self.saved,
            "undecided": len(self.rest),
            "absent": self.absent,
        }


def choose_decided(candidates: Candidates, selection: Selection, decisions: Decisions) -> Choice:
    """Which of the rows to drop, where some were decided on.

    `--drop-frac` is a share of the rows without a decision, `--drop-count` so many of them, and
    `--min-distance` is held against each of them. `--drop auto` estimates over all rows how many are bad;
    those that decisions drop are among them, and the closest of the others make up the rest. Example: of 200
    rows 12 are kept and 8 dropped by decision; `--drop-frac 0.1` then drops 18 of the other 180, 26 in all.

    Raises SaefilterError for decisions on other data, and as `choose` does.
    """
    selection.check()
    if candidates.scores is None:
        raise SaefilterError("decisions need the scores file, which has the rows' hashes")
    made = candidates.scores.provenance
    decisions.check_belongs(made.input_sha256, made.input_path)
    hashes = candidates.scores.row_hashes()[candidates.row_ids]
    number = decisions.on(hashes)
    drops = np.array([one.drops for one in decisions.decisions], dtype=np.bool_)
    is_decided = number >= 0
    dropped = np.zeros(len(candidates), dtype=np.bool_)
    dropped[is_decided] = drops[number[is_decided]]
    undecided = np.flatnonzero(~is_decided)
    rest = candidates.among(candidates.row_ids[undecided])
    asked, cut = selection, None
    if selection.drop == AUTO:
        from saefilter.select.auto import auto_cut  # needs scipy, which other cuts do without

        refuse_unvouched(candidates, selection)
        cut = auto_cut(candidates, selection.drop_fdr)
        more = min(max(0, cut.rows - int(np.count_nonzero(dropped))), len(rest))
        asked = replace(selection, drop=None, drop_fdr=None, drop_count=more)
    if asked.drop_count is not None and asked.drop_count > len(rest):
        raise SaefilterError(
            f"--drop-count {asked.drop_count} is more than the {rows_of(len(rest))} without a decision"
        )
    decided_nearest = int(np.count_nonzero(~np.isnan(candidates.distance[is_decided])))
    chosen = choose(rest, asked, aside=decided_nearest)._replace(cut=cut)
    spared = is_decided & ~dropped
    near = is_decided & _as_close(candidates, selection, rest, chosen)
    n_near, n_saved = (int(np.count_nonzero(one)) for one in (near, near & spared))
    decided = Decided(
        decisions, number, dropped, spared, n_near, n_saved, rest, chosen,
        absent=len(decisions.decisions) - len(np.unique(number[is_decided])),
    )  # fmt: skip
    gone = dropped.copy()
    gone[undecided] = chosen.dropped
    return Choice(gone, _ranking(decided, len(candidates)), cut, decided)


def _as_close(
    candidates: Candidates, selection: Selection, rest: Candidates, chosen: Choice
) -> NDArray[np.bool_]:
    """Which rows lie as close as the last one that goes by its distance, `[n_rows]`."""
    by_distance = selection.strategy == "closest" and selection.keep_balance is None
    if not by_distance or not chosen.dropped.any():
        return np.zeros(len(candidates), dtype=np.bool_)
    last = np.nanmax(rest.distance[chosen.dropped], initial=-np.inf)
    close: NDArray[np.bool_] = candidates.distance <= last
    return close


def _ranking(decided: Decided, n_rows: int) -> Ranking:
    """Of all candidates: what decisions drop comes first, what they keep last, and has the strategy's score
    no more than they do."""
    own, undecided = decided.choice.ranking, decided.undecided
    order = np.concatenate(
        [np.flatnonzero(decided.dropped), undecided[own.order], np.flatnonzero(decided.spared)]
    )
    reasons = [own.reason] * n_rows
    if own.reasons is not None:
        for position, why in zip(undecided.tolist(), own.reasons, strict=True):
            reasons[position] = why
    listed = decided.decisions.decisions
    for position in np.flatnonzero(decided.number >= 0).tolist():
        reasons[position] = decided.decisions.words(listed[int(decided.number[position])])

    def spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
        every = np.full(n_rows, np.nan)
        every[undecided] = values
        return every

    return Ranking(
        order,
        own.reason,
        None if own.score is None else spread(own.score),
        own.score_name,
        reasons,
        own.details,
        {name: spread(values) for name, values in own.columns.items()},
    )
