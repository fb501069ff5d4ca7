"""What `score --engine ray` costs beside the local engine, and what it does when workers and nodes go.

    python -m benchmarks.ray_engine [--rows 20000] [--workers 2] [--runs 1] [--losses 5]
        [--shard-rows 250]

Scored with `minilm`, each command a process of its own: by worker processes of this machine, and by as
many workers of a Ray cluster of one node, in turn; then on three nodes while workers are killed and nodes
removed at random moments; then begun locally, killed (SIGKILL), and finished with Ray. All scores are
compared with the first ones. Needs the extra ray.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from ray.cluster_utils import Cluster

from benchmarks.common import user_environment
from benchmarks.throughput.machine import describe
from saefilter.artifacts.scores import Scores
from saefilter.scoring.workfolder import work_folder

RESULTS = Path("benchmarks/results/ray_engine.json")
SHARD_ROWS = 250
"""Few, so that a lost worker is one of many moments of a run."""
TEXT = "please tell me how to water the small green plants near our old house every week and why"


def write_rows(path: Path, count: int) -> None:
    """Chat rows of ten to forty words, each of them different."""
    rng, words = random.Random(0), TEXT.split()
    with open(path, "w") as file:
        for number in range(count):
            asked, answer = (" ".join(rng.choices(words, k=rng.randrange(5, 20))) for _ in "qa")
            messages = [{"role": "user", "content": f"{asked} {number}?"},
                        {"role": "assistant", "content": f"{answer} {number}."}]  # fmt: skip
            file.write(json.dumps({"messages": messages}) + "\n")


@contextmanager
def cluster_of(nodes: int, cpus: int) -> Iterator[Any]:
    """A head for the driver, and nodes with so many logical CPUs each."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=cpus)
        yield cluster
    finally:
        cluster.shutdown()


def begin(folder: Path, name: str, shard_rows: int, *options: str) -> subprocess.Popen[str]:
    """`saefilter score` in a process of its own."""
    command = ["score", "rows.jsonl", "-o", name, "--preset", "minilm", "--device", "cpu",
               "--dtype", "fp32", "--shard-rows", str(shard_rows), *options]  # fmt: skip
    with open(folder / "said.txt", "w") as said:
        return subprocess.Popen([sys.executable, "-m", "saefilter", *command], cwd=folder, text=True,
                                env=user_environment(), stdout=said, stderr=said)  # fmt: skip


def end(running: subprocess.Popen[str], folder: Path) -> list[str]:
    """What it said. Raises SystemExit when it failed."""
    code = running.wait()
    said = (folder / "said.txt").read_text()
    if code:
        raise SystemExit(f"saefilter failed:\n{said}")
    return [line for line in said.splitlines() if line.startswith("Ray:")]


def timed(folder: Path, name: str, shard_rows: int, *options: str) -> dict[str, float]:
    """Seconds of the whole command, those in which any shard was at hand, and the CPU's, which others on
    the machine disturb less; these with the cluster's own processes."""
    started, before = time.perf_counter(), cpu_seconds()
    running, spent = begin(folder, name, shard_rows, *options, "--overwrite"), {}
    while running.poll() is None:
        spent.update(cpu_seconds())
        time.sleep(0.1)
    wall = time.perf_counter() - started
    end(running, folder)
    made = Scores.open(folder / name).provenance
    cpu = sum(seconds - before.get(pid, 0.0) for pid, seconds in spent.items())
    return {"wall": round(wall, 2), "scoring": round(made.seconds, 2), "cpu": round(cpu, 2)}


def cpu_seconds() -> dict[int, float]:
    """Of each process that this one has begun, or one of those."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            times = process.cpu_times()
            found[process.pid] = times.user + times.system
    return found


def difference(one: Path, other: Path) -> float:
    """Largest difference of two distances. Raises SystemExit unless the same rows have the same fate."""
    ours, theirs = Scores.open(one), Scores.open(other)
    names = ["row_id", "row_hash", "status", "reason"]
    if ours.provenance.fingerprint != theirs.provenance.fingerprint:
        raise SystemExit(f"{other.name} has another fingerprint")
    if not ours.read(names).equals(theirs.read(names)):
        raise SystemExit(f"{other.name} has other rows")
    a, b = (scores.read(["distance"])["distance"].to_numpy() for scores in (ours, theirs))
    return float(np.nanmax(np.abs(a - b)))


def shards_done(output: Path) -> int:
    return len(list(work_folder(output).glob("0*.json")))


def lose(cluster: Any, rng: random.Random, *, node: bool) -> str:
    """Remove a node and add another one, or kill a worker."""
    workers = [one for one in psutil.Process().children(recursive=True)
               if "RayWorker" in " ".join(one.cmdline()[:1])]  # fmt: skip
    if workers and not node:
        rng.choice(workers).kill()
        return "worker"
    cluster.remove_node(rng.choice(sorted(cluster.worker_nodes, key=str)), allow_graceful=False)
    cluster.add_node(num_cpus=1)
    return "node"


def disturbed(folder: Path, rows: int, shard_rows: int, losses: int) -> dict[str, Any]:
    """A run that loses workers and nodes."""
    rng, output = random.Random(1), folder / "disturbed.parquet"
    shards = -(-rows // shard_rows)
    moments = sorted(rng.uniform(0.05, 0.8) * shards for _ in range(losses))
    what = []
    with cluster_of(3, 1) as cluster:
        on_ray = ["--engine", "ray", "--address", cluster.address, "--cpus-per-worker", "1"]
        running = begin(folder, output.name, shard_rows, *on_ray)
        while running.poll() is None and moments:
            if shards_done(output) >= moments[0]:
                moments.pop(0)
                what.append(lose(cluster, rng, node=len(what) % 2 == 0))
            time.sleep(0.05)
        said = end(running, folder)
    return {"lost": what, "said": said[-1]}


def moved(folder: Path, rows: int, shard_rows: int) -> dict[str, Any]:
    """A run that is begun locally, killed, and finished with Ray."""
    output = folder / "moved.parquet"
    running = begin(folder, output.name, shard_rows)
    while running.poll() is None and shards_done(output) < rows // shard_rows // 3:
        time.sleep(0.05)
    running.kill()
    running.wait()
    done = shards_done(output)
    with cluster_of(2, 1) as cluster:
        on_ray = ["--engine", "ray", "--address", cluster.address, "--cpus-per-worker", "1"]
        end(begin(folder, output.name, shard_rows, *on_ray, "--resume"), folder)
    return {"shards done locally": done, "shards": -(-rows // shard_rows)}


def measure(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All of it."""
    write_rows(folder / "rows.jsonl", asked.rows)
    workers = ["--workers", str(asked.workers)]
    times: dict[str, list[dict[str, float]]] = {"local": [], "ray": []}
    with cluster_of(1, asked.workers) as cluster:
        on_ray = ["--engine", "ray", "--address", cluster.address, "--cpus-per-worker",
                  str(max(1, (os.cpu_count() or 1) // asked.workers))]  # fmt: skip
        for _ in range(asked.runs):
            for name, options in (("local", []), ("ray", on_ray)):
                times[name].append(
                    timed(folder, f"{name}.parquet", asked.shard_rows, *workers, *options)
                )
                print(name, times[name][-1], os.getloadavg(), file=sys.stderr, flush=True)
    medians = {
        name: {kind: statistics.median(run[kind] for run in runs) for kind in runs[0]}
        for name, runs in times.items()
    }
    found: dict[str, Any] = {
        "times": times,
        "overhead": {
            kind: round(medians["ray"][kind] / medians["local"][kind] - 1, 3)
            for kind in medians["ray"]
        },
    }
    compared = ["ray"]
    if asked.losses:
        found["disturbed"] = disturbed(folder, asked.rows, asked.shard_rows, asked.losses)
        found["moved"] = moved(folder, asked.rows, asked.shard_rows)
        compared += ["disturbed", "moved"]
    found["largest difference of a distance"] = {
        name: difference(folder / "local.parquet", folder / f"{name}.parquet") for name in compared
    }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ray_engine", description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--losses", type=int, default=5, help="0: times alone")
    parser.add_argument("--shard-rows", type=int, default=SHARD_ROWS)
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE", help=f"[{RESULTS}]")
    asked = parser.parse_args()
    load = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="ray-engine-") as name:
        found = {"machine": describe(torch.device("cpu")), "rows": asked.rows,
                 "workers": asked.workers, "load before": load,
                 **measure(asked, Path(name)), "load after": os.getloadavg()}  # fmt: skip
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
