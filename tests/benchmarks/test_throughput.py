"""The benchmark commands run, on tiny sizes: every contender gives a figure and the same features."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.throughput.gpu import SMOKE, run_all, run_step, told
from benchmarks.throughput.steps import STEPS

ROOT = Path(__file__).parents[2]
CONTENDERS = {
    "ours", "ours-inside", "tutorial", "stop", "hidden", "interp", "interp-cut", "bare", "floor",
}  # fmt: skip

pytestmark = pytest.mark.slow


def run(module: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def document(tmp_path: Path) -> Path:
    """A copy of the page that the commands write into."""
    path = tmp_path / "README.md"
    path.write_text((ROOT / "benchmarks" / "README.md").read_text())
    return path


def smoke(tmp_path: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """The entries and the page of a run of tiny sizes."""
    page, entries = document(tmp_path), tmp_path / "throughput.json"
    run(
        "throughput", "--smoke", "--runs", "1", "--json", str(entries), "--write", str(page),
        *arguments,
    )  # fmt: skip
    return json.loads(entries.read_text()), page.read_text()


def check(entry: dict[str, Any], page: str) -> None:
    """Every contender ran on the same tokens, and the ones that pool features found the same."""
    (part,) = entry["dtypes"].values()
    assert set(part["contenders"]) == CONTENDERS
    assert part["same_tokens"]
    for key, one in part["contenders"].items():
        assert one["problem"] is None, key
        assert one["tokens_per_second"] > 0, key
        assert one["ours_over_it"] > 0, key
        assert f"| {one['title']} | {one['tokens_per_second']:,.0f} |" in page
        if one["agreement"] is not None:
            assert one["agreement"] > 0.9999, key
    agreed = [key for key, one in part["contenders"].items() if one["agreement"] is not None]
    assert len(agreed) == 5
    assert part["ours"]["l0"] > 8
    assert part["floor"]["seconds"] > 0
    assert entry["spearman_bf16_fp32"] > 0.9


def test_the_shapes_of_a_cpu(tmp_path: Path) -> None:
    entries, page = smoke(tmp_path, "--dtypes", "fp32")
    assert list(entries) == ["minilm", "gemma2-tiny", "llama-tiny", "smollm2-135m"]
    for name, entry in entries.items():
        assert f"#### {name}: smoke test" in page
        check(entry, page)


def test_all_of_a_gpu_by_the_command_itself(tmp_path: Path) -> None:
    page, kept = tmp_path / "performance.md", tmp_path / "gpu.json"
    page.write_text((ROOT / "docs" / "performance.md").read_text())
    run("throughput", "--gpu", "--smoke", "--json", str(kept), "--write", str(page))
    entries = json.loads(kept.read_text())
    assert list(entries) == [step.name for step in STEPS]
    for name, entry in entries.items():
        assert "problem" not in entry, (name, entry)
        assert entry["smoke"]
        assert f"| {SMOKE}{entry['figure']} |" in page.read_text()
    assert entries["8b-sae-lens"]["contenders"]["stop"]["agreement"] > 0.9999
    assert entries["8b-prefixes"]["shared_tokens"] > 0.5
    # what has a figure is not measured again, and of what is no step nothing is
    assert "8b-rows:" not in run_again(kept)
    assert "no step nonsense" in run_again(kept, "--steps", "nonsense", rc=1)


def run_again(kept: Path, *arguments: str, rc: int = 0) -> str:
    command = [
        sys.executable,
        "-m",
        "benchmarks.throughput",
        "--gpu",
        "--smoke",
        "--json",
        str(kept),
    ]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == rc
    return done.stderr


def test_a_step_ends_with_its_time_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    entry = run_step(STEPS[0], tmp_path, 1.0, True, [], said.append)
    assert entry["problem"] == "stopped after 1 s, its time"
    assert told(entry).startswith("not measured: ")
    entries = run_all(tmp_path / "gpu.json", minutes=0.1, smoke=True, say=said.append)
    assert {entry["problem"] for entry in entries.values()} == {"no time was left of 0 minutes"}


def test_a_killed_command_leaves_no_step_running(tmp_path: Path) -> None:
    arguments = ["--gpu", "--smoke", "--steps", "8b-rows", "--json", str(tmp_path / "gpu.json")]
    command = [sys.executable, "-m", "benchmarks.throughput", *arguments]
    place = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=place, stderr=subprocess.DEVNULL) as process:
        children: list[psutil.Process] = []
        while not children and process.poll() is None:
            time.sleep(0.1)
            children = psutil.Process(process.pid).children()
        process.kill()
    assert children
    assert not psutil.wait_procs(children, timeout=60)[1]


def test_checkpoints_stay_where_they_are_asked_to(tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    entries = run_all(
        tmp_path / "gpu.json", names=["8b-lanes"], smoke=True, keep=keep, say=lambda _: None
    )
    assert "figure" in entries["8b-lanes"]
    assert (keep / "llama-8b-1000x300" / "ready").exists()


def test_memory_is_measured_for_few_and_for_many_rows(tmp_path: Path) -> None:
    page, found = document(tmp_path), tmp_path / "memory.json"
    run(
        "memory", "--rows", "300", "--against", "100", "--write", str(page), "--json", str(found)
    )  # fmt: skip
    commands = json.loads(found.read_text())["commands"]
    for command in ("score", "filter"):
        few, many = commands[command]
        assert (few["rows"], many["rows"]) == (100, 300)
        # python with numpy and pyarrow is beyond 50 MiB, and with torch beyond 200
        assert min(few["peak_mib"], many["peak_mib"]) > (200 if command == "score" else 50)
        assert f"| `saefilter {command}` | 300 | {many['seconds']:.1f} s |" in page.read_text()


def test_prefixes_are_shared_where_rows_have_one() -> None:
    said = run("prefixes", "--rows", "40", "--lengths", "0,60")
    none, some = (line.split("|") for line in said.splitlines()[-2:])
    assert (none[1].strip(), some[1].strip()) == ("0 tokens", "60 tokens")
    assert float(some[3].strip(" %")) > 15
