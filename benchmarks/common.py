"""What several benchmarks need: the measured command's environment, and tables put into a document."""

from __future__ import annotations

import os
from pathlib import Path

FOR_ITSELF = ("TOKENIZERS_PARALLELISM",)
"""What a benchmark sets for its own process, and a user's command does not find set."""


def user_environment() -> dict[str, str]:
    """The environment of a measured `saefilter`: this checkout's, and no model hub."""
    root = str(Path(__file__).parents[1])
    paths = filter(None, [root, os.environ.get("PYTHONPATH")])
    inherited = {name: value for name, value in os.environ.items() if name not in FOR_ITSELF}
    return {**inherited, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(paths)}


def put_between(path: Path, marker: str, text: str) -> None:
    """Replace what stands between two lines `marker` of a document. Raises SystemExit without them."""
    before, _, rest = path.read_text(encoding="utf-8").partition(marker)
    _, found, after = rest.partition(marker)
    if not found:
        raise SystemExit(f"{path} lacks two lines {marker}")
    path.write_text(f"{before}{marker}\n\n{text}\n\n{marker}{after}", encoding="utf-8")
