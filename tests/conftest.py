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


def chat(question: str, answer: str) -> dict[str, Any]:
    """A row in TRL's `messages` form."""
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }
