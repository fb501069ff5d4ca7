"""When memory does not suffice: batches are halved, and the run goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def encode_with(mebibytes: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("short_of_memory.py")), str(mebibytes)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_batch_that_does_not_fit_is_halved_and_the_budget_with_it() -> None:
    plenty = encode_with(0)
    assert plenty["limit"] is None
    short = encode_with(40)
    assert short["limit"] is not None
    assert short["limit"] < 24 * 400
    assert short["sums"][0] == pytest.approx(plenty["sums"][0], rel=1e-3)
