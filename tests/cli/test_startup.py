"""What starts fast must not import what is slow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "datasets", "faiss", "sae_lens", "sklearn", "scipy")


def loaded_after(code: str) -> set[str]:
    """Heavy modules in a fresh interpreter after running `code`."""
    probe = f"""
import sys
sys.argv = ["saefilter"]
{code}
print("loaded:" + ",".join(name for name in {HEAVY!r} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(filter(None, done.stdout.rpartition("loaded:")[2].strip().split(",")))


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["score"],
        ["scores"],
        ["scores", "merge"],
        ["filter"],
        ["presets"],
        ["presets", "show"],
        ["doctor"],
        ["tokens"],
        ["features"],
        ["features", "curate"],
        ["features", "show"],
        ["features", "remove"],
        ["features", "steer"],
        ["geometry"],
        ["compare"],
        ["verify"],
    ],
    ids=" ".join,
)
def test_help_imports_nothing_heavy_and_shows_an_example(command: list[str]) -> None:
    code = f"""
from saefilter.cli import main
sys.argv += {[*command, "--help"]!r}
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""
    assert loaded_after(code) == set()
    done = subprocess.run(
        [sys.executable, "-m", "saefilter", *command, "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Example: saefilter" in done.stdout


def test_filtering_needs_no_model() -> None:
    code = "import saefilter.filtering.filter, saefilter.cli.filter, saefilter.scoring.score"
    assert loaded_after(code) <= {"scipy"}
    assert loaded_after("import saefilter.filtering.filter, saefilter.rows.inputs") == set()
    assert loaded_after("import saefilter.verify.verify, saefilter.cli.verify") == set()


def test_merging_needs_no_model() -> None:
    assert loaded_after("import saefilter.scoring.merge, saefilter.cli.scores") <= {"scipy"}


def test_comparing_by_distance_needs_no_model() -> None:
    code = "import saefilter.compare.compare, saefilter.report.compare, saefilter.cli.compare"
    assert loaded_after(code) == set()


ENDING = """
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from saefilter.cli import _leave_at_once
from saefilter.scoring.processes import be_a_worker

if __name__ == "__main__":
    pool = ProcessPoolExecutor(2, get_context("spawn"), be_a_worker)
    pool.submit(int).result()
    try:
        raise SystemExit(3)
    except SystemExit as done:
        _leave_at_once(done)
        raise
"""


def test_a_command_ends_though_it_has_processes(tmp_path: Path) -> None:
    """As a model command on a GPU may: what is not closed must not be waited for in the wrong order."""
    (tmp_path / "ending.py").write_text(ENDING)
    done = subprocess.run([sys.executable, str(tmp_path / "ending.py")], timeout=120, check=False)
    assert done.returncode == 3
