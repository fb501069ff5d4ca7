"""The Ray engine on a real cluster of several nodes, all of them on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import chat

from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.rows.inputs import open_input
from saefilter.scoring.job import Job, Receipt, ShardRows, plan_shards, read_shards
from saefilter.scoring.ray_cluster import Room, room_for
from saefilter.scoring.ray_engine import RayEngine
from saefilter.scoring.ray_worker import Mark
from saefilter.scoring.score import score_file
from saefilter.scoring.scorer import RowScorer
from saefilter.scoring.workfolder import WorkFolder, work_folder
from saefilter.settings import ScoreSettings
from saefilter.storage import RemotePath
from saefilter.watch import Watch

SHARD_ROWS = 4
N_ROWS = 160
SECRET = "marzipan"
"""In every row, and nowhere else."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes with room for one worker each, the driver on the first."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    for _ in range(2):
        cluster.add_node(num_cpus=2)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def data(jsonl: Callable[..., Path]) -> Path:
    rows: list[Any] = [
        chat(f"What do I do about {i}?", f"Take {i} {SECRET} pills. " * (i % 7 + 1))
        for i in range(N_ROWS)
    ]
    rows[5] = rows[33] = b'{"messages": ["' + SECRET.encode()
    return jsonl(rows)


def settings_for(cluster: Any) -> ScoreSettings:
    return ScoreSettings(
        "minilm", device="cpu", dtype="fp32", shard_rows=SHARD_ROWS, engine="ray",
        address=cluster.address, cpus_per_worker=2,
    )  # fmt: skip


def local(settings: ScoreSettings) -> ScoreSettings:
    return replace(settings, engine="local", address=None, cpus_per_worker=None)


def check_same(one: Path, other: Path) -> None:
    """Each row once, with the same outcome and the same distance."""
    ours, theirs = Scores.open(one), Scores.open(other)
    assert ours.provenance.fingerprint == theirs.provenance.fingerprint
    names = ["row_id", "row_hash", "status", "reason"]
    assert ours.read(names).equals(theirs.read(names))
    for a, b in zip(*(s.read(["distance"])["distance"].to_pylist() for s in (ours, theirs)),
                    strict=True):  # fmt: skip
        assert a == pytest.approx(b, abs=1e-6)


def workers_of(cluster: Any) -> list[psutil.Process]:
    """Processes of the actors; all nodes of the cluster are this process's children."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "RayWorker" in " ".join(process.cmdline()[:1]):
                found.append(process)
        except psutil.Error:
            continue
    return found


def logs_of(cluster: Any) -> str:
    folder = Path(cluster.head_node.get_session_dir_path()) / "logs"
    return "".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())


class Stopping(Exception):
    """Ends a run after some shards."""


@pytest.mark.slow
def test_begun_locally_and_finished_on_a_cluster_that_loses_a_worker_and_a_node(
    cluster: Any, data: Path, tmp_path: Path
) -> None:
    settings, source = settings_for(cluster), open_input(data)
    calm, output = tmp_path / "calm.parquet", tmp_path / "s.parquet"
    scorer = RowScorer.load(local(settings))
    score_file(source, calm, local(settings), scorer=scorer)

    def stop_early(rows: int, tokens: int) -> None:
        if (work_folder(output) / "000002.json").exists():
            raise Stopping

    with pytest.raises(Stopping):
        score_file(source, output, local(settings), scorer=scorer, watch=Watch(advance=stop_early))
    began = len(list(work_folder(output).glob("0*.json")))
    said: list[str] = []
    described: list[str] = []
    losses: list[Callable[[], None]] = [
        lambda: cluster.remove_node(sorted(cluster.worker_nodes, key=str)[0], allow_graceful=False),
        lambda: workers_of(cluster)[0].kill(),
    ]
    done = 0

    def lose(rows: int, tokens: int) -> None:
        nonlocal done
        done += rows
        if losses and done >= 12 * (3 - len(losses)):
            losses.pop(0)()

    score_file(
        source, output, settings, resume=True,
        watch=Watch(said.append, advance=lose, describe=described.append),
    )  # fmt: skip
    cluster.add_node(num_cpus=2)
    check_same(output, calm)
    assert not work_folder(output).exists()
    assert f"Going on: {began} of 40 shards are done" in said
    assert "Ray: 3 workers on 3 nodes, 2 CPUs each" in said
    assert any(line.startswith("Ray: a worker on ") for line in said), said
    assert said[-1].startswith("Ray: 2 workers were lost"), said
    assert any("retries" in text for text in described)
    assert SECRET not in logs_of(cluster)


def bad_work(
    job: Job, scorer: RowScorer, read: ShardRows, advance: Callable[[int], None]
) -> Receipt:
    """Work that fails with the row in its message, or takes the worker with it."""
    if read.shard.number == 1:
        raise ValueError(str(read.rows[0].raw))
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shard", "reason"), [(1, "ValueError in ray_worker.py"), (2, "ActorDiedError")]
)
def test_rows_that_no_worker_can_do_are_named_and_not_told(
    cluster: Any, data: Path, tmp_path: Path, shard: int, reason: str
) -> None:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no host can import a test
    settings = settings_for(cluster)
    shards = plan_shards(N_ROWS, SHARD_ROWS)
    folder = WorkFolder.begin(tmp_path / "work", {}, shards)
    job = Job(open_input(data), settings, folder.path, "f")
    engine = RayEngine(settings, Watch())
    try:
        with pytest.raises(SaefilterError, match=reason) as caught:
            list(engine.run(bad_work, job, read_shards(job, [shards[shard]]), threading.Event(),
                            lambda tokens: None))  # fmt: skip
    finally:
        engine.close()
    assert caught.value.where == f"{data}:{shard * SHARD_ROWS + 1}-{(shard + 1) * SHARD_ROWS}"
    assert SECRET not in str(caught.value) + logs_of(cluster)
    assert not list(folder.path.glob(".*"))


@pytest.mark.slow
def test_a_worker_that_cannot_load_says_so_by_its_host(
    cluster: Any, data: Path, tmp_path: Path
) -> None:
    settings = replace(settings_for(cluster), toxic_set="none")
    with pytest.raises(
        SaefilterError, match=rf"{os.uname().nodename}: there is no toxic set 'none'"
    ):
        score_file(open_input(data), tmp_path / "s.parquet", settings)
    assert [path.name for path in tmp_path.iterdir()] == [data.name]


@pytest.mark.slow
def test_ctrl_c_leaves_what_this_machine_can_finish(
    cluster: Any, data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "s.parquet"
    command = [sys.executable, "-m", "saefilter", "score", data.name, "-o", output.name,
               "--shard-rows", "1", "--dtype", "fp32", "--device", "cpu"]  # fmt: skip
    on_ray = ["--engine", "ray", "--address", cluster.address, "--workers", "1"]
    running = subprocess.Popen([*command, *on_ray], cwd=tmp_path, text=True, start_new_session=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    while not (work_folder(output) / "000001.json").exists():
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert "shards are safe" in errors
    assert not list(work_folder(output).glob(".*"))
    settings = replace(settings_for(cluster), shard_rows=1)
    said: list[str] = []
    score_file(open_input(data), output, local(settings), resume=True, watch=Watch(said.append))
    assert any("shards are done" in line for line in said)
    assert Scores.open(output).provenance.rows == N_ROWS


def test_without_ray_the_message_names_the_command(data: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "from saefilter.cli import main; sys.argv[0] = 'saefilter'; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "score", data.name, "--engine", "ray"], cwd=tmp_path, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "pip install 'saefilter[ray]'" in done.stderr
    assert "torch" not in done.stderr


def test_room_is_one_worker_per_gpu_or_by_cpus() -> None:
    def nodes(*resources: dict[str, float]) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": one} for one in resources]

    plain = ScoreSettings(engine="ray")
    gpus = nodes({"CPU": 4}, {"CPU": 64, "GPU": 8})
    assert room_for(gpus, plain) == Room(8, 8, 1)
    assert room_for(nodes({"CPU": 4, "GPU": 2}), plain) == Room(2, 2, 1)
    assert room_for(gpus, replace(plain, device="cpu")) == Room(17, 4, 0)
    assert room_for(nodes({}, {"CPU": 64}, {"CPU": 20}), plain) == Room(10, 8, 0)
    assert room_for(nodes({"CPU": 2}), replace(plain, workers=2)) == Room(2, 1, 0)
    with pytest.raises(SaefilterError, match=r"no node .* has 5 CPUs"):
        room_for(nodes({"CPU": 4}), replace(plain, cpus_per_worker=5))


def test_options_of_ray_need_ray() -> None:
    with pytest.raises(SaefilterError, match="--address has no effect without --engine ray"):
        ScoreSettings(address="auto")
    with pytest.raises(SaefilterError, match="GPU of its own"):
        ScoreSettings(engine="ray", device="cuda:1")


def test_a_folder_that_a_host_does_not_see(tmp_path: Path, data: Path) -> None:
    job, mark = Job(open_input(data), ScoreSettings(), tmp_path, "f"), Mark.new()
    mark.leave(job)
    assert mark.unseen(job) is None
    problem = mark.unseen(replace(job, folder=tmp_path / "elsewhere"))
    assert problem is not None
    assert "elsewhere is not to be seen there. Put the scores (-o)" in str(problem)
    mark.remove(job)
    assert list(tmp_path.iterdir()) == [data]
    job = replace(job, folder=RemotePath("nowhere://bucket/s.parquet.shards"))
    problem = mark.unseen(job)  # told, not raised: a worker that raises is given up as lost
    assert problem is not None
    assert "nowhere:// is not known to fsspec" in str(problem)
    mark.remove(job)


@pytest.mark.slow
def test_a_host_with_another_torch_is_refused(cluster: Any, data: Path, tmp_path: Path) -> None:
    shadow = tmp_path / "shadow"
    (shadow / "torch-0.0.1.dist-info").mkdir(parents=True)
    (shadow / "torch-0.0.1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: torch\nVersion: 0.0.1\n"
    )
    path = os.pathsep.join([str(shadow), os.environ.get("PYTHONPATH", "")])
    node = cluster.add_node(num_cpus=2, env_vars={"PYTHONPATH": path})
    try:
        with pytest.raises(SaefilterError, match=r": torch 0\.0\.1 there, .* here"):
            score_file(open_input(data), tmp_path / "s.parquet", settings_for(cluster))
    finally:
        cluster.remove_node(node)
    assert not work_folder(tmp_path / "s.parquet").exists()
