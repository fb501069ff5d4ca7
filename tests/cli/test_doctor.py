"""`doctor`: whether a preset will work, and what rows will take."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import chat
from typer.testing import CliRunner

from saefilter.cli import app, commands
from saefilter.errors import SaefilterError

commands()


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(
        app, ["doctor", *map(str, arguments)], catch_exceptions=False, env={"COLUMNS": "200"}
    )
    assert result.exit_code == code, result.output
    return result.stdout


def figures(*arguments: object, code: int = 0) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in json.loads(run(*arguments, "--json", code=code))["plan"]}


def test_doctor_says_what_is_missing() -> None:
    checks = {
        check["name"]: check
        for check in json.loads(run("--preset", "qwen3-8b", "--json", code=2))["checks"]
    }
    assert checks["SAE"]["status"] == "ok"
    assert checks["model"]["status"] == "fail"
    assert "not on this machine" in checks["model"]["says"]


def test_rows_of_the_data_are_tried_and_without_a_trial_it_is_arithmetic(
    jsonl: Callable[..., Path],
) -> None:
    data = jsonl([chat("Hello?", "Good day.")] * 3)
    said = run(data)
    assert "3 rows, about" in said
    assert "(measured: 3 of its rows, scored on this machine's cpu" in said
    assert "memory" in said
    assert said.endswith("Ready.\n")
    plan = figures(data, "--no-trial", "--rows", "2M")
    assert plan["rows"]["rows"] == 2_000_000
    assert plan["rows"]["rests_on"] == "tokens counted in all 3 rows"
    assert "matrix products timed" in plan["time"]["rests_on"]
    assert "memory" not in plan


def test_other_machines_are_planned_for_without_the_model() -> None:
    asked = ("--preset", "llama-3.1-8b", "--rows", "10M", "--gpus", "8xH100")
    plan = figures(*asked)
    assert list(plan) == ["rows", "time", "storage", "shards", "toxic set", "parts", "memory"]
    assert plan["time"]["gpu_hours"] == pytest.approx(8 * plan["time"]["seconds"] / 3600, rel=0.01)
    assert plan["memory"]["fits"]
    assert all(figure["rests_on"] for figure in plan.values())
    said = run(*asked)
    assert "Plan on 8 x H100:" in said
    assert f"--part 1/{plan['parts']['parts']} to" in said
    longer = (*asked, "--tokens-per-row", 3000)
    cut = figures(*longer)  # at the 1024 tokens where scoring cuts rows
    assert cut["rows"]["tokens"] == 1024 * 10_000_000
    assert cut["rows"]["rests_on"] == "3000 tokens a row, as given, cut at --max-tokens 1024"
    whole = figures(*longer, "--max-tokens", 4096)
    assert whole["rows"]["tokens"] == 3000 * 10_000_000


def test_what_does_not_fit_is_said_and_is_no_success() -> None:
    asked = ("--preset", "llama-3.3-70b-instruct", "--rows", "1M", "--gpus", "2xL4")
    assert not figures(*asked, code=2)["memory"]["fits"]
    assert run(*asked, code=2).endswith("It will not work as it is.\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--gpus", "8xH100"], "of how many rows is not said"),
        (["--rows", "lots"], "is not a number of rows"),
        (["--rows", "1M", "--gpus", "8xH9"], "no card 'H9' is known"),
        (["data.jsonl", "--tokens-per-row", "9"], "--tokens-per-row has no effect with data"),
        (["--preset", "qwen3.5-9b", "--rows", "1M", "--gpus", "L4"], "cannot be known"),
    ],
)
def test_what_cannot_be_planned_is_refused(arguments: list[str], says: str) -> None:
    refused = CliRunner().invoke(app, ["doctor", *arguments]).exception
    assert isinstance(refused, SaefilterError)
    assert says in str(refused)
