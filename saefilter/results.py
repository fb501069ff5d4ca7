"""What the Python API gives back, and how a notebook shows it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from saefilter.artifacts.scores import Scores as ScoresFile
from saefilter.errors import SaefilterError
from saefilter.report.notebook import Said, choice_shown, closest_of, distances, scores_shown
from saefilter.rows.excerpts import last_exchange
from saefilter.rows.held import Held
from saefilter.rows.inputs import open_input
from saefilter.rows.row import Row, count_reasons
from saefilter.select.strategies import Choice

READ_TO_SHOW = 64 << 20
"""Bytes of a file that is read again at most, so that a notebook can show what its closest rows say."""


@dataclass(frozen=True, repr=False)
class Scores(ScoresFile):
    """A scores file, opened; a notebook shows where its rows lie, and the closest ones."""

    said: Said = field(default_factory=dict, compare=False)
    """What the closest rows say, where they were in memory."""

    def _repr_html_(self) -> str | None:
        """For a notebook; None, which shows the plain words, where the file cannot be read."""
        try:
            said = self.said or _read_again(self, closest_of(distances(self)))
            return scores_shown(self, said).to_html()
        except SaefilterError:
            return None


@dataclass(frozen=True)
class Filtered:
    """A dataset taken apart; every row is in exactly one of the three."""

    kept: Any
    """What to train on, as what the input was: a `datasets.Dataset`, a data frame, an Arrow table or record
    batch; an Arrow table of what else offers Arrow, a list of dicts of everything else."""
    dropped: Any
    """The same, of the rows that were dropped."""
    kept_ids: list[int]
    """Positions in the input, ascending."""
    dropped_ids: list[int]
    quarantined: dict[int, str]
    """Rows that could not be scored: position -> reason."""
    scores: ScoresFile
    said: Said = field(default_factory=dict, compare=False)
    """What the closest of the dropped rows say, where they were in memory."""

    def __repr__(self) -> str:
        counts = (
            f"{len(ids):,} {name}"
            for name, ids in (
                ("kept", self.kept_ids),
                ("dropped", self.dropped_ids),
                ("quarantined", self.quarantined),
            )
        )
        return f"Filtered({', '.join(counts)}; each a {type(self.kept).__name__})"

    def _repr_html_(self) -> str | None:
        """For a notebook; None, which shows the plain words, where the scores cannot be read."""
        reasons = count_reasons(self.quarantined.values())
        title = (
            f"{len(self.kept_ids):,} rows kept, {len(self.dropped_ids):,} dropped, "
            f"{len(self.quarantined):,} quarantined"
        )
        try:
            said = self.said or _read_again(self.scores, _closest(self.scores, self.dropped_ids))
            return choice_shown(self.scores, self.dropped_ids, reasons, said, title).to_html()
        except SaefilterError:
            return None


def said_of(held: Held, scores: ScoresFile, among: Sequence[int] | None = None) -> Said:
    """What the closest rows say of data in memory, or the closest of some; nothing of data that have a name,
    which can be read again when they are shown."""
    if held.look is None:
        return {}
    ids = _closest(scores, among)
    rows = (Row(i, i + 1, dict(data)) for i, data in zip(ids, held.look(ids), strict=True))
    return {row.index: last_exchange(row, scores.provenance.own_columns) for row in rows}


def _closest(scores: ScoresFile, among: Sequence[int] | None) -> list[int]:
    distance = distances(scores)
    if among is not None:
        wanted = np.zeros(len(distance), np.bool_)
        wanted[list(among)] = True
        distance = np.where(wanted, distance, np.nan)
    return closest_of(distance)


def _read_again(scores: ScoresFile, ids: Collection[int]) -> Said:
    """What some rows say, where their file is here, not large, and still has them; a notebook fetches nothing
    to show something."""
    made, path = scores.provenance, Path(scores.provenance.input_path)
    if not ids or not path.is_file() or path.stat().st_size > READ_TO_SHOW:
        return {}
    hashes = scores.read(["row_hash"])["row_hash"]
    return {
        row.index: last_exchange(row, made.own_columns)
        for row in open_input(path).rows(set(ids))
        if row.digest() == hashes[row.index].as_py()
    }


def taken_apart(held: Held, scores: ScoresFile, choice: Choice) -> Filtered:
    """What a choice makes of the data. Raises SaefilterError where a row would be lost."""
    table = scores.read(["status", "reason"])
    is_scored = scores.fit(table["status"])
    ids = np.flatnonzero(is_scored)
    kept_ids, dropped_ids = ids[~choice.dropped].tolist(), ids[choice.dropped].tolist()
    reasons = table["reason"]
    quarantined = {int(i): reasons[int(i)].as_py() for i in np.flatnonzero(~is_scored)}
    if len(kept_ids) + len(dropped_ids) + len(quarantined) != scores.provenance.rows:
        raise SaefilterError("rows would be lost", remedy="Please report this as a bug.")
    return Filtered(
        held.take(kept_ids), held.take(dropped_ids), kept_ids, dropped_ids, quarantined, scores,
        said_of(held, scores, dropped_ids),
    )  # fmt: skip
