"""Filtering by decisions: rows spared and dropped by hash, and what files and reports say of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import chat
from decided import decisions_on
from scored import ROWS, write_scores

from saefilter.artifacts.decisions import Decisions
from saefilter.artifacts.provenance import METADATA_KEY
from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.filtering.filter import filter_file
from saefilter.filtering.folder import filter_folder
from saefilter.filtering.soft import SoftOptions
from saefilter.rows.inputs import open_input
from saefilter.rows.read import Source
from saefilter.select.strategies import Selection
from saefilter.verify.findings import Given
from saefilter.verify.verify import verify

CLOSEST_FIRST = [i / 40 for i in range(40)]
ASKED = Selection(drop_count=2)
Made = tuple[Source, Scores, Decisions]


@pytest.fixture
def made(jsonl: Callable[..., Path], tmp_path: Path) -> Made:
    """The closest row is kept by decision, the two farthest dropped."""
    source = Source.open(jsonl(ROWS))
    scores = write_scores(source, tmp_path / "data.scores.parquet", CLOSEST_FIRST)
    decisions = decisions_on(
        scores, tmp_path / "data.decisions.json", (0,), (38, 39), reviewer="<b>Ann</b>"
    )
    return source, scores, decisions


def test_dropped_rows_carry_the_reviewers_reason_and_all_of_it_is_on_record(
    made: Made, tmp_path: Path
) -> None:
    source, scores, decisions = made
    result = filter_file(
        source, scores, tmp_path / "out.parquet", ASKED, decisions=decisions, card=True
    )
    dropped = pq.read_table(tmp_path / "out.dropped.parquet")
    assert dropped["id"].to_pylist() == [1, 2, 38, 39]
    assert dropped["saefilter_reason"].to_pylist() == (
        ["close to toxic features"] * 2 + ["dropped in review by <b>Ann</b>: gives a dose"] * 2
    )
    assert 0 in pq.read_table(tmp_path / "out.parquet")["id"].to_pylist()
    record = {"spared": 1, "dropped": 2, "saved": 1, "undecided": 37, "sha256": decisions.sha256}
    report = json.loads((tmp_path / "out.report.json").read_text())
    metadata = json.loads(pq.read_metadata(tmp_path / "out.parquet").metadata[METADATA_KEY])
    for told in (report["decisions"], metadata["selection"]["decisions"]):
        assert {name: told[name] for name in record} == record
        assert told["file"] == "data.decisions.json"
    assert report["selection"]["threshold"] == pytest.approx(2 / 40)
    page = (tmp_path / "out.report.html").read_text()
    said = "2 rows dropped and 1 row kept by them; the cut is over the other 37 rows"
    for name in ("out.report.html", "out.report.md", "README.md"):
        assert said in (tmp_path / name).read_text(), name
    assert decisions.sha256 in page
    assert "<b>Ann" not in page
    assert "--decisions data.decisions.json" in (tmp_path / "README.md").read_text()
    assert "the 2 rows without a decision closest" in (tmp_path / "out.report.md").read_text()
    assert verify(tmp_path / "out.parquet", Given()).exit_code != 1
    assert result.report.counts["dropped"] == 4


def test_decisions_alone_drop_what_they_say_and_nothing_more(made: Made, tmp_path: Path) -> None:
    source, scores, decisions = made
    result = filter_file(
        source, scores, tmp_path / "out.jsonl", Selection(drop_count=0), decisions=decisions
    )
    assert "by them; the other 37 rows stay." in (tmp_path / "out.report.md").read_text()
    assert result.report.counts["dropped"] == 2
    assert "No scored row met" not in (tmp_path / "out.report.md").read_text()


@pytest.mark.parametrize(
    ("options", "column", "expected"),
    [
        (SoftOptions(written_as="labels"), "saefilter_label", ["keep", "drop", "drop", "keep"]),
        (SoftOptions(written_as="weights"), "weight", [1.0, 0.125, 0.375, 0.625]),
    ],
)
def test_soft_outputs_say_the_same(
    made: Made, tmp_path: Path, options: SoftOptions, column: str, expected: list[Any]
) -> None:
    source, scores, decisions = made
    filter_file(
        source, scores, tmp_path / "out.parquet", ASKED, decisions=decisions, options=options
    )
    values = pq.read_table(tmp_path / "out.parquet")[column].to_pylist()
    assert values[:4] == expected
    assert values[38] == ("drop" if column == "saefilter_label" else 0.0)


def test_what_decisions_do_not_go_with_is_refused_by_name(made: Made, tmp_path: Path) -> None:
    source, scores, decisions = made
    for options, said in (
        (SoftOptions(written_as="mask"), "--as mask leaves out parts"),
        (SoftOptions(preference="swap"), "--preference swap lets none go"),
    ):
        with pytest.raises(SaefilterError, match=said):
            filter_file(
                source,
                scores,
                tmp_path / "out.parquet",
                ASKED,
                decisions=decisions,
                options=options,
            )
    assert not list(tmp_path.glob("out*"))


def test_decisions_on_data_that_changed_are_refused_and_nothing_is_written(
    made: Made, jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    _, _, decisions = made
    changed = Source.open(jsonl([*ROWS, chat("one", "more")], "changed.jsonl"))
    scores = write_scores(changed, tmp_path / "changed.scores.parquet")
    with pytest.raises(
        SaefilterError, match=r"these decisions are on data\.jsonl .* saefilter review"
    ):
        filter_file(changed, scores, tmp_path / "out.parquet", ASKED, decisions=decisions)
    assert not list(tmp_path.glob("out*"))


def test_equal_rows_of_a_folder_share_a_decision(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("a", "b"):
        lines = [json.dumps(chat(f"q {i}", f"a {i}")) for i in range(10)]
        (data / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    source = open_input(str(data))
    scores = write_scores(source, tmp_path / "data.scores.parquet", [i / 20 for i in range(20)])
    decisions = decisions_on(scores, tmp_path / "d.json", keep=(0,), drop=(9,))
    filter_folder(source, scores, tmp_path / "out", Selection(drop_count=1), decisions=decisions)
    gone = {
        name: [
            json.loads(line)["messages"][0]["content"]
            for line in (tmp_path / "out" / f"{name}.dropped.jsonl").read_text().splitlines()
        ]
        for name in ("a", "b")
    }
    assert gone == {"a": ["q 1", "q 9"], "b": ["q 9"]}
