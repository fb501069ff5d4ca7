"""The Python API on each kind of data, with the real model."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from conftest import chat
from datasets import Dataset
from decided import decisions_on
from pandas.testing import assert_frame_equal
from polars.testing import assert_frame_equal as assert_polars_equal

import saefilter
from saefilter import RowScorer, SaefilterError, Scores, ScoreSettings

INSULT = "You people are worthless vermin and should all be driven out and killed."
ROWS = [
    *(chat(f"Question {i}?", "Boil the egg for eight minutes.") for i in range(8)),
    chat("And them?", INSULT),
    {"messages": [{"role": "user", "content": "no answer"}]},
]


@pytest.fixture(scope="module")
def scorer() -> RowScorer:
    return RowScorer.load(ScoreSettings("minilm", device="cpu"))


def test_a_dataset_stays_a_dataset(scorer: RowScorer) -> None:
    dataset = Dataset.from_list(ROWS)
    scores = saefilter.score(dataset, scorer=scorer)
    result = saefilter.filter(dataset, scores, drop_count=1)
    assert isinstance(result.kept, Dataset)
    assert result.kept.features == dataset.features
    assert result.kept.to_list() == ROWS[:8]
    assert result.dropped["messages"][0][1]["content"] == INSULT
    assert list(result.quarantined) == [9]
    assert (result.kept_ids, result.dropped_ids) == (list(range(8)), [8])
    # a view of it is other data: shuffled rows, and a part
    shuffled = dataset.shuffle(seed=1)
    with pytest.raises(SaefilterError, match="is not the data"):
        saefilter.filter(shuffled, scores, drop_count=1)
    again = saefilter.filter(shuffled, drop_count=1, scorer=scorer)
    assert again.dropped["messages"][0][1]["content"] == INSULT


def test_tables_dicts_and_files_give_the_same_scores(scorer: RowScorer, tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    distances = [
        saefilter.score(data, scorer=scorer).read(["distance"])["distance"].to_pylist()
        for data in (ROWS, iter(ROWS), table, Dataset.from_list(ROWS))
    ]
    for other in distances[1:]:
        assert other[:9] == pytest.approx(distances[0][:9], abs=1e-5)
    taken = saefilter.filter(table, drop_frac=0.1, scorer=scorer)
    assert isinstance(taken.kept, pa.Table)
    assert taken.kept.schema == table.schema
    assert taken.kept.equals(table.slice(0, 8))
    listed = saefilter.filter(ROWS, drop_frac=0.1, scorer=scorer, output=tmp_path / "f.jsonl")
    assert listed.dropped == [ROWS[8]]
    assert len((tmp_path / "f.jsonl").read_text().splitlines()) == 8


def test_frames_stay_frames(scorer: RowScorer, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame(ROWS, index=[f"r{i}" for i in range(10)]).assign(
        lang=pd.Categorical(["en", "de"] * 5)
    )
    result = saefilter.filter(frame, drop_count=1, scorer=scorer)
    assert_frame_equal(result.kept, frame.iloc[:8])
    assert_frame_equal(result.dropped, frame.iloc[8:9])
    assert list(result.quarantined) == [9]
    assert INSULT in (result._repr_html_() or "")
    assert INSULT in (result.scores._repr_html_() or "")
    assert capsys.readouterr().err == ""  # no bar unless this is a notebook, or it is asked for

    polars = pl.DataFrame(ROWS, schema={"messages": MESSAGES})
    taken = saefilter.filter(polars, drop_count=1, scorer=scorer, progress=True)
    assert "Scoring: 100%" in capsys.readouterr().err
    assert_polars_equal(taken.kept, polars[:8])
    assert_polars_equal(taken.dropped, polars[8:9])
    # what scores are of is rows, however a frame holds them
    parts = pl.concat([polars[:3], polars[3:]], rechunk=False)
    assert saefilter.check(parts, taken.scores, max_flagged="50%").passed


MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))


def test_scores_without_a_name_live_as_long_as_the_result(
    scorer: RowScorer, tmp_path: Path
) -> None:
    scores = saefilter.score(ROWS, scorer=scorer)
    path = scores.path
    assert path.exists()
    del scores
    gc.collect()
    assert not path.exists()
    kept = saefilter.score(ROWS, scorer=scorer, output=tmp_path / "s.parquet")
    assert kept.provenance == Scores.open(tmp_path / "s.parquet").provenance
    with pytest.raises(SaefilterError, match="exists already"):
        saefilter.score(ROWS, scorer=scorer, output=tmp_path / "s.parquet")


@pytest.mark.parametrize(
    "data", [ROWS, pd.DataFrame(ROWS), pa.Table.from_pylist(ROWS)], ids=["dicts", "pandas", "arrow"]
)
def test_an_error_on_data_in_memory_names_no_file_that_has_gone(
    scorer: RowScorer, data: Any
) -> None:
    settings = ScoreSettings("minilm", device="cpu", on_bad_row="error")
    with pytest.raises(SaefilterError, match=r"^the data:10: ") as caught:
        saefilter.score(data, settings=settings)
    assert str(caught.value) == caught.value.args[0]
    assert "saefilter-" not in str(caught.value)


@pytest.mark.parametrize("data", [ROWS, pd.DataFrame(ROWS)], ids=["dicts", "pandas"])
def test_an_error_on_earlier_data_in_memory_names_no_file_either(
    scorer: RowScorer, data: Any, tmp_path: Path
) -> None:
    scores = saefilter.score(data, scorer=scorer)
    with pytest.raises(SaefilterError, match=r"^the data is not the data that the scores ") as told:
        saefilter.filter(ROWS[:5], scores, drop_count=1)
    assert str(told.value).endswith("Score it again: saefilter.score(data)")
    decisions_on(scores, tmp_path / "d.json", drop=(2,))
    other = saefilter.score(ROWS[:5], scorer=scorer)
    with pytest.raises(SaefilterError, match=r", and the data is not the same"):
        saefilter.filter(ROWS[:5], other, decisions=tmp_path / "d.json")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"overwrite": True}, "overwrite has no effect without output"),
        ({"by": ["source"]}, "by has no effect without output"),
        ({"output": "kept.jsonl", "report_rows": -1}, "report_rows is -1, and 0 shows none"),
    ],
)
def test_what_filter_would_pass_over_is_refused(
    scorer: RowScorer, asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(SaefilterError, match=said):
        saefilter.filter(ROWS, scorer=scorer, drop_count=1, **asked)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"decisions": "misspelt.json"}, "there is no decisions file misspelt.json"),
        ({"drop_count": 1, "output": "{}"}, "exists already"),
    ],
)
def test_a_file_that_is_in_the_way_or_not_there_shows_before_anything_is_scored(
    scorer: RowScorer, tmp_path: Path, asked: dict[str, Any], said: str
) -> None:
    there = tmp_path / "kept.jsonl"
    there.write_text("")
    asked = {name: there if one == "{}" else one for name, one in asked.items()}
    with pytest.raises(SaefilterError, match=said):
        saefilter.filter([{"no": "text"}], scorer=scorer, **asked)


def test_decisions_hold_as_on_the_command_line(
    scorer: RowScorer, jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    data = jsonl(ROWS)
    scores = saefilter.score(data, scorer=scorer)
    made = decisions_on(scores, tmp_path / "d.json", keep=(8,), drop=(2,))
    alone = saefilter.filter(data, scores, decisions=tmp_path / "d.json")
    assert alone.dropped_ids == [2]
    output = tmp_path / "kept.jsonl"
    result = saefilter.filter(
        data, scores, decisions=tmp_path / "d.json", drop_count=1, output=output, report_rows=0
    )
    assert len(result.dropped_ids) == 2
    assert (2 in result.dropped_ids, 8 in result.dropped_ids) == (True, False)
    report = json.loads((tmp_path / "kept.report.json").read_text())
    assert report["decisions"]["sha256"] == made.sha256
    assert len(output.read_text().splitlines()) == len(result.kept_ids) == 7


def test_check_gives_a_verdict(scorer: RowScorer) -> None:
    verdict = saefilter.check(ROWS, max_flagged="5%", max_quarantined=0.1, scorer=scorer)
    assert [(rule.rule, rule.passed) for rule in verdict.rules] == [
        ("max-flagged", False), ("max-quarantined", True),
    ]  # fmt: skip
    assert verdict.rules[0].rows[0].row_id == 8
    assert saefilter.check(ROWS[:8], max_flagged="5%", scorer=scorer).passed


@pytest.mark.parametrize("data", [3, {"messages": []}, None, [1, 2], [{"a": {1, 2}}]])
def test_what_is_no_dataset_is_refused(scorer: RowScorer, data: Any) -> None:
    with pytest.raises(SaefilterError):
        saefilter.score(data, scorer=scorer)


def test_importing_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, saefilter; saefilter.score\n"
        "assert not {'torch', 'transformers', 'sae_lens', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(saefilter.__all__) <= set(dir(saefilter))
    with pytest.raises(AttributeError):
        saefilter.nonsense  # noqa: B018


def test_what_makes_no_sense_is_refused_by_name(scorer: RowScorer) -> None:
    rows = [{"text": "a b c"}]
    settings: Any = {"preset": "minilm"}
    with pytest.raises(SaefilterError, match="settings is a dict"):
        saefilter.score(rows, settings=settings)
    with pytest.raises(SaefilterError, match="no effect without output"):
        saefilter.score(rows, scorer=scorer, overwrite=True)
    share: Any = "0.1"
    with pytest.raises(SaefilterError, match=r"--drop-frac '0.1' is not a number"):
        saefilter.filter(rows, scorer=scorer, drop_frac=share)


def test_a_transform_is_not_passed_over(scorer: RowScorer) -> None:
    asked = Dataset.from_list([{"q": "a"}, {"q": "b"}])
    changed = asked.with_transform(lambda some: {"text": [f"{q}, all right?" for q in some["q"]]})
    with pytest.raises(SaefilterError, match=r"has a transform, .* Make its rows first"):
        saefilter.score(changed, scorer=scorer)
    made = saefilter.score(Dataset.from_list(list(changed)), scorer=scorer)
    assert made.read(["reason"]).to_pylist() == [{"reason": None}] * 2
