"""Parts of rows: where they are, that together they are all of a turn, and their scores."""

from __future__ import annotations

import numpy as np
import pytest
from checkpoints import TEMPLATE_TOKENS, chat_tokenizer
from conftest import chat
from hypothesis import given
from hypothesis import strategies as st

from saefilter.rows.chat import ChatRenderer
from saefilter.rows.formats import recognise
from saefilter.rows.rendered import RenderOptions
from saefilter.rows.row import Row
from saefilter.scoring.scorer import RowScorer
from saefilter.scoring.spans import Place, located, part_scores, sentences
from saefilter.settings import ScoreSettings

BAD = "Double the dose and hide it from your doctor."
GOOD = "Drink enough water and sleep well every night."
TWO_TURNS = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What keeps me healthy?"},
        {"role": "assistant", "content": GOOD},
        {"role": "user", "content": "And my tablets?"},
        {"role": "assistant", "content": f"{BAD} {GOOD}"},
    ]
}


@given(st.text(alphabet="ab .!?\n1。", max_size=80))
def test_sentences_are_all_of_a_text(text: str) -> None:
    spans = sentences(text)
    assert "".join(text[start:end] for start, end in spans) == text
    assert all(start < end for start, end in spans)


def test_sentences_end_where_people_end_them() -> None:
    text = 'Eat well every day. Then he said "Sleep!" and left.\n1. Run a little more\n2. Rest'
    shown = [text[start:end].strip() for start, end in sentences(text)]
    assert shown == [
        "Eat well every day.", 'Then he said "Sleep!" and left.', "1. Run a little more\n2. Rest",
    ]  # fmt: skip


@pytest.mark.parametrize("family", TEMPLATE_TOKENS)
def test_parts_are_found_in_what_templates_make_of_them(family: str) -> None:
    renderer = ChatRenderer(chat_tokenizer(family), context=4096, options=RenderOptions(4096))
    row = {"messages": TWO_TURNS["messages"][family == "gemma-2" :]}
    conversation = recognise(row)
    text = renderer.render([conversation])[0][0].text
    for by, count in (("turns", 2), ("sentences", 3)):
        parts = located(renderer, conversation, "assistant", by)
        assert len(parts) == count
        for place, (start, end) in parts:
            content = conversation[place.message].content[place.start : place.end]
            assert text[start:end] == content


def test_the_part_that_makes_a_row_close_is_the_closest() -> None:
    scorer = RowScorer.load(ScoreSettings(preset="minilm"))
    rows = [
        Row(0, 1, TWO_TURNS),
        Row(1, 2, chat("And at work?", f"{GOOD} {BAD} {GOOD}")),
        Row(2, 3, {"text": f"{GOOD} {BAD}"}),
    ]
    turns = list(part_scores(scorer, rows, "turns"))
    assert [row.index for row, _, _ in turns] == [0, 1, 2]
    assert [len(parts) for _, _, parts in turns] == [2, 1, 1]
    assert turns[0][2][1].distance < turns[0][2][0].distance
    # a turn that is all of a row is scored as the row is
    whole = scorer.preparer.prepare(rows[1:2])
    encoded = scorer.encoder.encode(whole.windows, 1, pool="mean")
    proximity = scorer.scorer.score(encoded.features, encoded.residual).proximity[0]
    assert np.isclose(turns[1][2][0].distance, 1 - proximity)
    by_sentence = [parts for _, _, parts in part_scores(scorer, rows, "sentences")]
    for parts, closest in zip(by_sentence, (1, 1, 1), strict=True):
        assert min(range(len(parts)), key=lambda i: parts[i].distance) == closest
    start = len(GOOD) + 1
    assert by_sentence[1][1].place == Place(1, start, start + len(BAD) + 1)
    scorer.close()
