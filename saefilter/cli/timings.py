"""Where a scoring run's time went, for `score --timings`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from saefilter.cli.common import warn

if TYPE_CHECKING:
    from saefilter.artifacts.provenance import Provenance

STAGES = {
    "read": "rows read from the data",
    "render": "recognised, rendered, tokenised",
    "encode": "model, SAE and pooling",
    "geometry": "proximity, percentiles, evidence, spillover",
    "write": "shards written and forced to disk",
}


class Timings:
    """The moments of one run, by the clock."""

    def __init__(self) -> None:
        import psutil

        self._process_began = psutil.Process().create_time()
        self._first_shard = self._process_began

    def at_first_shard(self) -> None:
        """Everything is loaded; scoring begins."""
        self._first_shard = time.time()

    def say(self, made: Provenance) -> None:
        """A line for each stage, on standard error. Stages of different shards overlap, so that they
        may add up to more than passed."""
        start = self._first_shard - self._process_began
        warn(f"  start    {start:8.2f} s  imports, model, SAE, toxic set, FAISS")
        for stage, words in STAGES.items():
            warn(f"  {stage:8} {(made.timings or {}).get(stage, 0.0):8.2f} s  {words}")
        total = time.time() - self._process_began
        warn(
            f"  in all   {total:8.2f} s  stages overlap; {made.padding:.1%} of tokens were padding"
            + (f", {made.shared:.1%} prefixes computed for another row" if made.shared else "")
        )
