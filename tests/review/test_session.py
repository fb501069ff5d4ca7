"""A sitting: rows in the order asked for, keys, and every decision on disk before the next row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import chat
from scored import write_scores

from saefilter.artifacts.decisions import DROP, KEEP, Decisions
from saefilter.artifacts.scores import Scores
from saefilter.review.order import RANDOM, ReviewOrder
from saefilter.review.queue import queue_of, views_of
from saefilter.review.session import Press, Session
from saefilter.rows.read import Source

N_ROWS = 20


@pytest.fixture
def made(jsonl: Callable[..., Path], tmp_path: Path) -> tuple[Source, Scores]:
    """Row 0 is the closest; row 7 says the same as row 3, and row 5 cannot be scored."""
    rows = [chat(f"q {i}", f"a {i}") for i in range(N_ROWS)]
    rows[7] = rows[3]
    rows[5] = {"id": 5}
    source = Source.open(jsonl(rows))
    return source, write_scores(source, tmp_path / "s.parquet", [i / 20 for i in range(N_ROWS)])


def ids(scores: Scores, asked: ReviewOrder) -> list[int]:
    return [one.row_id for one in queue_of(scores, asked)]


def test_rows_come_closest_first_around_a_cut_or_drawn_and_equal_ones_once(
    made: tuple[Source, Scores],
) -> None:
    _, scores = made
    assert ids(scores, ReviewOrder()) == [i for i in range(N_ROWS) if i not in (5, 7)]
    assert ids(scores, ReviewOrder(around_cut=0.5))[:4] == [10, 11, 9, 12]  # 10 of 19 would go
    drawn = ids(scores, ReviewOrder(order=RANDOM, seed=3))
    assert {3 if one == 7 else one for one in drawn} == set(range(N_ROWS)) - {5, 7}
    assert drawn == ids(scores, ReviewOrder(order=RANDOM, seed=3))
    assert {one.row_id: one.copies for one in queue_of(scores, ReviewOrder())}[3] == 2


def session_of(made: tuple[Source, Scores], path: Path, **asked: int) -> Session:
    source, scores = made
    queue = queue_of(scores, ReviewOrder(**asked))[:6]
    nothing = Decisions("data.jsonl", scores.provenance.input_sha256)
    return Session(queue, views_of(source, scores, queue), nothing, lambda one: one.write(path))


def test_keys_decide_go_back_and_give_reasons(made: tuple[Source, Scores], tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    session = session_of(made, path)
    assert session.view.turns[1].text == "a 0"
    assert session.press(Press("d", "gives\x1b a dose")) == "Drop: line 1"
    assert Decisions.open(path).decisions[0].reason == "gives a dose"
    session.press(Press("r", "because"))
    session.press(Press("k"))
    session.press(Press("s"))
    assert session.press(Press("d")) == "Drop: line 4, and 1 equal to it"
    for _ in range(3):
        session.press(Press("b"))
    assert session.decided is not None
    assert (session.decided.decision, session.decided.reason) == (KEEP, "because")
    session.press(Press("d"))  # another decision does not keep the reason of the one before
    on_disk = Decisions.open(path)
    assert [(one.line, one.decision, one.reason) for one in on_disk.decisions] == [
        (1, DROP, "gives a dose"), (4, DROP, ""), (2, DROP, ""),
    ]  # fmt: skip
    assert "is no key here" in session.press(Press("x"))
    assert "drop: it goes" in session.press(Press("?"))
    assert not session.finished
    session.press(Press("q"))
    assert session.finished


def test_a_line_is_a_key_or_its_word_and_nothing_else_decides() -> None:
    assert Press.of_line(" d gives a dose \n") == Press("d", "gives a dose")
    assert Press.of_line("Drop: gives a dose") == Press("d", "gives a dose")
    assert Press.of_line("K\n") == Press("k")
    assert Press.of_line("?") == Press("?")
    for line in ("don't know", "kill it", "dd"):
        assert Press.of_line(line).key not in ("k", "d")
