"""What starts fast must not import what is slow."""

from __future__ import annotations

import subprocess
import sys

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
    code = "import saefilter.run.filter, saefilter.cli.filter, saefilter.run.score"
    assert loaded_after(code) <= {"scipy"}
    assert loaded_after("import saefilter.run.filter, saefilter.rows.inputs") == set()
    assert loaded_after("import saefilter.run.verify, saefilter.cli.verify") == set()


def test_comparing_by_distance_needs_no_model() -> None:
    code = "import saefilter.compare.compare, saefilter.report.compare, saefilter.cli.compare"
    assert loaded_after(code) == set()
