"""The Ray cluster that shards are scored on: found or started, and how many workers it has room for."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from saefilter.errors import SaefilterError

if TYPE_CHECKING:
    from saefilter.settings import ScoreSettings

MOST_CPUS = 8
"""Per worker, where nobody says: more threads help a small model little."""


class Room(NamedTuple):
    """How many workers there are, and what each takes."""

    workers: int
    cpus: int
    gpus: int
    """1, or 0 where the cluster has none or the CPU was asked for."""


def import_ray() -> Any:
    """Raises SaefilterError where Ray is not installed."""
    try:
        import ray
    except ImportError as error:
        raise SaefilterError(
            "--engine ray needs the package ray", remedy="pip install 'saefilter[ray]'"
        ) from error
    return ray


def connect(ray: Any, address: str | None) -> bool:
    """Connect to the cluster at `address`, else that of RAY_ADDRESS, else a local one started for it;
    False where the program is connected already, and to that cluster it stays.

    Raises SaefilterError where there is none.
    """
    if ray.is_initialized():
        return False
    # under `uv run` Ray would send the working folder, data and all, to every host
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # what a lost worker was asked last
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    local = {"include_dashboard": False} if address == "local" else {}
    try:
        with _without_a_word(), _own_signals():
            ray.init(
                address=address, log_to_driver=False, configure_logging=False,
                logging_level="error", **local,
            )  # fmt: skip
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise SaefilterError(
            f"no Ray cluster at {address} ({reason})",
            remedy="Start one (`ray start --head`), or name another by --address.",
        ) from error
    return True


@contextmanager
def _without_a_word() -> Iterator[None]:
    """Ray tells of each cluster that it starts, also where --quiet asks for errors alone."""
    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself; that is the run's, which leaves what can be resumed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def room_for(nodes: list[dict[str, Any]], settings: ScoreSettings) -> Room:
    """What Ray says of its nodes, as room for workers: one per GPU, else as many as the CPUs allow; with
    --workers so many, whether or not the nodes for them are there yet.

    Raises SaefilterError where there is no room for any.
    """
    resources = [node.get("Resources", {}) for node in nodes if node.get("Alive", True)]
    cpus = [int(one.get("CPU", 0)) for one in resources]
    gpus = sum(int(one.get("GPU", 0)) for one in resources)
    workers = settings.workers
    if settings.device != "cpu" and (gpus or settings.device == "cuda"):
        # Ray gives a worker as many OpenMP threads as CPUs, and what is not on the GPU needs some
        shares = [int(one.get("CPU", 0) // one["GPU"]) for one in resources if one.get("GPU")]
        size = settings.cpus_per_worker or max(1, min([MOST_CPUS, *shares]))
        each = Room(workers or gpus, size, 1)
    else:
        smallest = min((count for count in cpus if count), default=1)
        share = sum(cpus) // workers if workers else MOST_CPUS
        size = settings.cpus_per_worker or max(1, min(MOST_CPUS, smallest, share))
        each = Room(workers or sum(count // size for count in cpus), size, 0)
    if not each.workers:
        needs = f"{each.cpus} CPUs" if not each.gpus else "a GPU"
        raise SaefilterError(
            f"no node of the Ray cluster has {needs}",
            remedy="Give fewer --cpus-per-worker; where nodes come on demand, say how many --workers.",
        )
    return each
