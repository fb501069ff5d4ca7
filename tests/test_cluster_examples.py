"""The job arrays of examples/cluster: what a task runs is run here, as its runner would."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import chat

from saefilter.artifacts.scores import Scores
from saefilter.scoring.part import PartFile

CLUSTER = Path(__file__).parents[1] / "examples/cluster"
ROWS = [chat(f"Question {i}?", "Boil the egg for eight minutes. " * (i % 5 + 1)) for i in range(48)]
SMALL = ("--shard-rows", "4", "--device", "cpu", "--prepare-workers", "0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Data, and the command `saefilter` of this Python in `bin`."""
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    command = tmp_path / "bin/saefilter"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m saefilter "$@"\n')
    command.chmod(0o755)
    return tmp_path


def start(command: list[str], folder: Path, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}",
             "SOURCE_DATE_EPOCH": "1700000000", "OMP_NUM_THREADS": "1", **variables},
    )  # fmt: skip


def ended(running: subprocess.Popen[str]) -> str:
    said, errors = running.communicate(timeout=300)
    assert running.returncode == 0, errors
    return said


def job_of(file: str) -> dict[str, Any]:
    return dict(yaml.safe_load((CLUSTER / file).read_text())["spec"])


def container_of(file: str) -> tuple[list[str], dict[str, str]]:
    """The command of a Job's container, and its variables."""
    (container,) = job_of(file)["template"]["spec"]["containers"]
    return container["command"], {one["name"]: one["value"] for one in container["env"]}


def test_a_local_array_is_one_run(folder: Path) -> None:
    command = ["sh", str(CLUSTER / "local.sh"), "train.jsonl", "parts.parquet", "3", "2", *SMALL]
    assert "Merged 3 parts of train.jsonl: 48 rows, 48 scored" in ended(start(command, folder))
    one = ["saefilter", "score", "train.jsonl", "-o", "one.parquet", *SMALL]
    ended(start(one, folder))
    assert (folder / "parts.parquet").read_bytes() == (folder / "one.parquet").read_bytes()


def test_a_killed_slurm_task_goes_on_when_it_is_requeued(folder: Path) -> None:
    command = ["bash", str(CLUSTER / "slurm.sh"), "train.jsonl", "s.parquet", *SMALL]
    task = {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "2"}
    running = start(command, folder, **task)
    done = folder / "s.part-2-of-2.parquet.shards/000006.json"
    while not done.exists():
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)  # what exec put in the shell's place
    running.communicate()
    assert not (folder / "s.part-2-of-2.parquet").exists()
    killed = time.time()
    ended(start(command, folder, **task))
    file = PartFile.open(folder / "s.part-2-of-2.parquet")
    assert file.receipts[6].finished < killed < file.receipts[11].finished
    only_one = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "1", "PARTS": "2"}
    ended(start(command, folder, **only_one))
    merged = ["saefilter", "scores", "merge", *map(str, folder.glob("s.part-*")), "-o", "s.parquet"]
    ended(start(merged, folder))
    assert Scores.open(folder / "s.parquet").provenance.rows == len(ROWS)


def test_the_pods_of_the_kubernetes_job(folder: Path) -> None:
    command, env = container_of("kubernetes.yaml")
    merge, merge_env = container_of("kubernetes-merge.yaml")
    env |= {"DATA": "train.jsonl", "SCORES": "train.scores.parquet", "PARTS": "2"}
    for index in ("0", "1"):
        ended(start(command, folder, **env, JOB_COMPLETION_INDEX=index))
    ended(start(merge, folder, **{**merge_env, "SCORES": env["SCORES"], "PARTS": "2"}))
    assert Scores.open(folder / "train.scores.parquet").provenance.rows == len(ROWS)


def test_the_kubernetes_job_has_an_index_for_each_part() -> None:
    job = job_of("kubernetes.yaml")
    _, env = container_of("kubernetes.yaml")
    assert job["completionMode"] == "Indexed"
    assert (
        str(job["completions"]) == env["PARTS"] == container_of("kubernetes-merge.yaml")[1]["PARTS"]
    )
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # or backoffLimitPerIndex is refused
    for script in CLUSTER.glob("*.sh"):
        subprocess.run(["bash", "-n", str(script)], check=True)
    directives = (CLUSTER / "slurm.sh").read_text().split("set -eu")[0]
    assert directives.count("\n#SBATCH --") == 8
