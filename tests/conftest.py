"""Shared fixtures: an offline environment and small real files."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

# before anything imports huggingface_hub: a cache of the tests' own, and no network
SCRATCH = tempfile.mkdtemp(prefix="saefilter-tests-")
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)
os.environ["HF_HOME"] = f"{SCRATCH}/huggingface"
os.environ["SAEFILTER_CACHE"] = f"{SCRATCH}/saefilter"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("NO_COLOR", "1")

import json  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import pytest  # noqa: E402


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Write rows (dicts, or bytes for damaged lines) as a JSONL file."""

    def write(rows: list[Any], name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        lines = [
            row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode()
            for row in rows
        ]
        path.write_bytes(b"\n".join(lines) + b"\n")
        return path

    return write


@pytest.fixture(scope="session")
def real_smollm2() -> Path:
    """The folder of SmolLM2-135M-Instruct; also in the tests' hub cache, where its preset looks."""
    models = os.environ.get("SAEFILTER_REAL_MODELS")
    how = "python examples/smollm2.py FOLDER makes the model, then SAEFILTER_REAL_MODELS=FOLDER"
    if not models:
        pytest.skip(f"needs the real SmolLM2-135M-Instruct: {how}")
    folder = Path(models) / "smollm2-135m-instruct"
    if not (folder / "model.safetensors").is_file():
        pytest.fail(f"SAEFILTER_REAL_MODELS is set, and there is no model in {folder}: {how}")
    from checkpoints import into_cache

    return into_cache(folder, "HuggingFaceTB/SmolLM2-135M-Instruct")


def chat(question: str, answer: str) -> dict[str, Any]:
    """A row in TRL's `messages` form."""
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }
