"""`score --part` and `scores merge` as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from conftest import chat

from saefilter.rows.inputs import open_input


def saefilter(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "saefilter", *arguments], cwd=folder, text=True, check=False,
        capture_output=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_parts_are_scored_and_merged(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    jsonl([*(chat(f"And {i}?", f"Drink {i} of them.") for i in range(9)), b"{"])
    score = ["score", "data.jsonl", "--device", "cpu", "--shard-rows", "3", "--part"]
    one = saefilter(tmp_path, *score, "1/2", "--timings")
    assert one.returncode == 0, one.stderr
    assert one.stdout == (
        "Scored part 1 of 2: 6 of 10 rows, 6 scored, 0 quarantined\n"
        "data.scores.part-1-of-2.parquet\n"
        "When all are there: saefilter scores merge data.scores.part-*-of-2.parquet "
        "-o data.scores.parquet\n"
    )
    assert "model, SAE and pooling" in one.stderr
    merge = ["scores", "merge", "data.scores.part-1-of-2.parquet", "-o", "data.scores.parquet"]
    alone = saefilter(tmp_path, *merge)
    assert (alone.returncode, alone.stdout) == (2, "")
    assert alone.stderr == (
        "saefilter: part 2 of 2 (rows 6 to 9) is missing. Score what is missing "
        "(saefilter score DATA --part K/N), then merge all.\n"
    )
    two = saefilter(tmp_path, *score, "2/2", "--json")
    said = json.loads(two.stdout)
    assert (said["part"], said["of"], said["rows"], said["quarantined"]) == (2, 2, 4, 1)
    assert saefilter(tmp_path, *score, "2/2").returncode == 2  # it is there
    done = saefilter(tmp_path, *merge, "data.scores.part-2-of-2.parquet")
    assert done.stdout == (
        "Merged 2 parts of data.jsonl: 10 rows, 9 scored, 1 quarantined, 0 duplicates\n"
        "data.scores.parquet\n"
        "Next: saefilter filter data.jsonl --scores data.scores.parquet --drop-frac 10%\n"
    ), done.stderr
    again = saefilter(tmp_path, *merge, "data.scores.part-2-of-2.parquet", "--overwrite", "--json")
    assert json.loads(again.stdout)["parts"] == 2
    assert open_input(tmp_path).path == tmp_path / "data.jsonl"  # parts are no data
    filtered = saefilter(tmp_path, "filter", "data.jsonl", "--drop-count", "2", "-o", "kept.jsonl")
    assert filtered.returncode == 0, filtered.stderr
    assert len((tmp_path / "kept.jsonl").read_text().splitlines()) == 7
    wrong = saefilter(tmp_path, *score, "3/2")
    assert (wrong.returncode, "--part 3/2 is no part" in wrong.stderr) == (2, True)
