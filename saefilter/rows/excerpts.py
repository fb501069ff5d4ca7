"""The texts of a few rows, cut to a readable length."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from saefilter.compare.data import Excerpt
from saefilter.report.build import turns_of
from saefilter.rows.formats import ASSISTANT, TEXT
from saefilter.rows.read import Source
from saefilter.rows.row import Row
from saefilter.select.candidates import Candidates
from saefilter.select.row_labels import RowLabels

EXCERPT_CHARACTERS = 240


def excerpts(
    source: Source,
    wanted: Iterable[int],
    labels: RowLabels | None,
    candidates: Candidates,
) -> dict[int, Excerpt]:
    """Some rows by their ids, with their labels. `labels` are of the candidates, `[n_rows]`."""
    found = {}
    for row in source.rows(set(wanted)):
        bad = None
        if labels is not None:
            position = int(np.searchsorted(candidates.row_ids, row.index))
            bad = bool(labels.bad[position]) if labels.known[position] else None
        found[row.index] = _excerpt(row, bad)
    return found


def _excerpt(row: Row, bad: bool | None) -> Excerpt:
    turns = turns_of(row)
    answers = [turn.text for turn in turns if turn.role in (ASSISTANT, TEXT)]
    prompts = [turn.text for turn in turns if turn.role == "user"]
    return Excerpt(
        row.index,
        row.line,
        row.file,
        bad,
        _cut(prompts[-1] if prompts else ""),
        _cut(answers[-1] if answers else ""),
    )


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT_CHARACTERS else line[: EXCERPT_CHARACTERS - 1] + "…"
