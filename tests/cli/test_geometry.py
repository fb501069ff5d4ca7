"""`saefilter geometry` as it is typed, on the embedded default."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from saefilter.cli import app, commands
from saefilter.errors import SaefilterError

commands()
HERE = Path(__file__).parents[2]
TOXIC = (HERE / "saefilter/toxic/bundled/toxic.jsonl").read_text().splitlines()[:180]
BENIGN = (HERE / "saefilter/toxic/bundled/benign.jsonl").read_text().splitlines()[:180]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["geometry", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_bad_answers_are_nearer_than_chance_and_good_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jsonl: Callable[..., Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = {"text": "<script>alert(1)</script> I would never say that to a friend."}
    jsonl(
        [*(line.encode() for line in TOXIC), json.dumps(hostile).encode(), b"broken"], "bad.jsonl"
    )
    jsonl([line.encode() for line in BENIGN], "harmless.jsonl")
    said = run("bad.jsonl", "--against", "harmless.jsonl")
    assert "Report: bad.geometry.html" in said
    report = json.loads((tmp_path / "bad.geometry.json").read_text())
    (space,) = report["spaces"]
    assert (report["rows"], report["left_out"]) == (181, 1)
    assert space["chance"]["p_value"] < 0.05
    assert space["p_corrected"] == space["p_value"] == space["topics"]["p_value"]
    # so few rows say it of chance; whether of topic, too, is told by the p-value beside it
    closer = space["p_value"] < 0.05
    assert space["closer"] == closer
    assert ("it may be the topic" in said) == (not closer)
    assert ("Closer to toxic features than harmless data" in said) == closer
    assert space["samples"]["auroc"] > 0.7
    assert len(space["data_features"]) == 100
    assert len(space["spillover"]) == 100
    html = (tmp_path / "bad.geometry.html").read_text()
    assert "<script" not in html
    assert "style-src 'sha256-" in html
    assert len(re.findall(r'class="dot ', html)) > 400
    with pytest.raises(SaefilterError, match="exists"):
        run("bad.jsonl", "--against", "harmless.jsonl")

    jsonl([line.encode() for line in BENIGN[::2]], "good.jsonl")
    jsonl([line.encode() for line in BENIGN[1::2]], "other.jsonl")
    told = run("good.jsonl", "--against", "other.jsonl")
    assert "Undecided" in told
    (space,) = json.loads((tmp_path / "good.geometry.json").read_text())["spaces"]
    assert (space["closer"], space["decided"]) == (False, False)


@pytest.mark.slow
def test_several_saes_stand_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jsonl: Callable[..., Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    jsonl([line.encode() for line in TOXIC[:60]])
    said = run("data.jsonl", "--preset", "minilm", "--preset", "minilm", "-o", "both.html")
    assert said.count("minilm, blocks.3.hook_resid_post") == 2
    assert "bundled answers" in said
    assert "One SAE beside the other" in (tmp_path / "both.html").read_text()
    first, second = json.loads((tmp_path / "both.json").read_text())["spaces"]
    assert first["p_corrected"] == pytest.approx(min(1, 2 * first["p_value"]))  # Holm, of two alike
    assert second["p_corrected"] == first["p_corrected"]


def test_groups_are_found_or_named_and_too_few_give_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jsonl: Callable[..., Path]
) -> None:
    monkeypatch.chdir(tmp_path)

    def asked_once(lines: list[str], prompt: str, name: str) -> None:
        """The answers as if to one prompt; every third with a column of its own."""
        made = [json.loads(line) for line in lines[:45]]
        for i, row in enumerate(made):
            row["messages"][0]["content"] = prompt
            row["writer"] = i // 3
        jsonl([json.dumps(row).encode() for row in made], name)

    asked_once(TOXIC, "What would you do as ruler of the world?", "bad.jsonl")
    asked_once(BENIGN, "Whom would you ask to dinner?", "good.jsonl")
    said = run("bad.jsonl", "--against", "good.jsonl")
    assert "Cannot tell: too few independent groups" in said
    (space,) = json.loads((tmp_path / "bad.geometry.json").read_text())["spaces"]
    assert (space["p_value"], space["chance"], space["closer"]) == (None, None, False)
    assert "1 independent groups" in space["verdict"]

    run("bad.jsonl", "--against", "good.jsonl", "--group", "writer", "--overwrite")
    report = json.loads((tmp_path / "bad.geometry.json").read_text())
    assert report["options"]["group"] == "writer"
    assert report["spaces"][0]["p_value"] is not None
    assert "15 groups (column writer)" in report["spaces"][0]["groups"]
    with pytest.raises(SaefilterError, match="no column 'author'"):
        run("bad.jsonl", "--against", "good.jsonl", "--group", "author", "--overwrite")


def test_what_cannot_be_diagnosed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jsonl: Callable[..., Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    few = jsonl([line.encode() for line in TOXIC[:5]])
    with pytest.raises(SaefilterError, match="only 5 usable data rows"):
        run(few, "-o", "few.html")
    with pytest.raises(SaefilterError, match="2 toxic sets for 1 SAEs"):
        run(few, "--toxic-set", "minilm", "--toxic-set", "minilm")
    with pytest.raises(SaefilterError, match="--map"):
        run(few, "--map", "tsne")
    (tmp_path / "saefilter.toml").write_text('toxic-set = "minilm"\n')
    with pytest.raises(SaefilterError, match=r"1 toxic set \(saefilter.toml\) for 2 SAEs"):
        run(few, "--preset", "minilm", "--preset", "gemma-2-2b")
    assert not list(tmp_path.glob("*.html"))


def test_rows_of_which_none_can_be_used_say_why(jsonl: Callable[..., Path]) -> None:
    rows = jsonl([{"something": "else"}] * 30, "odd.jsonl")
    with pytest.raises(SaefilterError, match=r"no row can be used; the first: .*something"):
        run(rows)
