"""What decisions do to a choice: these rows are out of the ranking, and the cut is over the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import chat
from decided import decisions_on
from scored import write_scores

from saefilter.artifacts.decisions import Decisions
from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.filtering.job import candidates_of
from saefilter.rows.read import Source
from saefilter.select.decided import choose_decided
from saefilter.select.ranking import Candidates
from saefilter.select.strategies import Choice, Selection

N_ROWS = 200
CLOSEST_FIRST = [i / N_ROWS for i in range(N_ROWS)]
KEEP, DROP = tuple(range(12)), tuple(range(100, 108))
Made = tuple[Scores, Candidates, Decisions]


@pytest.fixture
def made(jsonl: Callable[..., Path], tmp_path: Path) -> Made:
    """200 rows, the first the closest: the 12 closest are kept by decision, 8 in the middle dropped."""
    source = Source.open(jsonl([chat(f"q {i}", f"a {i}") for i in range(N_ROWS)]))
    scores = write_scores(source, tmp_path / "s.parquet", CLOSEST_FIRST)
    decisions = decisions_on(scores, tmp_path / "d.json", KEEP, DROP)
    return scores, candidates_of(source, scores), decisions


def dropped(choice: Choice) -> list[int]:
    return [int(i) for i in np.flatnonzero(choice.dropped)]


def test_a_share_is_of_the_rows_without_a_decision(made: Made) -> None:
    _, candidates, decisions = made
    choice = choose_decided(candidates, Selection(drop_frac=0.1), decisions)
    assert dropped(choice) == [*range(12, 30), *DROP]  # 18 of the other 180, and the 8
    assert choice.decided is not None
    about = choice.decided.about()
    assert (about["spared"], about["dropped"], about["near"], about["saved"]) == (12, 8, 12, 12)
    assert (about["undecided"], about["absent"]) == (180, 0)
    assert about["sha256"] == decisions.sha256
    order = choice.ranking.order.tolist()
    assert order[:9] == [*DROP, 12]
    assert order[-12:] == list(KEEP)
    reasons = choice.ranking.reasons_of(np.array([12, 100]))
    assert reasons == ["close to toxic features", "dropped in review: gives a dose"]


def test_counts_limits_and_other_strategies_are_over_the_others_too(made: Made) -> None:
    _, candidates, decisions = made

    def chosen(**asked: object) -> list[int]:
        return dropped(choose_decided(candidates, Selection(**asked), decisions))  # type: ignore[arg-type]

    assert chosen(drop_count=0) == list(DROP)
    assert chosen(drop_count=2) == [12, 13, *DROP]
    assert chosen(min_distance=0.07) == [12, 13, *DROP]
    drawn = chosen(drop_frac=0.5, strategy="random")
    assert len(drawn) == 90 + 8
    assert not set(drawn) & set(KEEP)
    by_chance = choose_decided(candidates, Selection(drop_frac=0.5, strategy="random"), decisions)
    assert by_chance.decided is not None
    assert (by_chance.decided.near, by_chance.decided.saved) == (0, 0)  # not for their distance
    with pytest.raises(SaefilterError, match="more than the 180 rows without a decision"):
        chosen(drop_count=181)


def test_of_a_cascade_decided_rows_may_be_any_of_those_it_sought(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    source = Source.open(jsonl([chat(f"q {i}", f"a {i}") for i in range(40)]))
    cascade = {"nearest": 10, "estimated": 20, "cut": 0.25}
    scores = write_scores(
        source, tmp_path / "s.parquet", [i / 40 for i in range(40)], cascade=cascade
    )
    candidates = candidates_of(source, scores)
    decisions = decisions_on(scores, tmp_path / "d.json", keep=(0, 1), drop=(2,))
    choice = choose_decided(candidates, Selection(drop_count=7), decisions)
    assert dropped(choice) == [2, *range(3, 10)]
    with pytest.raises(
        SaefilterError, match=r"of which 3 may have a decision.* Drop no more than 7"
    ):
        choose_decided(candidates, Selection(drop_count=8), decisions)


def test_decisions_on_rows_that_are_not_there_are_counted_and_on_other_data_refused(
    made: Made, tmp_path: Path
) -> None:
    scores, candidates, decisions = made
    path = tmp_path / "d.json"
    path.write_text(path.read_text().replace(decisions.decisions[0].row_hash, "0" * 16))
    choice = choose_decided(candidates, Selection(drop_count=0), Decisions.open(path))
    assert choice.decided is not None
    assert choice.decided.about()["absent"] == 1
    path.write_text(path.read_text().replace(scores.provenance.input_sha256, "0" * 64))
    with pytest.raises(SaefilterError, match=r"these decisions are on data\.jsonl"):
        choose_decided(candidates, Selection(drop_count=0), Decisions.open(path))
