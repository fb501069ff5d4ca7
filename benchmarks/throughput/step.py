"""One step in a process of its own: an error or a lack of memory in it leaves the others alone.

python -m benchmarks.throughput.step NAME --folder FOLDER --seconds S --out FILE [--smoke] [--parent PID] [--data FILE ...]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from transformers.utils import logging as hf_logging

from benchmarks.throughput.machine import describe
from benchmarks.throughput.steps import STEPS, Asked
from saefilter.errors import SaefilterError

ROUNDS_UNTIL = 0.7
"""Share of a step's time after which it begins no further round."""


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def end_with(parent: int) -> None:
    """End, with all that was started, when the process that began this step is gone, however it ended:
    a card must not be busy for nobody. Needs a process group of its own."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.killpg(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput.step")
    parser.add_argument("name", choices=[step.name for step in STEPS])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--parent", type=int, help="process without which to stop [none]")
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    given = parser.parse_args()
    if given.parent:
        end_with(given.parent)
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()
    step = next(step for step in STEPS if step.name == given.name)
    until = time.monotonic() + ROUNDS_UNTIL * given.seconds
    asked = Asked(given.folder, given.smoke, tuple(given.data), until, say)
    try:
        fields = step.run(asked, step)
    except (FileNotFoundError, SaefilterError) as error:
        fields = {"problem": str(error).splitlines()[0]}
    fields |= {"machine": describe(asked.device), "smoke": given.smoke}
    given.out.write_text(json.dumps(fields, indent=1) + "\n")


if __name__ == "__main__":
    main()
