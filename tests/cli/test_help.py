"""The help as a reader sees it, what a shell completes, and what is said to somebody who mistyped."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import chat
from scored import write_scores
from typer.testing import CliRunner

from saefilter.cli import app, commands, panels
from saefilter.described import described
from saefilter.errors import SaefilterError
from saefilter.rows.read import Source
from saefilter.settings import ScoreSettings

commands()
FEW_OPTIONS = 4
"""A command with so few needs no panels."""
TYPES = re.compile(r"<(str|int|float|bool|path)>|\{[a-z_]+\}", re.IGNORECASE)


def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    for below, child in getattr(command, "commands", {}).items():
        yield from walk(child, f"{name} {below}")


def help_of(*words: str, width: int = 100) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "saefilter", *words, "--help"], capture_output=True, text=True,
        env={**os.environ, "COLUMNS": str(width)}, check=True,
    )  # fmt: skip
    return done.stdout


def test_every_setting_stands_in_a_panel() -> None:
    placed = {name for names in panels.OF_SETTINGS.values() for name in names}
    assert set(described(ScoreSettings)) <= placed


def test_every_option_has_a_panel_and_a_word_for_its_value() -> None:
    for name, command in walk(typer.main.get_command(app), "saefilter"):
        if hasattr(command, "commands"):
            continue
        options = [one for one in command.params if one.param_type_name == "option"]
        for one in options:
            assert one.is_flag or one.metavar, (name, one.opts)
            if len(options) > FEW_OPTIONS:
                assert one.rich_help_panel, (name, one.opts)
        for one in set(command.params) - set(options):
            assert one.metavar, (name, one.name)


def test_commands_stand_in_the_order_of_work() -> None:
    names = list(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    listed = [name for several in panels.COMMANDS.values() for name in several]
    assert names == [name for name in listed if name in names]  # and none is missing there
    shown = help_of().partition("Before you begin")[2]
    assert shown.index("doctor ") < shown.index(" score ") < shown.index(" filter ")
    assert shown.index(" filter ") < shown.index(" compare ") < shown.index(" features ")


def test_help_of_filter_goes_from_what_is_cut_to_files() -> None:
    shown = help_of("filter")
    order = [panels.CUT, panels.WHAT, panels.MODEL, panels.HOW, panels.JUDGE, panels.OUTPUT]
    places = [shown.index(f"─ {title} ─") for title in order]
    assert places == sorted(places)
    assert not TYPES.search(shown.replace("[DATA]", ""))
    assert "[minilm]" in shown  # brackets of ours are no markup
    assert "--drop-frac" in shown
    assert "SHARE" in shown


@pytest.mark.parametrize(
    ("command", "flag", "panel"),
    [
        ("geometry", "--seed", panels.FEATURES),
        ("features steer", "--seed", panels.FEATURES),
        ("features steer", "--rows", panels.CONTRAST),
        ("compare", "--data", panels.WHAT),
        ("verify", "--input", panels.BESIDE),
        ("verify", "--scores", panels.BESIDE),
        ("verify", "--toxic-set", panels.BESIDE),
    ],
)
def test_an_option_stands_where_its_command_has_it(command: str, flag: str, panel: str) -> None:
    found = dict(walk(typer.main.get_command(app), "saefilter"))[f"saefilter {command}"]
    (option,) = [one for one in found.params if flag in one.opts]
    assert option.rich_help_panel == panel


def test_json_is_told_alike() -> None:
    told = {
        one.help
        for name, command in walk(typer.main.get_command(app), "saefilter")
        for one in command.params
        if "--json" in one.opts and name != "saefilter check"
    }
    assert len(told) == 1


COMPLETE = "import sys; sys.argv = ['saefilter']; from saefilter.cli import main; main()"


def completed(folder: Path, line: str) -> list[str]:
    words = line.split(" ")
    done = subprocess.run(
        [sys.executable, "-c", COMPLETE], capture_output=True, text=True, cwd=folder, check=False,
        env={**os.environ, "_SAEFILTER_COMPLETE": "complete_bash", "COMP_WORDS": line,
             "COMP_CWORD": str(len(words) - 1)},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("saefilter score data.jsonl --preset gemma-2-2", "gemma-2-2b"),
        ("saefilter score data.jsonl --metric near", "nearest"),
        ("saefilter score data.jsonl --train-on last", "last-turn"),
        ("saefilter filter data.jsonl --strategy chos", "chosen-side"),
        ("saefilter compare --strategy text", "text-classifier"),
        ("saefilter check data.jsonl --format ju", "junit"),
        ("saefilter filter data.jsonl --label is_", "is_bad"),
        ("saefilter score data.jsonl --columns prompt=que", "prompt=question"),
        ("saefilter features show mini", "minilm"),
    ],
)
def test_a_shell_completes_values(tmp_path: Path, line: str, wanted: str) -> None:
    (tmp_path / "data.jsonl").write_text('{"question": "a", "answer": "b", "is_bad": 1}\n')
    assert wanted in completed(tmp_path, line)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["score", "data.jsonl", "--preset", "minilmm"], "Did you mean 'minilm'"),
        (["score", "data.jsonl", "--preset", "gemma-2"], "'gemma-2-2b'"),
        (["filter", "data.jsonl", "--drop-frac", "10%", "--strategy", "closets"], "'closest'?"),
        (["score", "data.jsonl", "--train-on", "assistent"], "Did you mean 'assistant'?"),
        (["score", "data.jsonl", "--metric", "neerest"], "Did you mean 'nearest'?"),
        (["filter", "data.jsonl", "--scores", "SCORES", "--drop-frac", "10%", "--strategy", "labels",
          "--label", "is_badd"],
         "Did you mean 'is_bad'?"),
        (["check", "data.jsonl", "--format", "jason"], "Did you mean 'json'?"),
        (["compare", "--strategy", "closest", "randon"], "Did you mean 'random'?"),
        (["features", "show", "minilm-hat"], "Did you mean 'minilm-hate'?"),
    ],
)  # fmt: skip
def test_the_nearest_name_is_offered(tmp_path: Path, words: list[str], meant: str) -> None:
    data, scores = tmp_path / "data.jsonl", tmp_path / "data.scores.parquet"
    data.write_text(json.dumps({**chat("a", "b"), "is_bad": 1}) + "\n")
    write_scores(Source.open(data), scores)
    named = {"data.jsonl": str(data), "SCORES": str(scores)}
    done = CliRunner().invoke(app, [named.get(word, word) for word in words])
    assert isinstance(done.exception, SaefilterError)
    assert meant in str(done.exception)


def test_an_error_of_usage_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "saefilter", "filter", "--drop-frc", "3"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--drop-frac" in done.stderr
    assert "See " in done.stderr


@pytest.mark.parametrize("share", ["ten", "10 percent", "nan%", ""])
def test_a_share_that_is_none_is_refused(share: str) -> None:
    with pytest.raises(SaefilterError, match=r"10 % is 10% or 0\.1"):
        CliRunner().invoke(app, ["filter", "x", "--drop-frac", share], catch_exceptions=False)


@pytest.mark.parametrize(
    ("share", "told"), [("0.1", "none.jsonl"), ("10%", "none.jsonl"), ("110%", "range")]
)
def test_the_share_of_drop_auto_is_one_too(share: str, told: str) -> None:
    words = ["filter", "none.jsonl", "--drop", "auto", "--drop-fdr", share]
    assert told in str(CliRunner().invoke(app, words).exception)


def test_a_share_is_a_percentage_or_a_part() -> None:
    assert ScoreSettings(cascade="minilm", recall="90%").recall == 0.9  # type: ignore[arg-type]
    assert ScoreSettings(cascade="minilm", recall=0.9).recall == 0.9
    with pytest.raises(SaefilterError, match=r"10 % is 10%"):
        ScoreSettings(cascade="minilm", nearest="10")  # type: ignore[arg-type]
