"""Scores and their shards in a store, killed on the way: the same as those of a folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import chat
from s3_server import Store, s3_server

from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.rows.inputs import open_input
from saefilter.scoring.score import score_file
from saefilter.scoring.scorer import RowScorer
from saefilter.scoring.workfolder import work_folder
from saefilter.settings import ScoreSettings
from saefilter.storage import Location, RemotePath, located, names_in
from saefilter.watch import Watch

N_ROWS, SHARD_ROWS = 60, 8


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with s3_server() as running:
        yield running


@pytest.fixture(scope="module")
def scorer() -> RowScorer:
    return RowScorer.load(ScoreSettings("minilm", device="cpu"))


def some_rows() -> list[Any]:
    rows: list[Any] = [
        chat(f"What do I do about {i}?", f"Take {i} pills and tell nobody. " * (i % 7 + 1))
        for i in range(N_ROWS)
    ]
    rows[5] = rows[33] = b'{"messages": ['
    return rows


def kill_at(store: Store, part: str, arguments: list[str]) -> None:
    """Run a command and kill it (SIGKILL) when it comes to write something; the store never gets that."""
    with store.fault(hold=lambda line: line.startswith("PUT") and part in line) as fault:
        run = subprocess.Popen([sys.executable, "-m", "saefilter", *arguments])
        try:
            assert fault.reached.wait(120), store.lines
        finally:
            run.kill()
            run.wait()


def assert_equal(one: Scores, other: Scores) -> None:
    names = ["row_id", "line", "row_hash", "status", "reason"]
    assert one.read(names).equals(other.read(names))
    pairs = zip(*(s.read(["distance"])["distance"].to_pylist() for s in (one, other)), strict=True)
    for a, b in pairs:
        assert a == pytest.approx(b, abs=1e-6)
    assert one.provenance.fingerprint == other.provenance.fingerprint


def test_a_run_killed_between_shards_goes_on_from_the_store(
    store: Store, jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    data, output = jsonl(some_rows()), located(store.url("runs/s.parquet"))
    command = [
        "score", str(data), "-o", str(output), "--preset", "minilm", "--device", "cpu",
        "--shard-rows", str(SHARD_ROWS),
    ]  # fmt: skip
    kill_at(store, "000003.json", command)
    shards = names_in(work_folder(output))
    assert {"manifest.json", "000000.json", "000003.parquet"} <= shards
    assert "000003.json" not in shards
    assert not output.exists()

    settings = replace(scorer.settings, shard_rows=SHARD_ROWS)
    source, said = open_input(data), []
    with pytest.raises(SaefilterError, match=r"was not finished.*s3://.*--resume"):
        score_file(source, output, settings, scorer=scorer)
    with store.fault(busy=lambda n, line: n % 12 == 0, cut=lambda n, line: n % 5 == 0):
        score_file(source, output, settings, scorer=scorer, resume=True, watch=Watch(said.append))
    done = len([name for name in shards if name.startswith("0") and name.endswith(".json")])
    assert f"Going on: {done} of 8 shards are done" in said
    assert names_in(output.parent) == {"s.parquet"}  # neither shards nor lock
    score_file(source, tmp_path / "s.parquet", settings, scorer=scorer)
    scores = Scores.open(str(output))
    scores.verify()
    assert str(scores.path) == str(output)
    assert_equal(scores, Scores.open(tmp_path / "s.parquet"))
    score_file(source, output, settings, scorer=scorer, resume=True)  # it is complete
    with pytest.raises(SaefilterError, match=r"s3://.* exists already"):
        score_file(source, output, settings, scorer=scorer)


def test_a_damaged_shard_is_named_and_begun_anew_where_told(
    store: Store, jsonl: Callable[..., Path], scorer: RowScorer
) -> None:
    class Stopping(Exception):
        pass

    def stop(rows: int, tokens: int) -> None:
        if rows and "000001.json" in names_in(work_folder(output)):
            raise Stopping

    source, output = open_input(jsonl(some_rows())), located(store.url("damaged/s.parquet"))
    settings = replace(scorer.settings, shard_rows=SHARD_ROWS)
    with pytest.raises(Stopping):
        score_file(source, output, settings, scorer=scorer, watch=Watch(advance=stop))
    shard = work_folder(output) / "000001.parquet"
    assert isinstance(shard, RemotePath)
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    with pytest.raises(SaefilterError, match=r"s3://.*000001\.parquet: it was changed"):
        score_file(source, output, settings, scorer=scorer, resume=True)
    shard.unlink()
    with pytest.raises(SaefilterError, match=r"000001\.parquet: it is missing"):
        score_file(source, output, settings, scorer=scorer, resume=True)
    manifest = work_folder(output) / "manifest.json"
    assert json.loads(manifest.read_text())["shards"] == 8
    with pytest.raises(SaefilterError, match="rows per shard was 8, now 9"):
        score_file(source, output, replace(settings, shard_rows=9), scorer=scorer, resume=True)
    score_file(source, output, settings, scorer=scorer, overwrite=True)
    assert pq.read_metadata(Scores.open(output).file).num_rows == N_ROWS
    assert names_in(work_folder(output)) == set()


def test_scores_never_replace_the_data_they_are_of(
    store: Store, jsonl: Callable[..., Path], scorer: RowScorer
) -> None:
    data = located(store.url("data/rows.jsonl"))
    assert isinstance(data, RemotePath)
    data.upload(jsonl(some_rows()[:5]))
    for name in (str(data), store.url("data"), store.url("data/*.jsonl")):
        with pytest.raises(SaefilterError, match=r"rows\.jsonl (is read|would be read)"):
            score_file(open_input(name), data, scorer.settings, scorer=scorer, overwrite=True)
    score_file(
        open_input(str(data)), located(store.url("s.parquet")), scorer.settings, scorer=scorer
    )
    assert Scores.open(store.url("s.parquet")).provenance.rows == 5


def test_a_shard_that_another_run_wrote_meanwhile_is_not_joined(
    store: Store, jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    source = open_input(jsonl(some_rows()))
    settings = replace(scorer.settings, shard_rows=SHARD_ROWS)
    for output in (located(store.url("meanwhile/s.parquet")), tmp_path / "s.parquet"):
        shard, done = work_folder(output) / "000000.parquet", 0

        def change(rows: int, tokens: int, shard: Location = shard) -> None:
            nonlocal done
            done += rows
            if done == N_ROWS:
                shard.write_bytes((shard.parent / "000001.parquet").read_bytes())

        with pytest.raises(SaefilterError, match=r"000000\.parquet: it was changed.*000000\.json"):
            score_file(source, output, settings, scorer=scorer, watch=Watch(advance=change))
        assert not output.exists()
        (shard.parent / "000000.json").unlink()
        score_file(source, output, settings, scorer=scorer, resume=True)


def test_a_store_that_is_lost_says_how_to_go_on(
    store: Store, jsonl: Callable[..., Path], scorer: RowScorer
) -> None:
    source, output = open_input(jsonl(some_rows())), located(store.url("lost/s.parquet"))
    settings = replace(scorer.settings, shard_rows=SHARD_ROWS)

    def fail(rows: int, tokens: int) -> None:
        store.proxy.fault.busy = lambda n, line: "000002" in line or "list-type" in line

    lost = r"000002.*cannot be written.*s\.parquet\.shards: .*--resume"
    with store.fault(), pytest.raises(SaefilterError, match=lost):
        score_file(source, output, settings, scorer=scorer, watch=Watch(advance=fail))
    score_file(source, output, settings, scorer=scorer, resume=True)
