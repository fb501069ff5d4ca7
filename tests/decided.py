"""Decisions on rows of a scores file, for tests."""

from __future__ import annotations

from pathlib import Path

from saefilter.artifacts.decisions import DROP, KEEP, Decision, Decisions
from saefilter.artifacts.scores import Scores


def decisions_on(
    scores: Scores,
    path: Path,
    keep: tuple[int, ...] = (),
    drop: tuple[int, ...] = (),
    **changed: str,
) -> Decisions:
    """Row ids that are kept and dropped, as a file that was read back."""
    hashes = scores.read(["row_hash"])["row_hash"].to_pylist()
    made = Decisions("data.jsonl", scores.provenance.input_sha256, **changed)  # type: ignore[arg-type]
    for ids, decision, why in ((keep, KEEP, "harmless here"), (drop, DROP, "gives a dose")):
        for row_id in ids:
            made = made.with_decision(Decision(hashes[row_id], row_id + 1, None, decision, why))
    made.write(path)
    return Decisions.open(path)
