"""The theory's examples run, and find what the documentation says of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "superposition"


@pytest.mark.slow
def test_measured_change_follows_the_geometry(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(FOLDER / "toy.py"), "-o", str(tmp_path)], check=True)
    found = json.loads((tmp_path / "toy.json").read_text())
    assert found["stored"] > found["dimensions"]
    assert found["r"] > 0.95
    assert found["seconds"] < 180
    assert "<circle" in (tmp_path / "toy.svg").read_text()
