"""The right to write an output in a store, where no operating system lets go of a lock when a process ends.

It is an object beside the output that says who writes, made only if there is none, and said anew while
the run lives. One that nobody has said anew for a while is of a run that was killed, and is taken over.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from saefilter.errors import SaefilterError
from saefilter.storage import RemotePath

BEAT = 30.0
"""Seconds after which a run says anew that it lives."""
STALE = 300.0
"""Seconds without a word after which it counts as killed; clocks of two machines may differ a little."""
SETTLE = 1.0
"""Seconds after which a lock that was taken over is looked at again: another one may have taken it too."""

_held: dict[RemotePath, str] = {}
"""Locks of this process, with their tokens."""


@contextmanager
def leased(output: RemotePath) -> Iterator[None]:
    """Hold the right to write `output`. Raises SaefilterError when another run has it."""
    lock, token = _lock_of(output), uuid.uuid4().hex
    _acquire(lock, token, output)
    _held[lock] = token
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(lock, token, ended), daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        del _held[lock]
        with suppress(SaefilterError):  # it goes stale by itself
            if (_read(lock) or {}).get("token") == token:
                lock.unlink(missing_ok=True)


def refuse_lost(output: RemotePath) -> None:
    """Raises SaefilterError when this process had the right to write `output` and another run has taken it,
    after it heard nothing from this one for too long."""
    lock = _lock_of(output)
    token = _held.get(lock)
    if token is not None and (_read(lock) or {}).get("token") not in (token, None):
        raise SaefilterError(
            f"another run has taken over {output}, since it heard nothing of this one for "
            f"{STALE / 60:.0f} minutes",
            remedy="Leave it to that run.",
        )


def _lock_of(output: RemotePath) -> RemotePath:
    return output.with_name(f".{output.name}.lock")


def _says(token: str) -> bytes:
    now = {
        "host": socket.gethostname(), "processes": _processes(), "process": os.getpid(),
        "token": token, "alive": time.time(),
    }  # fmt: skip
    return json.dumps(now).encode()


def _processes() -> str:
    """Among which ones this process has its number: containers may share the host's name, not these."""
    with suppress(OSError):  # not every system has it
        return os.readlink("/proc/self/ns/pid")
    return ""


def _read(lock: RemotePath) -> dict[str, Any] | None:
    """What a lock says; None where there is none."""
    try:
        said = json.loads(lock.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _acquire(lock: RemotePath, token: str, output: RemotePath) -> None:
    for _ in range(3):
        if lock.create(_says(token)):
            return
        other = _read(lock)
        if other is None:
            continue
        if other.get("token") == token:  # the answer to our own request was lost
            return
        if not _is_abandoned(lock, other):
            raise _another(lock, other, output)
        if _read(lock) == other:
            lock.unlink(missing_ok=True)
            if lock.create(_says(token)):
                time.sleep(SETTLE)
                if (_read(lock) or {}).get("token") == token:
                    return
    raise _another(lock, _read(lock) or {}, output)


def _is_abandoned(lock: RemotePath, other: dict[str, Any]) -> bool:
    """Whether the run that made a lock has ended: its process, where it was on this machine, or else it
    has said nothing for long."""
    if (other.get("host"), other.get("processes")) == (socket.gethostname(), _processes()):
        import psutil

        process = other.get("process")
        if process == os.getpid():
            return lock not in _held
        if isinstance(process, int) and not psutil.pid_exists(process):
            return True
    return _silent_for(other) > STALE


def _silent_for(other: dict[str, Any]) -> float:
    try:
        return time.time() - float(other["alive"])
    except (KeyError, TypeError, ValueError):
        return STALE + 1  # not a lock of ours, or damaged


def _another(lock: RemotePath, other: dict[str, Any], output: RemotePath) -> SaefilterError:
    silent = max(0.0, _silent_for(other))
    who = f" (process {other.get('process')} on {other.get('host')}, {silent:.0f} s ago)"
    return SaefilterError(
        f"another run is writing {output}{who}",
        remedy="Wait for it to end, or choose another name with -o. If it was killed, its lock is "
        f"taken over {STALE / 60:.0f} minutes after its last word; or remove {lock}.",
    )


def _beat(lock: RemotePath, token: str, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        with suppress(SaefilterError):  # the next beat tries again
            if (_read(lock) or {}).get("token") != token:
                return  # taken over: refuse_lost will say so
            lock.write_bytes(_says(token))
