"""Mixes of good and bad rows, drawn from files of the user's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from settings import Mix

from saefilter.errors import SaefilterError
from saefilter.rows.formats import RowProblem, recognise
from saefilter.rows.inputs import open_input

LABEL = "is_bad"
"""Column that says which rows are bad: for the oracle and the table. No trainer or filter reads it."""


def write_mix(mix: Mix, path: Path) -> None:
    """Draw the rows, shuffle them and write them as JSONL with `messages` and the label.

    Raises SaefilterError when a file has too few rows.
    """
    draw = np.random.default_rng(0)
    n_bad = round(mix.rows * mix.bad_share)
    rows = [
        {"messages": messages, LABEL: is_bad}
        for file, count, is_bad in ((mix.bad, n_bad, 1), (mix.good, mix.rows - n_bad, 0))
        for messages in _drawn(file, count, draw)
    ]
    write_jsonl(path, (rows[i] for i in draw.permutation(len(rows))))


def _drawn(file: Path, count: int, draw: np.random.Generator) -> list[list[dict[str, str]]]:
    found = []
    for row in open_input(str(file)).rows():
        try:
            conversation = recognise(row.data or {})
        except RowProblem:
            continue
        if conversation[-1].role == "assistant":
            found.append([{"role": one.role, "content": one.content} for one in conversation])
    if len(found) < count:
        raise SaefilterError(
            f"{len(found):,} conversations where {count:,} are to be drawn",
            where=str(file),
            remedy="Lower `rows` of the mix.",
        )
    return [found[i] for i in draw.choice(len(found), count, replace=False)]


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """All rows or no file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    os.replace(temporary, path)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that `write_jsonl` wrote."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def read_questions() -> list[dict[str, str]]:
    """The eight open questions, with `id` and `text`."""
    from settings import tomllib

    text = Path(__file__).with_name("questions.toml").read_text(encoding="utf-8")
    questions: list[dict[str, str]] = tomllib.loads(text)["question"]
    return questions
