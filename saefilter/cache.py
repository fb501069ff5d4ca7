"""Where saefilter keeps what it would otherwise fetch or convert again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`SAEFILTER_CACHE`, or a folder in the user's cache."""
    if chosen := os.environ.get("SAEFILTER_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "saefilter"
