"""`score` and `tokens` with the real SmolLM2-135M-Instruct, as a user types them, offline."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from saefilter.scoring.workfolder import work_folder

pytestmark = pytest.mark.real

ADVICE = Path(__file__).parents[2] / "examples" / "advice.jsonl"
N_ROWS, SHARD_ROWS = 40, 8
PRESET = ("--preset", "smollm2-135m")
# one thread, since rounding must not depend on what else the machine does; and no clock in the file
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "SOURCE_DATE_EPOCH": "1700000000"}


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "saefilter", *arguments], cwd=folder, env=ENVIRONMENT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def saefilter(folder: Path, *arguments: str) -> str:
    """What it says; on the console in one line."""
    process = started(folder, *arguments)
    said, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return " ".join(said.split())


@pytest.fixture(scope="module")
def folder(real_smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound rows of the demo and one that is none, scored by the preset from the hub's cache."""
    folder = tmp_path_factory.mktemp("work")
    rows = []
    for line in ADVICE.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if len(row["messages"]) == 2 and row["messages"][-1]["content"]:
            rows.append(line)
    rows = [*rows[: N_ROWS - 1], b'{"messages": [']
    (folder / "data.jsonl").write_bytes(b"\n".join(rows) + b"\n")
    said = saefilter(folder, "score", "data.jsonl", *PRESET, "--shard-rows", str(SHARD_ROWS))
    assert f"Scored {N_ROWS - 1} of {N_ROWS} rows" in said
    assert "No percentiles" not in said
    return folder


def test_every_row_has_a_distance_a_percentile_and_features(folder: Path) -> None:
    rows = pq.read_table(folder / "data.scores.parquet").to_pylist()
    assert [row["status"] for row in rows] == ["scored"] * (N_ROWS - 1) + ["quarantined"]
    for row in rows[:-1]:
        assert 0 < row["distance"] < 1
        assert 0 <= row["percentile"] <= 100
        assert row["n_scored"] == row["n_trained"] < row["n_tokens"]
        assert row["top_features"]
    assert len({row["distance"] for row in rows}) > N_ROWS - 5


def test_an_interrupted_run_goes_on_to_the_same_bytes(folder: Path) -> None:
    command = ["score", "data.jsonl", *PRESET, "--shard-rows", str(SHARD_ROWS), "-o", "s.parquet"]
    running = started(folder, *command)
    shards = work_folder(folder / "s.parquet")
    while not (shards / "000000.json").exists():
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=300)
    assert running.returncode == 130, errors
    assert 1 <= len(list(shards.glob("0*.json"))) < N_ROWS / SHARD_ROWS
    saefilter(folder, *command, "--resume")
    calm, disturbed = (folder / name for name in ("data.scores.parquet", "s.parquet"))
    assert disturbed.read_bytes() == calm.read_bytes()


def test_a_folder_scores_as_the_hubs_cache_does(folder: Path, real_smollm2: Path) -> None:
    saefilter(
        folder, "score", "data.jsonl", *PRESET, "--model", str(real_smollm2), "-o", "f.parquet",
        "--shard-rows", str(SHARD_ROWS),
    )  # fmt: skip
    names = ["row_id", "distance", "percentile", "n_tokens", "top_features"]
    one, other = (
        pq.read_table(folder / f, columns=names) for f in ("data.scores.parquet", "f.parquet")
    )
    assert one.equals(other)


def test_rows_that_are_cut_are_named(folder: Path) -> None:
    said = saefilter(
        folder, "score", "data.jsonl", *PRESET, "--max-tokens", "64", "-o", "c.parquet"
    )
    rows = pq.read_table(folder / "c.parquet").to_pylist()
    whole = pq.read_table(folder / "data.scores.parquet").to_pylist()
    cut = [row for row in rows if row["truncated"]]
    assert len(cut) > N_ROWS / 2
    assert f"Cut at --max-tokens 64: {len(cut)} rows" in said
    assert (
        "No percentiles: the toxic set's harmless rows were measured with --max-tokens 1024" in said
    )
    for row, full in zip(rows, whole, strict=True):
        if full["status"] != "scored":
            continue
        end = full["n_tokens"] - 2  # <|im_end|> and its line break; n_tokens is without the BOS
        left = max(0, min(end, 63) - (end - full["n_scored"]))
        if not left:
            assert row["reason"] == "all trained tokens lie beyond --max-tokens 64"
            continue
        assert row["percentile"] is None
        assert row["n_scored"] == left
        assert row["truncated"] == (left < full["n_scored"])
        assert row["truncated"] or row["distance"] == pytest.approx(full["distance"], abs=1e-4)
    assert not any(row["truncated"] for row in whole)


@pytest.mark.parametrize(
    ("trainer", "specials"),
    [
        ((), []),
        (("--trainer", "axolotl"), ["[<|im_end|>]"]),
        (("--trainer", "trl"), ["[<|im_end|>]", *["[<|im_start|>]", "[<|im_end|>]"] * 2]),
    ],
)
def test_special_tokens_are_scored_where_the_trainer_trains_on_them(
    folder: Path, trainer: tuple[str, ...], specials: list[str]
) -> None:
    """<|im_start|> opens each turn and is the BOS too, so the first is never scored; <|im_end|> ends it
    and is the EOS."""
    said = saefilter(folder, "tokens", "data.jsonl", "--row", "0", *PRESET, *trainer)
    shown = [token for token in said.split() if "<|" in token]
    assert len(shown) == 6
    assert shown[0] == "<<|im_start|>>"
    assert [token for token in shown if token.startswith("[")] == specials
    counts = re.search(r"(\d+) scored of (\d+) trained tokens, (\d+) in the row", said)
    assert counts
    scored, trained, total = map(int, counts.groups())
    assert scored == trained
    assert (scored == total) == (trainer == ("--trainer", "trl"))
    row = pq.read_table(folder / "data.scores.parquet").to_pylist()[0]
    assert row["n_tokens"] == total
    assert trainer or row["n_scored"] == scored
