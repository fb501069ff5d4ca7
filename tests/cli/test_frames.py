"""How deep the main path is: few hops from a command to the model's forward pass."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from conftest import chat
from torch.nn.modules.module import register_module_forward_pre_hook
from typer.testing import CliRunner

import saefilter

PACKAGE = str(Path(saefilter.__file__).parent)
MOST = 15
"""10; and which work is done with a shard, equal texts read once (two), rows that may end at an earlier layer (two)."""


def ours(frame: FrameType | None) -> list[str]:
    """Functions of the package on a thread's stack, innermost first."""
    names = []
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            names.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}")
        frame = frame.f_back
    return names


def test_few_frames_from_the_command_to_the_forward_pass(jsonl: Any, tmp_path: Path) -> None:
    from saefilter.cli import app, commands

    commands()
    seen: list[list[str]] = []

    def look(_module: Any, _inputs: Any) -> None:
        if seen or not threading.current_thread().name.startswith("saefilter-lane"):
            return
        frames = sys._current_frames()
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        shards = [
            ours(frame)
            for ident, frame in frames.items()
            if names.get(ident, "").startswith("saefilter-shard")
        ]
        main = threading.main_thread().ident
        assert main is not None
        encoding = max(shards, key=lambda stack: ("encoder.py:encode" in stack, len(stack)))
        seen.append([*ours(sys._getframe(1)), *encoding, *ours(frames[main])])

    # with a device map it is transformers' class: the restated BERT is no module that a hook sees
    data = jsonl([chat(f"q{i}", f"Answer {i} is this.") for i in range(4)])
    handle = register_module_forward_pre_hook(look)
    try:
        done = CliRunner().invoke(
            app,
            ["score", str(data), "-o", str(tmp_path / "s.parquet"), "--device-map", "cpu", "-q"],
            catch_exceptions=False,
        )
    finally:
        handle.remove()
    assert done.exit_code == 0, done.output
    (stack,) = seen
    assert "score.py:score" in stack  # the command itself
    assert "score.py:score_file" in stack
    assert any(name.startswith("model.py:") for name in stack)
    assert len(stack) <= MOST, "\n".join(reversed(stack))
