"""Why a row fits no format, with what its columns look like: a `--columns` to try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from saefilter.columns import Columns
from saefilter.errors import did_you_mean
from saefilter.rows.messages import RowProblem
from saefilter.rows.parse import json_type

SHOWN = 12
"""Columns that are named; more are counted."""
LONGEST_NAME = 40
"""Characters of a name that is said."""
PROMPTS = ("prompt", "question", "query", "instruction", "input", "user", "human", "request", "ask",
           "problem", "context", "source")  # fmt: skip
ANSWERS = ("completion", "answer", "response", "output", "assistant", "reply", "target", "solution",
           "generation", "summary", "bot", "gpt")  # fmt: skip
"""What columns of requests and of answers are called, or have in their names."""
TURN_KEYS = ("role", "from", "speaker", "content", "value")
EXPECTED = (
    "'messages', 'conversations', 'prompt' and 'completion', 'instruction' and 'output', 'question' "
    "and 'answer', 'text', or 'chosen' and 'rejected'"
)


def no_format(
    row: Mapping[str, Any], columns: Columns, formats: Sequence[tuple[str, ...]]
) -> RowProblem:
    """The problem of a row whose columns mark no format, or lack those that the user named."""
    shown = ", ".join(repr(name[:LONGEST_NAME]) for name in list(row)[:SHOWN])
    shown += f" and {len(row) - SHOWN} more" if len(row) > SHOWN else ""
    for ours, theirs in columns.named.items():
        if theirs and row.get(theirs) is None:
            near = "" if theirs in row else f". {did_you_mean(theirs, row)}"
            empty = "is empty" if theirs in row else "is not there"
            return RowProblem(
                f"column {theirs!r} {empty}, which --columns reads as {ours!r}: the columns are "
                f"{shown}{near}"
            )
    if columns.named:
        wanted = [one for one in formats if set(one) & set(columns.named)]
        whole = " or ".join(",".join(f"{name}=..." for name in one) for one in wanted[:3])
        return RowProblem(
            f"--columns {columns} names no whole format: the columns are {shown}; wanted: {whole}"
        )
    if (lacking := _empty_of(row, formats)) is not None:
        return RowProblem(f"{lacking!r} is empty")
    meant = _guess(row)
    return RowProblem(
        f"no known format: the columns are {shown}; expected {EXPECTED}"
        + (f". {meant}" if meant else "; say with --columns what they hold")
    )


def _empty_of(row: Mapping[str, Any], formats: Sequence[tuple[str, ...]]) -> str | None:
    """The column that holds nothing in a row which is of a format but for that."""
    whole = (one for one in formats if len(one) > 1 and set(one) <= row.keys())
    half = next((one for one in whole if any(row[name] is not None for name in one)), ())
    return next((name for name in half if row[name] is None), None)


def _guess(row: Mapping[str, Any]) -> str:
    """What might be meant, from names and from what is in the columns; empty where nothing is."""
    row = {name: value for name, value in row.items() if len(name) <= LONGEST_NAME}
    if len(row) == 1 and any(sign in next(iter(row)) for sign in ";\t|"):
        return "The columns of a CSV file are separated by commas: save it so"
    for name, value in row.items():
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):
            keys = [key for key in TURN_KEYS if key in value[0]]
            if len(keys) > 1:
                return f"Did you mean --columns messages={name}{_turn_keys(keys)}?"
    texts = {name: value for name, value in row.items() if isinstance(value, str) and value.strip()}
    asked, answered = _named_like(texts, PROMPTS), _named_like(texts, ANSWERS)
    if answered and not asked:
        asked = next((name for name in texts if name != answered), None)
    if asked and not answered:
        answered = max((n for n in texts if n != asked), key=lambda n: len(texts[n]), default=None)
    if asked and answered and asked != answered:
        return f"Did you mean --columns prompt={asked},completion={answered}?"
    if texts:
        return f"Did you mean --columns text={max(texts, key=lambda name: len(texts[name]))}?"
    held = ", ".join(f"{name!r} is {json_type(value)}" for name, value in list(row.items())[:4])
    return f"None of them holds text: {held}" if held else ""


def _turn_keys(keys: Sequence[str]) -> str:
    return (
        "" if "role" in keys or "from" in keys else f",turn.role={keys[0]},turn.content={keys[1]}"
    )


def _named_like(texts: Mapping[str, str], names: Sequence[str]) -> str | None:
    """The column that is called so, else one that has such a word in its name."""
    for exact in (True, False):
        for word in names:
            for name in texts:
                if (name.lower() == word) if exact else (word in name.lower()):
                    return name
    return None
