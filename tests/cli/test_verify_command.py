"""`saefilter verify` and `filter --card`, typed as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import chat


def saefilter(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "saefilter", *arguments], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    rows = [chat(f"What about {i}?", f"Number {i} is fine.") for i in range(8)]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "bad\n")
    (folder / "other.jsonl").write_text(json.dumps(rows[0]) + "\n")
    (folder / "clean").mkdir()
    saefilter(folder, "score", "data.jsonl", "-q")
    shown = saefilter(
        folder, "filter", "data.jsonl", "--drop-count", "2", "-o", "clean/train.parquet", "--card"
    )
    assert "clean/README.md (fill in the licence)" in shown.stdout
    return folder


def test_a_real_run_belongs_together(folder: Path) -> None:
    for name in ("train.parquet", "train.dropped.parquet", "train.report.json"):
        shown = saefilter(folder, "verify", f"clean/{name}").stdout
        assert "6 kept + 2 dropped + 1 quarantined = 9 scored rows" in shown
        assert "All of it belongs together." in shown
    assert "content" in saefilter(folder, "verify", "data.scores.parquet").stdout
    made = json.loads(pq.read_schema(folder / "clean/train.parquet").metadata[b"saefilter"])
    assert {"torch", "transformers", "pyarrow"} <= set(made["scores"]["versions"])
    assert "input_path" not in made["scores"]
    assert saefilter(folder, "verify", "clean/train.parquet", "-q").stdout == ""


def test_exit_codes_and_json(folder: Path, tmp_path: Path) -> None:
    done = saefilter(
        folder, "verify", "data.scores.parquet", "--input", "other.jsonl", "--json", code=1
    )
    said = json.loads(done.stdout)
    assert (said["kind"], said["exit_code"]) == ("scores", 1)
    assert [c["name"] for c in said["checks"] if c["status"] == "mismatch"] == ["input"]
    (tmp_path / "train.parquet").write_bytes((folder / "clean/train.parquet").read_bytes())
    shown = saefilter(tmp_path, "verify", "train.parquet", code=2).stdout
    assert "not found  report" in shown
    assert "not everything could be judged" in shown
    assert "not an artifact" in saefilter(folder, "verify", "data.jsonl", code=2).stderr
    assert "there is no file" in saefilter(folder, "verify", "none.json", code=2).stderr
