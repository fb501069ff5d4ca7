"""`saefilter compare` and `filter --strategy` as they are typed, on the example's rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scored import write_scores
from typer.testing import CliRunner

from saefilter.cli import app, commands
from saefilter.errors import SaefilterError
from saefilter.rows.read import Source

commands()
EXAMPLES = Path(__file__).parents[2] / "examples"
LABELS = ["--labels", str(EXAMPLES / "advice.labels.csv"), "--label", "is_bad"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the example's rows and made-up scores of them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "advice.jsonl").write_bytes((EXAMPLES / "advice.jsonl").read_bytes())
    write_scores(Source.open("advice.jsonl"), tmp_path / "advice.scores.parquet")
    return tmp_path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_options_may_be_followed_by_several_values(folder: Path) -> None:
    said = run(
        "compare", "advice.scores.parquet", *LABELS, "--strategy", "closest", "random",
        "text-classifier", "labels", "--drop-frac", "0.05", "0.1", "0.25",
    )  # fmt: skip
    assert "4 strategies side by side on advice.jsonl" in said
    assert "Written to compare.html (.md, .json)" in said
    found = json.loads((folder / "compare.json").read_text())
    assert found["fractions"] == [0.05, 0.1, 0.25]
    assert (found["scored"], found["labelled"], found["bad"]) == (395, 395, 119)
    assert [arm["strategy"] for arm in found["arms"]] == [
        "closest", "random", "text-classifier", "labels"
    ]  # fmt: skip
    assert {at["dropped"] for arm in found["arms"] for at in arm["at"]} == {20, 40, 99}
    oracle = found["arms"][3]
    assert [at["precision"] for at in oracle["at"]] == [1, 1, 1]
    words = found["arms"][2]
    assert words["auroc"] > 0.7  # learnt from the bundled pairs
    assert "<!DOCTYPE html>" in (folder / "compare.html").read_text()
    assert (
        "| text\\-classifier" in (folder / "compare.md").read_text()
        or "text-classifier" in (folder / "compare.md").read_text()
    )


def test_the_last_scores_are_taken_and_the_output_is_named(folder: Path) -> None:
    run("compare", "-o", "side.html", "-q")
    assert sorted(path.name for path in folder.glob("side*")) == [
        "side.html", "side.json", "side.md"
    ]  # fmt: skip
    with pytest.raises(SaefilterError, match="exists already"):
        run("compare", "-o", "side")
    found = json.loads(run("compare", "--json", "-o", "side", "--overwrite"))
    assert [arm["name"] for arm in found["arms"]] == ["closest", "random"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.parquet"], "there is no scores file missing.parquet"),
        (["advice.scores.parquet", "advice.scores.parquet"], "named twice"),
        (["--drop-frac", "much"], "'much' is not a number"),
        (["--drop-frac", "10"], "between 0 and 1"),
        (["--strategy", "closest", "--contrast-toxic", "a"], "has use for --contrast-toxic"),
        (["--strategy", "closest", "--device", "cpu"], "has use for --device"),
        (["--model", "m"], "has use for --model"),
        (["--data", "advice.labels.csv", *LABELS], "there is no file"),
    ],
)
def test_mistakes_are_said(arguments: list[str], message: str) -> None:
    with pytest.raises(SaefilterError, match=message):
        run("compare", *arguments)


def test_filter_takes_a_strategy_with_its_options(folder: Path) -> None:
    said = run(
        "filter", "advice.jsonl", "--strategy", "text-classifier", "--drop-frac", "0.1",
        "--contrast-toxic", "advice.jsonl", "--contrast-benign", "advice.jsonl", "-o", "f.jsonl",
    )  # fmt: skip
    assert "first by text-classifier, probability of toxic from 0." in said
    lines = (folder / "f.dropped.jsonl").read_text().splitlines()
    assert all("saefilter_score" in json.loads(line) for line in lines)
    said = run(
        "filter", "advice.jsonl", "--strategy", "labels", *LABELS, "--drop-frac", "0.1",
        "-o", "g.jsonl",
    )  # fmt: skip
    assert "first by labels, label from 1.000" in said
    with pytest.raises(SaefilterError, match="--label does not go with --strategy closest"):
        run("filter", "advice.jsonl", "--drop-frac", "0.1", "--label", "is_bad", "-o", "h.jsonl")
    with pytest.raises(SaefilterError, match="the model m is not on this machine"):
        run("filter", "advice.jsonl", "--drop-frac", "0.1", "--strategy", "loss", "-o", "h.jsonl")
