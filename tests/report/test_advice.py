"""What to do first: for each state of a report one answer, with the counts that it rests on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from example import HOSTILE, empty_report, example_report, sample
from test_html import Page

from saefilter.report.advice import advice
from saefilter.report.html import to_html

CLOSEST = example_report().selection
COUNTS = example_report().counts


def counted(dropped: int, flagged: dict[str, int], **changes: Any) -> list[str]:
    """What is said of 1,988 scored rows of which so many were dropped."""
    counts = {**COUNTS, "dropped": dropped, "kept": 1988 - dropped}
    told = advice(example_report(counts=counts, flagged=flagged, **changes))
    return [f"{one.do}: {one.why}" for one in told]


@pytest.mark.parametrize(
    ("dropped", "flagged", "do", "why"),
    [
        (200, {"95": 412, "99": 167}, "Raise the cut", "about 313 more, but only 200 were dropped"),
        (300, {"95": 412, "99": 167}, "Keep the cut", "99 would be by chance: about 313 more"),
        (1000, {"95": 412, "99": 167}, "Lower the cut", "1,000 were dropped: the others are no"),
        (200, {"95": 120, "99": 25}, "Read what was dropped", "not clearly more"),
        (0, {"95": 120, "99": 25}, "Keep all rows", "What these features do not show is not seen"),
    ],
)
def test_the_counts_decide(dropped: int, flagged: dict[str, int], do: str, why: str) -> None:
    (said,) = counted(dropped, flagged)
    assert said.startswith(do)
    assert why in said


def test_as_many_as_expected_in_small_data_or_few_reference_rows_is_not_clear() -> None:
    assert counted(20, {"95": 160}, reference_rows=5000)[0].startswith("Raise")
    # of 300 harmless rows the 15 closest may by chance lie far away, so more would be needed
    assert counted(20, {"95": 160}, reference_rows=300)[0].startswith("Read what was dropped")
    (said,) = counted(20, {"95": 900}, reference_rows=50)
    assert "Only 50 harmless rows" in said


def test_a_few_rows_are_never_clearly_more() -> None:
    """One of five harmless rows is beyond 99 % in one report of twenty."""
    counts = {**COUNTS, "rows": 5, "dropped": 1, "kept": 4, "quarantined": 0}
    (one,) = advice(example_report(counts=counts, flagged={"95": 1, "99": 1}))
    assert one.do == "Read what was dropped before you leave it out"
    assert "There is 1 row closer" in one.why
    assert "that the row is worse" in one.why
    near = {"rows": 10, "dropped": 9, "kept": 1}
    (all_near,) = advice(example_report(counts={**counts, **near}, flagged={"95": 10, "99": 10}))
    assert all_near.do == "Keep the cut, and read its last rows"


def test_where_counts_say_nothing_it_is_not_about_them() -> None:
    def first(**changes: Any) -> str:
        told = advice(example_report(**changes))[0]
        return f"{told.do}: {told.why}"

    scoring = {**example_report().scoring, "unlike": ["longer than they are"]}
    assert first(scoring=scoring).startswith("Name good rows like yours to compare with")
    assert "There are no harmless rows" in first(reference_rows=0)
    unread = {**COUNTS, "estimated": 1000}
    assert "The model read only" in first(counts=unread, reference_rows=0)
    assert first(selection={**CLOSEST, "strategy": "random"}).startswith("Use this only to compare")
    chosen = {**CLOSEST, "strategy": "labels", "score_name": "label"}
    assert "The strategy labels chose them" in first(selection=chosen)
    told = {"file": "d", "decisions": 20, "saved": 7, "undecided": 1968, "spared": 9, "dropped": 11}
    assert "7 were spared by decision" in first(decisions=told)
    assert "By 20 decisions nothing was spared" in first(decisions={**told, "saved": 0})
    few = {**told, "decisions": 1, "saved": 0, "spared": 0, "dropped": 1}
    assert "Of those that go only 1 had a decision" in first(decisions=few)
    assert "Of those that go none had a decision" in first(decisions={**few, "dropped": 0})
    assert advice(empty_report()) == []


def test_rows_that_cannot_be_scored_come_first_where_they_are_most() -> None:
    reasons = {"not JSON": 90, HOSTILE: 1500}
    some = replace(example_report(), counts={**COUNTS, "quarantined": 400, "kept": 1400})
    most = replace(some, counts={**COUNTS, "quarantined": 1590, "kept": 210})
    assert [one.do for one in advice(some)] == ["Raise the cut", "Mend the input"]
    page = Page(to_html(replace(most, quarantine_reasons=reasons)))
    assert "What to do first: Mend the input" in page.texts["h2"]
    assert any("1,590 of the 2,000 rows could not be scored" in text for text in page.texts["p"])
    none = replace(most, counts={**COUNTS, "quarantined": 2000, "kept": 0, "dropped": 0})
    assert [one.do for one in advice(none)] == ["Mend the input"]


def test_rows_close_for_no_reason_ask_for_a_set_of_ones_own() -> None:
    (usual, *_) = sample(0).features
    weak = [replace(usual, share=0.05)]
    told = advice(example_report(dropped=[sample(i, features=weak) for i in range(12)]))
    assert told[1].do == "Make a toxic set of your own"
    assert "In 12 of the 12 rows shown" in told[1].why
    assert len(advice(example_report())) == 1
