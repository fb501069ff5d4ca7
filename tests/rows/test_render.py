"""Rendering with the real MiniLM tokenizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saefilter.encode.presets import load_preset
from saefilter.rows.formats import Message, recognise
from saefilter.rows.render import PlainRenderer, load_tokenizer
from saefilter.rows.rendered import RenderOptions

TOKENIZER = load_tokenizer(load_preset("minilm").model_path())


def renderer(
    context: int = 512, max_tokens: int = 1024, train_on: str = "assistant"
) -> PlainRenderer:
    return PlainRenderer(TOKENIZER, context=context, options=RenderOptions(max_tokens, train_on))


def scored_text(conversation: tuple[Message, ...], **options: Any) -> str:
    """What the scored tokens cover, without white space."""
    rows, windows = renderer(**options).render([conversation])
    spans = [span for window in windows for span in window.spans[window.scored]]
    return "".join(rows[0].text[start:end] for start, end in spans)


TURNS = (
    Message("system", "Be kind."),
    Message("user", "First question?"),
    Message("assistant", "First answer."),
    Message("user", "Second question?"),
    Message("assistant", "Second answer."),
)


@pytest.mark.parametrize(
    ("train_on", "expected"),
    [
        ("assistant", "Firstanswer.Secondanswer."),
        ("last-turn", "Secondanswer."),
        ("all", "Bekind.Firstquestion?Firstanswer.Secondquestion?Secondanswer."),
    ],
)
def test_only_trained_tokens_are_scored(train_on: str, expected: str) -> None:
    assert scored_text(TURNS, train_on=train_on) == expected


def test_special_tokens_in_text_are_text() -> None:
    answer = "No [SEP] here [CLS] or [MASK]"
    conversation = recognise({"prompt": "[PAD] q", "completion": answer})
    _rows, windows = renderer().render([conversation])
    ids = windows[0].ids
    assert scored_text(conversation) == answer.replace(" ", "")
    assert (ids == TOKENIZER.sep_token_id).sum() == 1
    assert (ids == TOKENIZER.cls_token_id).sum() == 1
    assert not windows[0].scored[[0, -1]].any()


def test_long_rows_are_read_in_windows_and_cut_at_max_tokens() -> None:
    conversation = recognise({"text": "word " * 100})
    rows, windows = renderer(context=32, max_tokens=70).render([conversation])
    assert (rows[0].n_tokens, rows[0].n_trained, rows[0].n_scored) == (100, 100, 70)
    assert rows[0].truncated
    assert [int(window.scored.sum()) for window in windows] == [30, 30, 10]
    assert all(len(window.ids) <= 32 for window in windows)


def test_an_answer_beyond_max_tokens_is_a_problem_not_a_zero() -> None:
    conversation = recognise({"prompt": "long " * 50, "completion": "short"})
    rows, windows = renderer(max_tokens=20).render([conversation])
    assert rows[0].problem == "all trained tokens lie beyond --max-tokens 20"
    assert windows == []
    rows, _ = renderer().render([recognise({"text": "\u200b\u200b \u00ad"})])
    assert rows[0].problem == "the trained text has no tokens"


@given(st.lists(st.text(max_size=40), min_size=1, max_size=5))
@settings(deadline=None, max_examples=60)
def test_windows_never_change_what_is_scored(texts: list[str]) -> None:
    roles = ["user", "assistant"]
    conversation = tuple(Message(roles[i % 2], text) for i, text in enumerate(texts))
    whole_rows, whole = renderer().render([conversation])
    rows, parts = renderer(context=8).render([conversation])
    assert rows == whole_rows
    one = [tuple(s) for w in whole for s in w.spans[w.scored]]
    many = [tuple(s) for w in parts for s in w.spans[w.scored]]
    assert one == many
    assert rows[0].n_scored == len(one) or rows[0].problem is not None
    assert np.all([len(w.ids) <= 8 for w in parts])
