"""What a plain installation does without the extras, and the one line where it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXTRAS = (
    "sae_lens",
    "transformer_lens",
    "datasets",
    "pandas",
    "aiohttp",
    "accelerate",
    "openai",
    "ray",
)
"""Modules that only extras bring, which a development environment has."""
ADVICE = Path(__file__).parents[2] / "examples" / "advice.jsonl"


def plainly(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run saefilter as where no extra is installed: the importer finds everything but those."""
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "class Without(PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        f"        return None if name in {EXTRAS!r} else super().find_spec(name, path, target)\n"
        "sys.meta_path[sys.meta_path.index(PathFinder)] = Without\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "saefilter", *arguments],
        cwd=folder, capture_output=True, text=True,
        env={
            **os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
            "SAEFILTER_CACHE": str(folder / "cache"), "HF_HOME": str(folder / "hf"),
        },
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_the_default_scores_filters_and_checks_without_extras(tmp_path: Path) -> None:
    lines = ADVICE.read_bytes().splitlines()[:40]
    (tmp_path / "data.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    plainly(tmp_path, "score", "data.jsonl")
    plainly(tmp_path, "filter", "data.jsonl", "--drop-frac", "0.1", "-o", "kept.jsonl")
    assert len((tmp_path / "kept.jsonl").read_text(encoding="utf-8").splitlines()) == 36
    said = plainly(tmp_path, "check", "data.jsonl", "--max-flagged", "100%", "--format", "json")
    assert json.loads(said.stdout)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("features", "neighbours", "7", "--preset", "gemma-2-2b"), "Run: pip install 'saefilter[sae]'"),
        (("score", "data.jsonl", "--preset", "gemma-2-2b"), "Run: pip install 'saefilter[sae]'"),
        (("score", "someone/some-data"), "run: pip install 'saefilter[hub]'"),
        (("score", "https://127.0.0.1:9/data.jsonl"), "pip install 'saefilter[hub]'"),
    ],
    ids=["neighbours", "preset", "hub", "web"],
)  # fmt: skip
def test_what_needs_an_extra_says_in_one_line_what_to_type(
    tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    (tmp_path / "data.jsonl").write_text('{"prompt": "q", "completion": "a"}\n')
    done = plainly(tmp_path, *arguments, code=2)
    (error,) = (line for line in done.stderr.splitlines() if line.startswith("saefilter: "))
    assert says in error
    assert "Traceback" not in done.stderr
