"""A disk that is full and one that cannot be written, for real: a small file system of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import chat

from saefilter.artifacts.scores import Scores

NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
CACHES = ("SAEFILTER_CACHE", "XDG_CACHE_HOME")
MOUNT = "mount -t tmpfs -o size=160k tmpfs disk"


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return [chat(f"What of {i}?", f"Mix {i} with bleach. " * (i % 9 + 1)) for i in range(400)]


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Run shell lines in a folder whose `disk` holds 160 kB; `$run` is saefilter."""
    (tmp_path / "disk").mkdir()
    if (
        not shutil.which("unshare")
        or subprocess.run(
            [*NAMESPACE, MOUNT], cwd=tmp_path, capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("this system does not let us mount a small disk")

    def run(lines: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*NAMESPACE, f'run="{sys.executable} -m saefilter"\n{MOUNT}\n{lines}'],
            cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    return run


@pytest.mark.slow
def test_scoring_goes_on_after_a_full_disk(
    script: Callable[[str], subprocess.CompletedProcess[str]],
    jsonl: Callable[..., Path],
    tmp_path: Path,
    rows: list[dict[str, Any]],
) -> None:
    jsonl(rows)
    done = script(
        """
        $run score data.jsonl -o disk/s.parquet --shard-rows 32 --device cpu; echo "exit $?"
        ls -A disk disk/s.parquet.shards
        mount -o remount,size=20m disk
        $run score data.jsonl -o disk/s.parquet --shard-rows 32 --device cpu --resume -q
        echo "exit $?"
        ls -A disk; cp disk/s.parquet .
        """
    )
    first, second = done.stdout.split("exit ")[1:]
    assert first.startswith("2"), done.stderr
    assert "No space left on device" in done.stderr
    assert "shards are safe in disk/s.parquet.shards" in done.stderr
    assert "Traceback" not in done.stderr
    names = first.split()
    assert ".tmp" not in first
    assert "s.parquet" not in names
    receipts = [name for name in names if name.endswith(".json") and name != "manifest.json"]
    shards = [name for name in names if name.endswith(".parquet")]
    assert 0 < len(receipts) <= len(shards) <= len(receipts) + 1 < 13
    assert second.split() == ["0", "s.parquet"]
    assert Scores.open(tmp_path / "s.parquet").provenance.rows == 400


def test_filter_leaves_nothing_half_written(
    script: Callable[[str], subprocess.CompletedProcess[str]],
    jsonl: Callable[..., Path],
    rows: list[dict[str, Any]],
) -> None:
    rows = [{**row, "blob": format(i**97, "x") * 40} for i, row in enumerate(rows)]
    jsonl(rows)
    done = script(
        """
        $run score data.jsonl --device cpu -q
        echo "exit $?"
        $run filter data.jsonl --drop-frac 0.1 -o disk/f.parquet; echo "exit $?"
        ls -A disk
        mount -o remount,ro disk
        $run filter data.jsonl --drop-frac 0.1 -o disk/f.parquet; echo "exit $?"
        $run score data.jsonl -o disk/s.parquet --device cpu; echo "exit $?"
        """
    )
    scored, full, read_only, scored_read_only = done.stdout.split("exit ")[1:]
    assert scored.strip() == "0", done.stderr
    assert full.split() == ["2"], done.stderr  # and nothing is on the disk
    assert read_only.strip() == scored_read_only.strip() == "2"
    full_error, read_only_error, scored_error = [
        line for line in done.stderr.splitlines() if line.startswith("saefilter:")
    ]
    assert "No space left on device" in full_error
    assert "Nothing was written under its final name" in full_error
    assert "Read-only file system" in read_only_error
    assert "Read-only file system" in scored_error
    assert "Traceback" not in done.stderr


def test_from_python_a_full_folder_for_temporary_files_is_an_error_with_its_remedy(
    script: Callable[[str], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "score.py").write_text(
        "import saefilter\n"
        "try:\n"
        "    saefilter.score([{'text': format(i**900, 'x') * 20} for i in range(2, 900)])\n"
        "except saefilter.SaefilterError as error:\n"
        "    print('told:', error)\n"
    )
    done = script(f"TMPDIR=$PWD/disk {sys.executable} score.py; ls -A disk")
    told = done.stdout.strip()
    assert told.startswith("told: there is no room for temporary files (No space left"), done.stderr
    assert told.endswith("name another folder by the variable TMPDIR.")


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "saefilter", "score", "-"], input='{"text": "a"}\n', cwd=tmp_path,
        env={**{k: v for k, v in os.environ.items() if k not in CACHES}, "HOME": "/proc/nope"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()[-1:]
    assert line.startswith("saefilter: /proc/nope/.cache/saefilter/inputs: ")
    assert "SAEFILTER_CACHE" in line
    assert "Traceback" not in done.stderr


def test_a_fault_of_ours_is_not_taken_for_data_that_fail_a_gate(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"text": "a"}\n')
    broken = (
        "import sys, saefilter.rows.read as read\n"
        "read.Source.rows = property(lambda self: 1 / 0)\n"
        "sys.argv = ['saefilter', 'check', 'd.jsonl']\n"
        "from saefilter.cli import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", broken], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "ZeroDivisionError" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("saefilter: this is a fault of saefilter")
