"""Excerpts of rows: which turns they say were scored."""

from __future__ import annotations

from typing import Any

import pytest

from saefilter.rows.excerpts import turns_of
from saefilter.rows.row import Row


def said(role: str, text: str, **marks: Any) -> dict[str, Any]:
    return {"role": role, "content": text, **marks}


TWO = {
    "messages": [
        said("user", "q"),
        said("assistant", "a"),
        said("user", "r"),
        said("assistant", "b"),
    ]
}
MARKED = {
    "messages": [said("user", "q"), said("assistant", "a", train=False), said("assistant", "b")]
}
PAIR = {"prompt": [said("user", "q"), said("assistant", "a"), said("user", "r")],
        "chosen": [said("assistant", "b")], "rejected": [said("assistant", "c")]}  # fmt: skip
KTO = {"messages": [*TWO["messages"], said("user", "s")], "label": True}


@pytest.mark.parametrize(
    ("data", "by", "scored"),
    [
        (TWO, "assistant", "ab"),
        (TWO, "last-turn", "b"),
        (TWO, "all", "qarb"),
        (TWO, "trl", "qarb"),
        (TWO, None, ""),
        (MARKED, "assistant", "b"),
        ({"prompt": "q", "completion": "a"}, "trl", "a"),
        ({"text": "a"}, "assistant", "a"),
        (PAIR, "assistant", "bc"),
        (PAIR, "last-turn", "bc"),
        (KTO, "assistant", "b"),
    ],
)
def test_turns_that_were_scored_say_so(data: dict[str, Any], by: str | None, scored: str) -> None:
    turns = turns_of(Row(0, 1, data), None, by)
    assert "".join(turn.text for turn in turns if turn.scored) == scored
    assert len(turns) == len(turns_of(Row(0, 1, data)))
