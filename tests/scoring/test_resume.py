"""Killed, stopped and damaged runs: what is finished stays, and what is resumed is the same."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import chat
from typer.testing import CliRunner

from saefilter.artifacts.publish import exclusive
from saefilter.artifacts.scores import Scores
from saefilter.cli import app, commands
from saefilter.errors import SaefilterError
from saefilter.filtering.filter import filter_file
from saefilter.rows.inputs import open_input
from saefilter.rows.read import Source
from saefilter.scoring.engine import AT_HAND
from saefilter.scoring.score import score_file
from saefilter.scoring.scorer import RowScorer
from saefilter.scoring.workfolder import MANIFEST, work_folder
from saefilter.select.strategies import Selection
from saefilter.settings import ScoreSettings

SHARD_ROWS = 8
EPOCH = "1700000000"
N_ROWS = 60
N_SHARDS = -(-N_ROWS // SHARD_ROWS)
MOMENTS = ("read", "score", "shard-write", "publish")


def some_rows() -> list[Any]:
    rows: list[Any] = [
        chat(f"What do I do about {i}?", f"Take {i} pills and tell nobody. " * (i % 7 + 1))
        for i in range(N_ROWS)
    ]
    rows[5] = rows[33] = b'{"messages": ['
    return rows


@pytest.fixture(scope="module")
def scorer() -> RowScorer:
    return RowScorer.load(ScoreSettings("minilm", device="cpu"))


def run(folder: Path, data: Path, moment: str, count: int = 1) -> subprocess.CompletedProcess[str]:
    """A scoring run in a process of its own, killed at a moment."""
    return subprocess.run(
        [
            sys.executable, str(Path(__file__).with_name("killed_run.py")), str(data),
            str(folder / "s.parquet"), str(folder / "log"), str(SHARD_ROWS), moment, str(count),
        ],
        env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH}, capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip


def files_of(folder: Path, data: Path) -> dict[str, bytes]:
    """The scores and what `filter` makes of them."""
    filter_file(
        open_input(data), Scores.open(folder / "s.parquet"), folder / "f.parquet",
        Selection(drop_frac=0.2),
    )  # fmt: skip
    names = ("s.parquet", "f.parquet", "f.dropped.parquet", "f.quarantined.parquet")
    return {name: (folder / name).read_bytes() for name in names}


def check_kills(tmp_path: Path, data: Path, kills: list[tuple[str, int]]) -> int:
    """Kill runs one after the other, each resuming the one before, then let the last one finish.

    Compares with a run that nobody disturbed; returns how many were killed.
    """
    calm, disturbed = tmp_path / "calm", tmp_path / "disturbed"
    for folder in (calm, disturbed):
        folder.mkdir()
    done = run(calm, data, "never")
    assert done.returncode == 0, done.stderr
    killed = 0
    for moment, count in kills:
        done = run(disturbed, data, moment, count)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        killed += done.returncode != 0
        if done.returncode == 0:
            break
    done = run(disturbed, data, "never")
    assert done.returncode == 0, done.stderr
    assert files_of(disturbed, data) == files_of(calm, data)
    scored = Counter((disturbed / "log").read_text().split())
    assert set(scored) == {str(number) for number in range(N_SHARDS)}
    # only what was at hand when a run was killed is scored again
    assert sum(scored.values()) - N_SHARDS <= AT_HAND * killed
    assert {path.name for path in disturbed.iterdir()} == {path.name for path in calm.iterdir()}
    return killed


def test_a_killed_run_goes_on_to_the_same_bytes(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    data = jsonl(some_rows())
    # 2 files are published before the first shard: none but the manifest; then 2 for each shard
    assert check_kills(tmp_path, data, [("shard-write", 3), ("publish", 4), ("join", 1)]) == 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_thirty_kills_at_random_moments(
    jsonl: Callable[..., Path], tmp_path: Path, seed: int
) -> None:
    """Five in a row for each of six runs: at calls of each kind, and at times of the clock."""
    data, draw = jsonl(some_rows()), random.Random(seed)
    kills: list[tuple[str, int]] = [(moment, draw.randint(1, 2)) for moment in MOMENTS]
    draw.shuffle(kills)
    kills[draw.randrange(len(kills))] = (f"{draw.uniform(0, 0.4):.3f}", 1)
    assert check_kills(tmp_path, data, [*kills, ("join", 1)]) == 5


def saefilter(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "saefilter", *arguments], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_a_signal_stops_after_the_shard_at_hand(
    jsonl: Callable[..., Path], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    jsonl(some_rows() * 8)
    command = ["score", "data.jsonl", "-o", "s.parquet", "--shard-rows", "8", "--device", "cpu"]
    running = saefilter(tmp_path, *command)
    folder = work_folder(tmp_path / "s.parquet")
    while not (folder / "000001.json").exists():
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.02)
    running.send_signal(number)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == code, errors
    done = len(list(folder.glob("0*.json")))
    assert f"{done} of 60 shards are safe in s.parquet.shards" in errors
    assert "the same command with --resume" in errors
    assert not list(folder.glob(".*.tmp"))
    assert not (tmp_path / "s.parquet").exists()
    again = saefilter(tmp_path, *command)
    _, errors = again.communicate(timeout=60)
    assert (again.returncode, "Use --resume to go on" in errors) == (2, True)
    resumed = saefilter(tmp_path, *command, "--resume", "--workers", "2")
    _, errors = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, errors
    assert f"Going on: {done} of 60 shards are done" in errors
    assert Scores.open(tmp_path / "s.parquet").provenance.rows == 480
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.jsonl", "s.parquet"]


class Stopping(Exception):
    """Ends a run after some shards."""


def stop_after(receipt: Path) -> Any:
    """A watch that ends the run when this shard is done; others may be by then."""
    from saefilter.scoring.score import Watch

    def advance(rows: int, tokens: int) -> None:
        if receipt.exists():
            raise Stopping

    return Watch(advance=advance)


@pytest.fixture
def unfinished(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> tuple[Source, Path]:
    """A run that ended with its second shard: its data and output."""
    source, output = open_input(jsonl(some_rows())), tmp_path / "s.parquet"
    with pytest.raises(Stopping):
        score_file(
            source, output, replace(scorer.settings, shard_rows=SHARD_ROWS), scorer=scorer,
            watch=stop_after(work_folder(output) / "000001.json"),
        )  # fmt: skip
    assert 1 <= len(list(work_folder(output).glob("0*.json"))) < N_ROWS / SHARD_ROWS
    return source, output


def resume(source: Source, output: Path, scorer: RowScorer, **options: Any) -> None:
    settings = replace(scorer.settings, shard_rows=options.pop("shard_rows", SHARD_ROWS))
    score_file(source, output, settings, scorer=scorer, **{"resume": True, **options})


def test_a_changed_fingerprint_says_what_changed(
    unfinished: tuple[Source, Path], scorer: RowScorer, tmp_path: Path
) -> None:
    source, output = unfinished
    before = sorted(work_folder(output).iterdir())
    with pytest.raises(SaefilterError, match=r"rows per shard was 8, now 9.*--overwrite"):
        resume(source, output, scorer, shard_rows=9)
    other = RowScorer(
        scorer.encoder, scorer.scorer, replace(scorer.settings, max_tokens=77, train_on="all")
    )
    with pytest.raises(
        SaefilterError, match="scored tokens was assistant, now all; token limit was 1024, now 77"
    ):
        resume(source, output, other)
    with open(source.path, "a") as file:
        file.write('{"text": "one more"}\n')
    with pytest.raises(
        SaefilterError, match=r"input was [0-9a-f]{12}, now .*; rows was 60, now 61"
    ):
        resume(source, output, scorer)
    assert sorted(work_folder(output).iterdir()) == before
    with pytest.raises(SaefilterError, match=r"was not finished.*--resume"):
        resume(source, output, scorer, resume=False)
    resume(source, output, scorer, overwrite=True)
    assert Scores.open(output).provenance.rows == 61


def test_an_edited_shard_is_refused_and_scored_again_when_its_receipt_is_removed(
    unfinished: tuple[Source, Path], scorer: RowScorer
) -> None:
    source, output = unfinished
    shard = work_folder(output) / "000001.parquet"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(SaefilterError, match=r"000001\.parquet: it was changed.*000001\.json"):
        resume(source, output, scorer)
    shard.unlink()
    with pytest.raises(SaefilterError, match=r"000001\.parquet: it is missing"):
        resume(source, output, scorer)
    receipt = shard.with_suffix(".json")
    fields = json.loads(receipt.read_text())
    receipt.write_text(json.dumps({**fields, "fingerprint": "0" * 64}))
    with pytest.raises(SaefilterError, match="the receipt of another shard or run"):
        resume(source, output, scorer)
    receipt.write_text("{")
    with pytest.raises(SaefilterError, match="not a receipt"):
        resume(source, output, scorer)
    receipt.unlink()
    resume(source, output, scorer)
    assert Scores.open(output).provenance.rows == N_ROWS


def test_a_finished_run_is_left_alone(unfinished: tuple[Source, Path], scorer: RowScorer) -> None:
    source, output = unfinished
    resume(source, output, scorer)
    before = output.stat()
    resume(source, output, scorer)
    after = output.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    with pytest.raises(SaefilterError, match="exists already"):
        resume(source, output, scorer, shard_rows=9)


def test_two_runs_on_one_output_exclude_each_other(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    source, output = open_input(jsonl(some_rows()[:3])), tmp_path / "s.parquet"
    code = (
        "import sys, pathlib; from saefilter.artifacts.publish import exclusive\n"
        "with exclusive(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(output)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(SaefilterError, match=r"another run is writing .*s.parquet"):
            resume(source, output, scorer)
        other.kill()  # the system lets go of what it held
        other.wait()
        resume(source, output, scorer)
    with exclusive(output):
        pass
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_workers_give_the_same_scores(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    source = open_input(jsonl(some_rows()))
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    settings = replace(scorer.settings, shard_rows=SHARD_ROWS)
    score_file(source, one, settings, scorer=scorer)
    score_file(source, two, replace(settings, workers=2))
    names = ["row_id", "row_hash", "status", "reason"]
    assert Scores.open(one).read(names).equals(Scores.open(two).read(names))
    distances = [Scores.open(path).read(["distance"])["distance"] for path in (one, two)]
    for a, b in zip(*(column.to_pylist() for column in distances), strict=True):
        assert a == pytest.approx(b, abs=1e-4)
    with pytest.raises(SaefilterError, match="no toxic set 'none'"):
        score_file(source, tmp_path / "x.parquet", replace(settings, toxic_set="none", workers=2))
    assert not work_folder(tmp_path / "x.parquet").exists()


@pytest.mark.slow
def test_several_workers_with_preparers_of_their_own(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    """More shards than all workers take at once, each of which takes more for its preparers."""
    source, output = open_input(jsonl(some_rows() * 2)), tmp_path / "s.parquet"
    settings = replace(scorer.settings, prepare_processes=1, workers=2, shard_rows=8)
    score_file(source, output, settings)
    assert Scores.open(output).provenance.rows == 2 * N_ROWS


def test_a_dead_worker_is_an_error_that_says_what_is_safe(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    from saefilter.scoring.score import Watch

    def kill_one(rows: int, tokens: int) -> None:
        if rows and (workers := multiprocessing.active_children()):
            assert workers[0].pid is not None
            os.kill(workers[0].pid, signal.SIGKILL)

    source, output = open_input(jsonl(some_rows() * 4)), tmp_path / "s.parquet"
    with pytest.raises(SaefilterError, match=r"a worker process died.* are safe in .*--resume"):
        score_file(
            source,
            output,
            replace(scorer.settings, workers=2, shard_rows=2),
            watch=Watch(advance=kill_one),
        )
    assert not multiprocessing.active_children()
    resume(source, output, scorer, shard_rows=2)
    assert Scores.open(output).provenance.rows == 4 * N_ROWS


def test_a_manifest_that_cannot_be_read(unfinished: tuple[Source, Path], scorer: RowScorer) -> None:
    source, output = unfinished
    manifest = work_folder(output) / MANIFEST
    manifest.write_text("[" * 100_000)
    with pytest.raises(SaefilterError, match="manifest cannot be read"):
        resume(source, output, scorer)
    resume(source, output, scorer, overwrite=True)
    assert output.exists()


def test_filter_goes_on_by_itself_and_starts_anew_where_it_is_told_to(
    unfinished: tuple[Source, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commands()
    usual = Path("data.scores.parquet")
    work_folder(unfinished[1]).rename(work_folder(usual))
    done = len(list(work_folder(usual).glob("0*.json")))
    arguments = ["filter", "data.jsonl", "--drop-count", "1"]
    with pytest.raises(SaefilterError, match=r"rows per shard was 8, now 1024.*--overwrite"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    Path("saefilter.toml").write_text(f"shard-rows = {SHARD_ROWS}\n")
    said = CliRunner().invoke(app, arguments, catch_exceptions=False).output
    assert f"Going on: {done} of 8 shards are done" in said
    usual.unlink()
    work_folder(usual).mkdir()
    (work_folder(usual) / MANIFEST).write_text("not ours")
    said = CliRunner().invoke(app, [*arguments, "--overwrite"], catch_exceptions=False).output
    assert "Dropped 1" in said or "dropped" in said.lower()
    assert not work_folder(usual).exists()
