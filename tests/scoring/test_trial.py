"""A trial: some rows scored in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import chat

from saefilter.errors import SaefilterError
from saefilter.rows.inputs import open_input
from saefilter.rows.sides import PAIRS
from saefilter.scoring.trial import count_tokens, is_worth_trying, sample_of, spread, try_rows
from saefilter.settings import ScoreSettings

ROWS: list[Any] = [chat(f"Question {i}?", "An answer of a few words. " * 4) for i in range(40)]


def test_rows_are_scored_and_nothing_is_left_behind(jsonl: Callable[..., Path]) -> None:
    data = jsonl([*ROWS, b"{damaged"])
    sample = sample_of(open_input(data), None)
    trial = try_rows(ScoreSettings(preset="minilm", reference="not read"), sample, 0.001)
    assert trial.rows == sample.total == 41
    assert 0.5 < trial.start < 120
    assert 0 < trial.row < 5
    assert 20 < trial.scores_bytes < 20_000
    assert trial.peak_bytes > 50e6
    assert list(data.parent.iterdir()) == [data]


def test_samples_are_spread_over_all_rows(jsonl: Callable[..., Path]) -> None:
    sample = sample_of(open_input(jsonl([chat("?", str(i)) for i in range(5000)])), None)
    assert sample.total == 5000
    assert [row.index for row in sample.rows] == list(range(0, 5000, 5))
    assert [row.index for row in spread(sample.rows, 4)] == [0, 1250, 2500, 3750]
    assert spread(sample.rows, 10**6) == sample.rows


def test_without_its_tokenizer_tokens_are_guessed_and_it_is_said(
    jsonl: Callable[..., Path],
) -> None:
    pairs = [{"prompt": "Why?", "chosen": "So. " * 20, "rejected": "No. " * 20}] * 3
    sample = sample_of(open_input(jsonl(pairs)), None)
    assert sample.kind == PAIRS
    rows = count_tokens(sample, None, 1000)
    assert rows.count == 1000
    assert 40 < rows.tokens < 60
    assert "4 characters a token" in rows.rests_on


def test_what_cannot_be_scored_is_said(jsonl: Callable[..., Path]) -> None:
    with pytest.raises(SaefilterError, match="no row can be scored"):
        sample_of(open_input(jsonl([{"number": 1}])), None)
    assert is_worth_trying(1.0)
    assert not is_worth_trying(60.0)
