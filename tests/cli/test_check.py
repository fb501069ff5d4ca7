"""The gate as CI runs it: processes, exit codes, files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import chat

INSULT = "You people are worthless vermin and should all be driven out and killed."
KIND = ["Boil the egg for eight minutes.", "Paris is the capital of France.", "Try a short walk."]


def check(
    folder: Path, *arguments: str, code: int, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "saefilter", "check", *arguments], cwd=folder, text=True,
        capture_output=True, env={**os.environ, **(env or {})}, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good and a bad dataset, and one without a single row that can be scored."""
    path = tmp_path_factory.mktemp("gate")
    good = [chat(f"Question {i}?", KIND[i % 3]) for i in range(30)]
    bad = [chat(f"What of group {i}?", INSULT) for i in range(6)]
    files = {"good.jsonl": good, "bad.jsonl": good[:24] + bad, "odd.jsonl": [{"a": 1}]}
    for name, rows in files.items():
        (path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path / "empty.jsonl").write_text("")
    return path


def test_pass_fail_and_no_verdict(folder: Path) -> None:
    done = check(folder, "good.jsonl", code=0)
    assert "PASS: the data passes the policy." in done.stdout
    assert "Limits: the default policy" in done.stdout
    done = check(folder, "bad.jsonl", "good.jsonl", code=1)
    assert "FAIL  bad.jsonl" in done.stdout
    assert "20% > 10%" in done.stdout
    assert "bad.jsonl:25" in done.stdout
    assert "FAIL: 1 of 2 failed." in done.stdout
    done = check(folder, "bad.jsonl", "odd.jsonl", "empty.jsonl", "none.jsonl", code=2)
    assert "none of its 1 rows can be scored" in done.stdout
    assert "there are no rows in it" in done.stdout
    assert "there is no file none.jsonl" in done.stdout
    assert "NO VERDICT on 3 of 4, 1 failed." in done.stdout
    assert sorted(p.name for p in folder.iterdir()) == [
        "bad.jsonl", "empty.jsonl", "good.jsonl", "odd.jsonl",
    ]  # fmt: skip


def test_scores_are_reused_when_they_fit_without_a_model(folder: Path) -> None:
    check(folder, "bad.jsonl", "-o", "bad.scores.parquet", "-q", code=1)
    # no torch: the model is not touched
    code = (
        "import sys; sys.argv = ['saefilter', 'check', 'bad.jsonl', '--max-flagged', '30%']\n"
        "from saefilter.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'torch', 'transformers', 'sae_lens', 'datasets'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Using the scores bad.scores.parquet" in done.stderr
    done = check(folder, "bad.jsonl", "--metric", "nearest", "--max-proximity", "2", code=0)
    assert "Not using bad.scores.parquet: they were made with --metric contrast" in done.stderr
    # of other data: refused when named, not used when only lying there
    done = check(folder, "good.jsonl", "--scores", "bad.scores.parquet", code=2)
    assert "good.jsonl is not the data that bad.scores.parquet was made from" in done.stdout
    (folder / "good.scores.parquet").write_bytes((folder / "bad.scores.parquet").read_bytes())
    done = check(folder, "good.jsonl", code=0)
    assert "Not using good.scores.parquet: good.jsonl is not the data" in done.stderr
    for name in ("good", "bad"):
        (folder / f"{name}.scores.parquet").unlink()


def test_formats_go_where_ci_looks(folder: Path, tmp_path: Path) -> None:
    summary, report = tmp_path / "summary.md", tmp_path / "junit.xml"
    check(folder, "bad.jsonl", "-o", str(tmp_path / "s.parquet"), "-q", code=1)
    scores = ["--scores", str(tmp_path / "s.parquet")]
    done = check(
        folder, "bad.jsonl", *scores, "--format", "github", code=1,
        env={"GITHUB_STEP_SUMMARY": str(summary)},
    )  # fmt: skip
    assert done.stdout.count("::error file=bad.jsonl") == 7
    assert summary.read_text().startswith("## saefilter check")
    sarif = tmp_path / "o.sarif"
    done = check(
        folder, "bad.jsonl", *scores, "--report", str(report), "--report", str(sarif), code=1
    )
    assert "FAIL  bad.jsonl" in done.stdout
    assert json.loads(sarif.read_text())["version"] == "2.1.0"
    assert '<testsuite name="bad.jsonl" tests="3" failures="1"' in report.read_text()
    done = check(folder, "bad.jsonl", *scores, "--format", "json", code=1)
    assert json.loads(done.stdout)["exit_code"] == 1


def test_policy_of_the_project(folder: Path, jsonl: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes((folder / "bad.jsonl").read_bytes())
    (tmp_path / "saefilter.toml").write_text('[check]\nmax_flagged = "25%"\n')
    done = check(tmp_path, "bad.jsonl", "-o", "bad.scores.parquet", code=0)
    assert "20% <= 25%" in done.stdout
    assert "Limits: saefilter.toml" in done.stdout
    done = check(tmp_path, "bad.jsonl", "--max-flagged", "20%", "--min-scored", "100%", code=0)
    assert "20% <= 20%" in done.stdout
    assert "100% >= 100%" in done.stdout
    done = check(tmp_path, "bad.jsonl", "--max-spillover", "-1", code=1)
    assert "predicted push on toxic feature" in done.stdout.lower()
    (tmp_path / "saefilter.toml").write_text("[check]\nmax_flaged = 0.1\n")
    done = check(tmp_path, "bad.jsonl", code=2)
    assert "saefilter.toml [check]: 'max_flaged' is no rule" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["good.jsonl", "--format", "xml"], "--format 'xml' is not known"),
        (["good.jsonl", "bad.jsonl", "-o", "x.parquet"], "go with a single input"),
        (["good.jsonl", "--report", "x.pdf"], "cannot tell the format from the name 'x.pdf'"),
        (["good.jsonl", "--max-flagged", "lots"], "--max-flagged: 'lots' is no share"),
        ([], "Missing argument"),
    ],
)
def test_mistakes_exit_2(folder: Path, arguments: list[str], message: str) -> None:
    assert message in check(folder, *arguments, code=2).stderr
