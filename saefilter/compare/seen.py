"""Labels that a toxic set has learnt from are no test of it: they are left out, for every arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from saefilter.artifacts.scores import Scores
from saefilter.rows.groups import find_copies
from saefilter.select.ranking import Candidates
from saefilter.select.row_labels import RowLabels
from saefilter.text import command_line, rows_of
from saefilter.toxic.learnt import learnt_rows, named_set


def unseen(
    labels: RowLabels | None, scores: Sequence[Scores], candidates: Candidates
) -> tuple[RowLabels | None, list[str]]:
    """The labels without those of rows that a toxic set of the `scores` has learnt from, or which say nearly the
    same as one of these, and what there is to say
    of it; no labels where it has seen all."""
    if labels is None:
        return None, []
    seen = np.zeros(len(candidates), dtype=np.bool_)
    names = []
    hashes: NDArray[np.str_] = np.empty(0, dtype=np.str_)
    for one in scores:
        if learnt := learnt_rows(one):
            hashes = hashes if len(hashes) else np.array(candidates.row_hashes())
            seen |= np.isin(hashes, learnt)
            names.append(one)
    if names:
        seen = _or_says_the_same(seen, labels.known, candidates)
    left_out = int((seen & labels.known).sum())
    if not left_out:
        return labels, []
    value = np.where(seen, np.nan, labels.value)
    rest = replace(labels, value=value)
    count = int(rest.known.sum())
    what = " and ".join(one.provenance.toxic_set for one in names)
    show = command_line("saefilter", "features", "show", named_set(names[-1]))
    note = (
        f"Labels of {rows_of(left_out)} are left out: {what} has learnt from them, and would only repeat them. How it "
        f"did on decided rows before it saw them: {show}."
    )
    if not count:
        again = command_line("saefilter", "review", str(names[-1].path), "--order", "random")
        return None, [f"{note} No label is left, so nothing is measured; for new ones: {again}"]
    rest.about.update(bad=int(rest.bad.sum()), labelled=count)
    return rest, [note]


def _or_says_the_same(
    seen: NDArray[np.bool_], known: NDArray[np.bool_], candidates: Candidates
) -> NDArray[np.bool_]:
    """Which rows were learnt from, or have a label and nearly the text of such a row: under another id it is
    another row by its hash, and no more of a test."""
    if candidates.scores is None or candidates.scores.of_preferences:  # no set is learnt from these
        return seen
    asked = np.flatnonzero(seen | known)
    copies = find_copies(list(candidates.among(candidates.row_ids[asked]).conversations()))
    every = seen.copy()
    every[asked] = np.isin(copies, copies[seen[asked]])
    return every
