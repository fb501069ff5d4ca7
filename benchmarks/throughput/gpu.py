"""All of a GPU's figures by one command, within a time: steps.py in turn, each in its own process and
stopped when its time is up. What is done stands in the results at once, and is not done again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import put_between
from benchmarks.throughput.machine import in_words
from benchmarks.throughput.steps import STEPS, Step

MINUTES = 40.0
LEAST_SECONDS = 20.0
"""With less than this left, a step is not begun."""
MARKER = "<!-- gpu: written by benchmarks.throughput on a GPU -->"
NOT_MEASURED = "not measured"
SMOKE = "(smoke test on a CPU, tiny sizes: means nothing) "


def run_all(
    results: Path,
    *,
    minutes: float = MINUTES,
    names: Sequence[str] = (),
    again: bool = False,
    smoke: bool = False,
    data: Sequence[Path] = (),
    keep: Path | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Run the steps, or those of `names`, for so many minutes in all; returns all entries.

    `keep`: a folder for checkpoints, which then stay for a later call; tens of gigabytes.

    Steps that have a figure in `results` are left out unless `again`. Raises SystemExit for a name that
    no step has.
    """
    if unknown := set(names) - {step.name for step in STEPS}:
        raise SystemExit(
            f"no step {', '.join(sorted(unknown))}; there are {', '.join(s.name for s in STEPS)}"
        )
    entries = load(results)
    if not smoke and not torch.cuda.is_available():
        say("There is no GPU: nothing was measured.")
        return entries
    end = time.monotonic() + 60 * minutes
    todo = [
        step for step in STEPS
        if (not names or step.name in names)
        and (again or not _is_done(entries.get(step.name, {}), smoke))
    ]  # fmt: skip
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="throughput-")
        if keep is None
        else nullcontext(str(keep.resolve()))
    ) as work:
        for position, step in enumerate(todo):
            # what earlier steps left of their minutes is for all that come after
            later = sum(60 * one.minutes for one in todo[position + 1 :])
            left = end - time.monotonic()
            seconds = min(left, max(60 * step.minutes, left - later))
            say(f"{step.name}: {step.title} ({seconds:.0f} s at most)")
            entries[step.name] = (
                run_step(step, Path(work), seconds, smoke, data, say)
                if seconds >= LEAST_SECONDS
                else {"problem": f"no time was left of {minutes:.0f} minutes"}
            )
            say(f"  {told(entries[step.name])}")
            save(results, entries)
            done_with = step.shape and step.shape not in {o.shape for o in todo[position + 1 :]}
            if done_with and keep is None:
                shutil.rmtree(Path(work) / step.shape, ignore_errors=True)  # tens of gigabytes
    return entries


def run_step(
    step: Step, folder: Path, seconds: float, smoke: bool, data: Sequence[Path],
    say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """One step's entry; it says why where there is no figure."""
    out = folder / f"{step.name}.json"
    out.unlink(missing_ok=True)  # of a call before
    command = [
        sys.executable, "-m", "benchmarks.throughput.step", step.name, "--folder", str(folder),
        "--seconds", str(seconds), "--out", str(out), *(["--smoke"] if smoke else []),
        "--parent", str(os.getpid()), "--data", *map(str, data),
    ]  # fmt: skip
    started = time.monotonic()
    log = folder / f"{step.name}.log"
    with open(log, "w", encoding="utf-8") as file:
        # a session of its own: what it starts, a whole `saefilter score`, ends with it
        process = subprocess.Popen(command, stderr=file, stdout=file, start_new_session=True)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            problem = f"stopped after {seconds:.0f} s, its time"
        else:
            problem = f"exit code {process.returncode}"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    said = log.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in said:
        say(f"  | {line}")
    if process.returncode or not out.exists():
        last = said[-1][:160] if said and process.returncode > 0 else ""
        return {
            "problem": f"{problem}{': ' if last else ''}{last}",
            "took": time.monotonic() - started,
        }
    fields: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return fields | {"took": time.monotonic() - started}


def _is_done(entry: dict[str, Any], smoke: bool) -> bool:
    return "figure" in entry and bool(entry.get("smoke")) == smoke


def told(entry: dict[str, Any]) -> str:
    """A step's figure in words, or why there is none."""
    if figure := entry.get("figure"):
        return f"{SMOKE if entry.get('smoke') else ''}{figure}"
    return f"{NOT_MEASURED}: {entry['problem']}" if entry.get("problem") else NOT_MEASURED


def load(results: Path) -> dict[str, Any]:
    """Entries of before; none where there is no file."""
    entries: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    return entries


def save(results: Path, entries: dict[str, Any]) -> None:
    """By way of a file beside it, so that a stop at any moment leaves a whole one."""
    results.parent.mkdir(parents=True, exist_ok=True)
    beside = results.with_suffix(".part")
    beside.write_text(json.dumps(entries, indent=1) + "\n")
    beside.replace(results)


def table(entries: dict[str, Any]) -> str:
    """For docs/performance.md."""
    lines = ["| what | wanted | measured |", "| --- | --- | --- |"]
    lines += [
        f"| {step.title} | {step.wanted} | {told(entries.get(step.name, {}))} |" for step in STEPS
    ]
    machines = {in_words(entry["machine"]): None for entry in entries.values() if "figure" in entry}
    return "\n".join([*machines, *([""] if machines else []), *lines])


def write_table(page: Path, entries: dict[str, Any]) -> None:
    """Replace what stands between the markers of a document."""
    put_between(page, MARKER, table(entries))
