"""The commands that read and change toxic sets, as they are typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import chat
from typer.testing import CliRunner, Result

from saefilter.cli import app, commands
from saefilter.errors import SaefilterError
from saefilter.toxic.load import load_toxic_set

commands()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["features", *map(str, arguments)], catch_exceptions=False)


def ran(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The shipped set with one feature removed."""
    path = tmp_path / "mine.json"
    first = load_toxic_set("minilm").features[0].index
    said = ran("remove", "minilm", first, "--reason", "a topic", "-o", path)
    assert "features calibrate" in said
    return path


def test_sets_are_listed_shown_and_searched(copy: Path) -> None:
    assert "minilm" in ran("list")
    assert json.loads(ran("list", "--json"))[0]["reference"] == "minilm"
    shown = ran("show", copy, "--limit", 3)
    assert "toxic side" in shown
    assert "removed" in shown
    assert "a topic" in shown
    word = load_toxic_set("minilm").features[3].label.split(",")[0]
    assert word in ran("search", "minilm", word)
    found = json.loads(ran("search", "minilm", word, "--json"))
    assert all(word in json.dumps(one).lower() for one in found["features"])
    assert "Nothing found" in ran("search", "minilm", "xyzzy")


def test_a_shipped_set_is_not_changed_in_place_and_an_edited_one_is(copy: Path) -> None:
    index = load_toxic_set(str(copy)).features[0].index
    with pytest.raises(SaefilterError, match="not changed in place"):
        run("reweight", "minilm", index, 1, "--reason", "x")
    ran("reweight", copy, index, 0.25, "--reason", "too loud")
    changed = load_toxic_set(str(copy))
    assert changed.features[0].weight == 0.25
    assert len(changed.history) == 2
    with pytest.raises(SaefilterError, match="exists"):
        run("remove", "minilm", index, "--reason", "x", "-o", copy)


def test_themes_are_shown_and_named(copy: Path) -> None:
    themes = load_toxic_set(str(copy)).themes
    assert themes is not None
    shown = " ".join(ran("show", copy).split())
    assert all(theme.name in shown for theme in themes.themes)
    assert themes.measured_on in shown
    ran("name", copy, 2, "a name of mine", "--reason", "read its examples")
    changed = load_toxic_set(str(copy))
    assert changed.themes is not None
    assert (changed.themes.themes[1].name, changed.themes.themes[1].by_hand) == (
        "a name of mine",
        True,
    )
    assert "read its examples" in changed.history[-1]
    assert changed.calibration == load_toxic_set(str(copy)).calibration
    with pytest.raises(SaefilterError, match="no theme 99"):
        run("name", copy, 99, "x")


def test_difference_and_merge(copy: Path, tmp_path: Path) -> None:
    told = json.loads(ran("diff", "minilm", copy, "--json"))
    assert len(told["only_first"]) == 1
    assert "only in minilm: 1" in ran("diff", "minilm", copy)
    ran("merge", "minilm", copy, "-o", tmp_path / "both.json")
    assert json.loads(ran("diff", "minilm", tmp_path / "both.json", "--json"))["only_first"] == []


def test_neighbours_are_those_of_brute_force() -> None:
    from saefilter.encode.sae import load_sae
    from saefilter.encode.sae_source import find_sae

    directions = load_sae(find_sae("shipped:minilm_sae")).directions()
    cosines = directions @ directions[40]
    cosines[40] = -1
    told = json.loads(ran("neighbours", 40, "--count", 5, "--json"))
    assert [one["feature"] for one in told] == cosines.argsort()[::-1][:5].tolist()
    assert told[0]["cosine"] == pytest.approx(float(cosines.max()), abs=1e-5)
    assert "cosine" in ran("neighbours", 40)
    with pytest.raises(SaefilterError, match="outside"):
        run("neighbours", 99999)


def test_calibration_on_own_rows(copy: Path, jsonl: Callable[..., Path]) -> None:
    rows = [chat(f"How do I cook {i} eggs?", f"Boil {i} eggs for ten minutes.") for i in range(30)]
    assert load_toxic_set(str(copy)).calibration is None
    assert "of what adds to" not in ran("show", copy)
    ran("calibrate", copy, "--benign", jsonl(rows), "--quiet")
    found = load_toxic_set(str(copy))
    assert found.calibration is not None
    assert found.calibration.rows == 30
    assert "contrast/mean" in found.calibration.quantiles
    assert found.history[-1].endswith("calibrated on 30 rows: data.jsonl")
    assert found.calibration.own_share is not None
    assert 0.5 < found.calibration.own_share < 1
    assert "On 30 harmless reference rows: 9" in ran("show", copy)
    index = found.features[0].index
    ran("reweight", copy, index, 0.25, "--reason", "too loud")
    assert "of what adds to" not in ran("show", copy)  # it no longer holds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["curate", "-o", "x.json", "--label", "bad"], "no effect without --data"),
        (["curate", "-o", "x.json", "--threshold", "0.3"], "no effect without --data"),
        (["curate", "-o", "x.json", "--group", "topic"], "no effect without data of your own"),
        (["curate", "-o", "x.json", "--penalty", "nan", "0"], "--penalty nan 0 is no penalty"),
        (["add", "s.json", "3", "--reason", "r", "--overwrite"], "no effect without -o"),
        (["steer", "s.json", "--overwrite"], "no effect without -o"),
        (["steer", "s.json", "--feature", "3", "--top", "5"], "--top has no effect"),
    ],
    ids=" ".join,
)
def test_what_has_no_effect_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(SaefilterError, match=message):
        run(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["curate", "-o", "x.json"],
        ["calibrate", "s.json", "--benign", "data.jsonl"],
        ["steer", "s.json"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_the_projects_placement_holds_wherever_a_model_is_read(
    arguments: list[str], copy: Path, jsonl: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(jsonl([chat("q", "a")]).parent)
    copy.rename("s.json")
    Path("saefilter.toml").write_text('quantize = "8bit"\n')
    with pytest.raises(SaefilterError, match="--quantize"):
        run(*arguments)
