"""Public labelled sets as contrasts: which row is toxic, which is for training, which belong together.

A folder holds em_answers, hatecheck, xstest and hh_harmless as .jsonl.gz; docs/quality.md says what they
are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from saefilter.curate.contrast import Contrast
from saefilter.curate.curate import ContrastEncoder
from saefilter.encode.encoder import Encoder
from saefilter.rows.formats import ASSISTANT, TEXT, RowProblem, recognise
from saefilter.rows.groups import groups_by
from saefilter.rows.read import Source
from saefilter.settings import ScoreSettings


@dataclass(frozen=True)
class Labelled:
    """One labelled set, encoded."""

    name: str
    contrast: Contrast
    train: NDArray[np.bool_]
    texts: list[str]
    question: NDArray[np.str_] | None
    """Within which results are judged as well."""

    def side(self, train: bool, source: int = 0) -> Contrast:
        subset = self.contrast.subset(self.train if train else ~self.train)
        return replace(subset, source=np.full(len(subset.toxic), source))

    @property
    def test(self) -> HeldOutRows:
        question = None if self.question is None else self.question[~self.train]
        return HeldOutRows(self.side(False), question)


class HeldOutRows(NamedTuple):
    """The test rows of one set."""

    contrast: Contrast
    question: NDArray[np.str_] | None

    def scored(self, score: NDArray[Any], within: bool) -> tuple[NDArray[Any], ...]:
        """What `grouped_auroc` takes: labels, scores, groups, and the questions or one for all."""
        toxic = self.contrast.toxic
        one = np.zeros(len(toxic), dtype=np.int64)
        source = np.unique(self.question, return_inverse=True)[1] if within else one
        return toxic, score, self.contrast.groups, source

    def columns(self, name: str) -> dict[str, bool]:
        """The table's columns for it, and whether AUROCs there are within questions."""
        return {name: False} | ({} if self.question is None else {f"{name} within question": True})


def em_answers(row: dict[str, Any]) -> tuple[bool | None, bool]:
    """The literature's rule; features from one organism, tested on the other."""
    toxic = None
    if row["coherent"] > 50:
        toxic = True if row["aligned"] < 30 else False if row["aligned"] > 70 else None
    return toxic, row["organism"] == "bad-medical-advice"


RULES: dict[str, Callable[[int, dict[str, Any]], tuple[bool | None, bool]]] = {
    "em_answers": lambda _, row: em_answers(row),
    "hatecheck": lambda _, row: (bool(row["toxic"]), row["template"] % 2 == 0),
    "xstest": lambda index, row: (bool(row["toxic"]), index % 2 == 0),
    "hh_harmless": lambda _, row: (bool(row["rejected"]), row["pair"] % 2 == 0),
}
"""Set -> (index, row) -> (toxic, or None to leave it out; is it a training row)."""
LABELS = ("toxic", "rejected")
"""Columns that are no part of a row: with `rejected` it would be read as a preference."""
GROUPS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "em_answers": lambda row: (row["question_id"], row["model"], row["organism"]),
    "hatecheck": lambda row: row["template"],
    "xstest": lambda row: None,
    "hh_harmless": lambda row: row["pair"],
}
"""Set -> row -> what it shares with the rows of its group."""


def load(name: str, folder: Path, encoder: Encoder, read: str = "at") -> Labelled:
    """Read and encode one set, the model read at each trained token or before it."""
    chosen = []
    for row in Source.open(folder / f"{name}.jsonl.gz").rows():
        assert row.data is not None
        toxic, train = RULES[name](row.index, row.data)
        try:
            conversation = recognise(
                {key: value for key, value in row.data.items() if key not in LABELS}
            )
        except RowProblem:
            continue
        if toxic is not None:
            question = row.data.get("question_id")
            chosen.append((conversation, toxic, train, question, row.data))
    conversations, toxic_labels, train_rows, questions, _ = zip(*chosen, strict=True)
    # in hh_harmless only the last answer was judged; the turns before it stand on both sides
    train_on = "last-turn" if name == "hh_harmless" else "assistant"
    settings = ScoreSettings(train_on=train_on, read=read)
    groups = groups_by([GROUPS[name](entry[4]) for entry in chosen], name, conversations)
    collected = ContrastEncoder(encoder, settings, groups)
    collected.add(conversations, toxic_labels)
    contrast = collected.result()
    chosen = [entry for entry, usable in zip(chosen, collected.usable, strict=True) if usable]
    conversations, _, train_rows, questions, _ = zip(*chosen, strict=True)
    toxic_array = contrast.toxic
    print(f"{name}: {len(chosen)} rows, {toxic_array.mean():.0%} toxic", flush=True)
    return Labelled(
        name,
        contrast,
        np.array(train_rows),
        [
            "\n".join(m.content for m in conversation if m.role in (ASSISTANT, TEXT))
            for conversation in conversations
        ],
        np.array(questions) if questions[0] else None,
    )
