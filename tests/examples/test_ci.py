"""The hooks and examples for CI, each run as its runner runs it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import chat

ROOT = Path(__file__).parents[2]
CI = ROOT / "examples/ci"
INSULT = "You people are worthless vermin and should all be driven out and killed."
GOOD = [chat(f"Question {i}?", "Boil the egg for eight minutes.") for i in range(20)]
BAD = GOOD[:15] + [chat(f"And group {i}?", INSULT) for i in range(5)]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """A folder with the command `saefilter` of this Python, as an installation has."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "saefilter"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m saefilter "$@"\n')
    command.chmod(0o755)
    return folder


def run(
    command: list[str], folder: Path, bin_folder: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    path = f"{bin_folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    # `make test` tells a make below it (MAKELEVEL, MAKEFLAGS) to behave as its own part
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=400, check=False,
        env={**outer, "PATH": path, **(env or {})},
    )  # fmt: skip


def test_the_manifest_and_the_configuration_are_valid() -> None:
    for command, file in (
        ("validate-manifest", ROOT / ".pre-commit-hooks.yaml"),
        ("validate-config", CI / "pre-commit-config.yaml"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "pre_commit", command, str(file)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    taken = [name for name in ("a.jsonl", "d/b.csv.gz", "x.parquet", "y.ndjson.zst", "z.arrow")
             if re.search(hook["files"], name)]  # fmt: skip
    assert len(taken) == 5
    for name in ("package.json", "a.jsonl.txt", "x.parquet.gz", "read.me", "jsonl"):
        assert not re.search(hook["files"], name)
    config = yaml.safe_load((CI / "pre-commit-config.yaml").read_text())
    assert config["repos"][0]["hooks"][0]["id"] == hook["id"]


@pytest.mark.slow
def test_pre_commit_blocks_a_bad_file(tmp_path: Path, bin_folder: Path) -> None:
    """The shipped hook, run by the real pre-commit in a real repository. Only where its command comes
    from is changed: this Python instead of an environment that pip would have to build."""
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    hook = {**hook, "language": "system"}
    del hook["additional_dependencies"], hook["minimum_pre_commit_version"]
    repository = tmp_path / "repository"
    repository.mkdir()
    config = {"repos": [{"repo": "local", "hooks": [hook]}]}
    (repository / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    write(repository / "data/good one.jsonl", GOOD)
    (repository / "package.json").write_text("{}")
    env = {
        "PRE_COMMIT_HOME": str(tmp_path / "home"),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        **{f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER")
           for what in ("NAME", "EMAIL")},
    }  # fmt: skip

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run(["git", *arguments], repository, bin_folder, env)

    assert git("init", "-q").returncode == 0
    done = run([sys.executable, "-m", "pre_commit", "install"], repository, bin_folder, env)
    assert done.returncode == 0, done.stderr
    git("add", ".")
    done = git("commit", "-q", "-m", "good data")
    assert done.returncode == 0, done.stderr
    write(repository / "data/bad.jsonl", BAD)
    write(repository / "data/more.jsonl", GOOD[:10])
    git("add", ".")
    done = git("commit", "-q", "-m", "bad data")
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "exit code: 1" in said
    assert "FAIL  data/bad.jsonl" in said
    assert "25% > 10%" in said
    assert "data/bad.jsonl:16" in said
    assert "PASS  data/more.jsonl" in said
    assert "FAIL: 1 of 2 failed." in said
    assert git("log", "--oneline").stdout.count("\n") == 1
    git("rm", "-q", "-f", "data/bad.jsonl")
    assert git("commit", "-q", "-m", "without it").returncode == 0


def action_step() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"][1])


def run_action(folder: Path, bin_folder: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """The action's step as the runner runs it: expressions in `env` filled in, the script by bash."""
    step = action_step()
    declared = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]

    def fill(expression: str) -> str:
        found = re.fullmatch(r"\$\{\{ inputs\.([\w-]+) \}\}", expression)
        assert found
        assert found[1] in declared
        return inputs.get(found[1].replace("-", "_"), "")

    env = {name: fill(value) for name, value in step["env"].items()}
    script = folder / "step.sh"
    script.write_text(step["run"])
    env["GITHUB_STEP_SUMMARY"] = str(folder / "summary.md")
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
    return run(command, folder, bin_folder, env)


def test_the_action_takes_hostile_inputs_as_text(tmp_path: Path, bin_folder: Path) -> None:
    step = action_step()
    assert "${{" not in step["run"]
    write(tmp_path / "bad rows; touch hacked.jsonl", BAD)
    write(tmp_path / "--report=hacked.md", GOOD)
    done = run_action(
        tmp_path, bin_folder,
        data="bad rows; touch hacked.jsonl\n\n--report=hacked.md\n$(touch hacked)\n",
        max_flagged="10%", sarif="out put.sarif",
    )  # fmt: skip
    assert done.returncode == 2, done.stderr  # the second and third are no data
    assert "::error file=bad rows; touch hacked.jsonl,line=" in done.stdout
    assert "NO VERDICT on 2 of 3, 1 failed." in done.stdout
    assert not [path for path in tmp_path.iterdir() if path.name in ("hacked", "hacked.md")]
    assert json.loads((tmp_path / "out put.sarif").read_text())["version"] == "2.1.0"
    assert "saefilter check" in (tmp_path / "summary.md").read_text()
    done = run_action(tmp_path, bin_folder, data="bad rows; touch hacked.jsonl", max_flagged="30%")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_uses_inputs_that_the_action_has() -> None:
    workflow = yaml.safe_load((CI / "github-workflow.yml").read_text())
    steps = workflow["jobs"]["check"]["steps"]
    (ours,) = [step for step in steps if "saefilter/saefilter" in step["uses"]]
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert set(ours["with"]) <= set(action["inputs"])
    used = "".join(step.get("run", "") for step in action["runs"]["steps"])
    variables = {name.removeprefix("OPT_") for name in action["runs"]["steps"][1]["env"]}
    assert all(name in used for name in variables)


def test_gitlab_script(tmp_path: Path, bin_folder: Path) -> None:
    job = yaml.safe_load((CI / "gitlab-ci.yml").read_text())["check-data"]
    write(tmp_path / "data/train.jsonl", BAD)
    done = run(["sh", "-ec", "\n".join(job["script"])], tmp_path, bin_folder)
    assert done.returncode == 1, done.stderr
    report = tmp_path / job["artifacts"]["reports"]["junit"]
    assert 'failures="1"' in report.read_text()


@pytest.mark.slow
def test_dvc_stages(tmp_path: Path, bin_folder: Path) -> None:
    stages = yaml.safe_load((CI / "dvc.yaml").read_text())["stages"]
    write(tmp_path / "data/train.jsonl", GOOD)
    for name, stage in stages.items():
        assert all((tmp_path / path).exists() for path in stage["deps"]), name
        for _ in range(2):  # stages run again when their dependencies changed
            done = run(["sh", "-ec", stage["cmd"]], tmp_path, bin_folder)
            assert done.returncode == 0, done.stderr
        assert all((tmp_path / path).exists() for path in stage["outs"]), name


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("make"), reason="make is not here")
def test_make_trains_only_on_data_that_pass(tmp_path: Path, bin_folder: Path) -> None:
    shutil.copy(CI / "Makefile", tmp_path / "Makefile")
    code = "import datasets; print('rows', datasets.load_dataset('clean')['train'].num_rows)"
    train = f"TRAIN={shlex.quote(sys.executable)} -c {shlex.quote(code)}"
    write(tmp_path / "data/train.jsonl", BAD)
    done = run(["make", "train", train], tmp_path, bin_folder)
    assert done.returncode != 0
    assert "FAIL  data/train.jsonl" in done.stdout
    assert "rows" not in done.stdout.splitlines()[-1]
    assert not (tmp_path / "clean").exists()
    write(tmp_path / "data/train.jsonl", GOOD)
    os.utime(tmp_path / "data/train.jsonl", (2e9, 2e9))  # newer than the scores, to the second
    done = run(["make", "train", train], tmp_path, bin_folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "rows 18"
