"""Numbers that cost a model's work, kept by the hash of the row they are of: a rerun costs nothing.

One text file for everything that the numbers depend on, a line for each row. A line that a kill cut
short is left out.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from saefilter import __version__
from saefilter.cache import cache_folder


class RowCache:
    """What is known of rows already; numbers that are not finite are kept as well."""

    def __init__(self, kind: str, depends_on: dict[str, Any]):
        key = json.dumps([__version__, depends_on], sort_keys=True)
        digest = hashlib.sha256(key.encode()).hexdigest()[:24]
        self.path: Path = cache_folder() / "strategies" / f"{kind}-{digest}.txt"
        self._known = dict(self._read())

    def get(self, row_hash: str) -> float | None:
        """The row's number, or None when it is not known."""
        return self._known.get(row_hash)

    def put(self, found: dict[str, float]) -> None:
        """Keep the numbers of some rows."""
        self._known.update(found)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"{row_hash} {value!r}\n" for row_hash, value in found.items())
        # one write that begins a line of its own, so that what a kill cut short stays apart
        with open(self.path, "a", encoding="ascii") as file:
            file.write("\n" + lines)

    def _read(self) -> Iterable[tuple[str, float]]:
        if not self.path.is_file():
            return
        text = self.path.read_text(encoding="ascii", errors="replace")
        for line in text.split("\n")[:-1]:  # what follows the last line's end is cut short
            row_hash, _, number = line.partition(" ")
            try:
                value = float(number)
            except ValueError:
                continue
            if row_hash and (math.isfinite(value) or math.isnan(value)):
                yield row_hash, value
