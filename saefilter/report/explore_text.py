"""The texts of the rows that are in a page: cut so that the page stays small, and the values of columns by which
rows can be filtered. Whatever is cut ends in `[…]`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter.report.fragments import in_script
from saefilter.text import json_safe, one_line

ROW_CHARACTERS = 6_000
"""Of one row, at most."""
CUT = " […]"
MOST_FACETS, MOST_VALUES, VALUE_CHARACTERS = 4, 40, 60
"""Columns that rows can be filtered by, the values that one may have, and how much of a value is shown."""


def level(sizes: NDArray[np.int64], room: int) -> int:
    """The largest number to which all sizes can be cut down so that they fit into the room."""
    if sizes.sum() <= room:
        return int(sizes.max(initial=0))
    ordered = np.sort(sizes)
    # Cutting all from the i-th on to one size leaves the smaller ones as they are.
    before = np.concatenate([[0], np.cumsum(ordered)[:-1]])
    fair = (room - before) // np.arange(len(ordered), 0, -1)
    return max(0, int(fair[np.argmax(fair < ordered)]))


def cut_row(turns: list[list[Any]], room: int = ROW_CHARACTERS) -> None:
    """Cut the turns of a row, `[role, scored, text]`, in place, the longest first."""
    sizes = np.array([len(text) for _, _, text in turns], dtype=np.int64)
    if sizes.sum() <= room:
        return
    most = level(sizes, room)
    for turn in turns:
        if len(turn[2]) > most:
            turn[2] = turn[2].removesuffix(CUT)[:most] + CUT


def cut_page(rows: Sequence[list[list[Any]]], room: int) -> None:
    """Cut the turns of rows, in place, so that all of them take about so many bytes in the page."""
    sizes = np.array([size_of(turns) for turns in rows], dtype=np.int64)
    if sizes.sum() <= room:
        return
    most = level(sizes, room)
    for turns, size in zip(rows, sizes.tolist(), strict=True):
        if size > most:
            characters = sum(len(text) for _, _, text in turns)
            cut_row(turns, max(0, int(characters * most / size) - len(CUT) * len(turns)))


def size_of(value: Any) -> int:
    """Bytes of a value in the page."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len(in_script(json_safe(text)).encode())


def value_words(data: Mapping[str, Any]) -> dict[str, str]:
    """The values of a row that name a kind, short and on one line, by their columns."""
    return {
        str(name): one_line(str(value))[:VALUE_CHARACTERS]
        for name, value in data.items()
        if isinstance(value, (str, int)) and len(str(value)) <= 2 * VALUE_CHARACTERS
    }


def facets_of(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """The columns whose values tell kinds of rows apart: a few values, most of them of several rows. `rows`: the
    values of each."""
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        for name, value in row.items():
            if len(seen := counts.setdefault(name, Counter())) <= MOST_VALUES:
                seen[value] += 1
    telling = [
        name
        for name, seen in counts.items()
        if 2 <= len(seen) <= min(MOST_VALUES, len(rows) // 2) and sum(seen.values()) * 2 > len(rows)
    ]
    facets = []
    for name in sorted(telling, key=lambda name: len(counts[name]))[:MOST_FACETS]:
        values = [value for value, _ in counts[name].most_common()]
        number = {value: place for place, value in enumerate(values)}
        of = [number.get(row.get(name, ""), -1) if name in row else -1 for row in rows]
        facets.append({"name": one_line(name)[:VALUE_CHARACTERS], "values": values, "of": of})
    return facets
