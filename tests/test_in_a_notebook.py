"""A real notebook: its progress bar, and what results look like there."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

CELLS = [
    "import saefilter, pandas as pd\nframe = pd.read_json('advice.jsonl', lines=True)",
    "scores = saefilter.score(frame)\nscores",
    "result = saefilter.filter(frame, scores, drop_frac=0.1)\nresult",
    "pd.testing.assert_frame_equal(result.kept, frame.iloc[result.kept_ids])\n"
    "saefilter.check(frame, scores, max_flagged='50%')",
    "saefilter.score(frame, progress=False) and None",
]


@pytest.fixture
def executed(tmp_path: Path) -> Any:
    """The notebook's cells after they ran, in a kernel of this Python."""
    advice = Path(__file__).parents[1] / "examples/advice.jsonl"
    lines = advice.read_bytes().splitlines(keepends=True)
    (tmp_path / "advice.jsonl").write_bytes(b"".join(lines[120:180]))  # others are damaged
    kernels = tmp_path / "kernels" / "own"
    kernels.mkdir(parents=True)
    (kernels / "kernel.json").write_text(
        json.dumps(
            {
                "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                "display_name": "own", "language": "python",
            }
        )
    )  # fmt: skip
    manager = KernelManager(
        kernel_name="own",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(kernels.parent)]),
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in CELLS])
    client = nbclient.NotebookClient(
        notebook, km=manager, timeout=120, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env={**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")})
    return notebook.cells


def data_of(cell: Any, kind: str) -> str:
    return "".join(str(one["data"][kind]) for one in cell.outputs if kind in one.get("data", {}))


@pytest.mark.slow
def test_a_notebook_has_a_bar_and_shows_results(executed: Any) -> None:
    _, scored, filtered, checked, quiet = executed
    assert "Scoring" in data_of(scored, "text/plain")
    assert "Scores(60 rows: 60 scored, 0 quarantined; minilm" in data_of(scored, "text/plain")
    assert "<svg" in data_of(scored, "text/html")
    assert "The closest rows" in data_of(scored, "text/html")
    assert "Filtered(54 kept, 6 dropped, 0 quarantined; each a DataFrame)" in data_of(
        filtered, "text/plain"
    )
    assert "54 rows kept, 6 dropped, 0 quarantined" in data_of(filtered, "text/html")
    assert "PASS: 60 of 60 rows scored" in data_of(checked, "text/html")
    assert quiet.outputs == []
    errors = [one for cell in executed for one in cell.outputs if one.get("name") == "stderr"]
    assert errors == []
