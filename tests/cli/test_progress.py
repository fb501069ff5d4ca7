"""What a run that takes long says where no terminal shows a bar: in a log, a batch job, a pipeline."""

from __future__ import annotations

from saefilter.cli.progress import LogLines


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_log_gets_a_line_now_and_then() -> None:
    clock, said = Clock(), list[str]()
    lines = LogLines(said.append, "Scoring", None, clock=clock)
    lines.plan(200_000, 8_000)
    for _ in range(29):
        clock.now += 1
        lines(200, 7_000)
    assert not said  # what is done in half a minute needs no word
    clock.now += 1
    lines(200, 7_000)
    assert said == ["Scoring: 14,000 of 200,000 rows, 7,000 tokens/s, about 15.5 min left"]


def test_lines_come_ever_more_rarely_but_at_least_every_ten_minutes() -> None:
    clock, times = Clock(), list[float]()
    lines = LogLines(lambda text: times.append(clock.now), "Scoring", 10**9, clock=clock)
    while clock.now < 3_600:
        clock.now += 1
        lines(1, 1)
    assert times == [30, 90, 210, 450, 930, 1530, 2130, 2730, 3330]


def test_it_says_what_is_going_on_and_leaves_out_what_it_does_not_know() -> None:
    clock, said = Clock(), list[str]()
    lines = LogLines(said.append, "Rows", None, clock=clock)
    lines.describe("Reading")
    clock.now = 40
    lines(10, 0)
    assert said == ["Reading: 10 rows"]


def test_the_last_row_needs_no_line() -> None:
    clock, said = Clock(), list[str]()
    lines = LogLines(said.append, "Encoding", 10, clock=clock)
    clock.now = 40
    lines(10, 100)
    assert not said
