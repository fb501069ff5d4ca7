"""Pairs of the two sides that resemble each other."""

from __future__ import annotations

import numpy as np
import pytest

from saefilter.curate.match import match
from saefilter.curate.sources import ContrastRows
from saefilter.errors import SaefilterError
from saefilter.rows.formats import Message


def test_matching_evens_length_and_words_and_uses_rows_once() -> None:
    rng = np.random.default_rng(0)

    def text(words: int, topic: str) -> tuple[Message, ...]:
        vocabulary = [f"{topic}{i}" for i in range(12)]
        return (Message("text", " ".join(rng.choice(vocabulary, words))),)

    toxic = [text(int(rng.integers(20, 40)), "a") for _ in range(30)]
    benign = [text(int(rng.integers(20, 40)), "a") for _ in range(40)]
    benign += [text(4, "a") for _ in range(100)] + [text(30, "b") for _ in range(100)]
    scores = [float(i) for i in range(240)]
    matched, made = match(ContrastRows(toxic, benign, [{}, {}], None, scores))
    assert len(matched.toxic) == len(matched.benign) == made.pairs == 30
    found = [one.content for (one,) in matched.benign]
    assert len(set(found)) == 30
    assert all(len(one.split()) >= 20 and one.startswith("a") for one in found)
    assert [benign[int(score)][0].content for score in matched.benign_score or []] == found
    assert made.similarity > made.similarity_before
    assert "Matched 30 pairs" in str(made)
    with pytest.raises(SaefilterError, match="both sides need rows"):
        match(ContrastRows([], benign, []))
