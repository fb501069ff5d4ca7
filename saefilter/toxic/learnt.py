"""Which rows a toxic set has learnt from, by their hashes: they are no test of it."""

from __future__ import annotations

from saefilter.artifacts.scores import Scores
from saefilter.toxic.toxicset import ToxicSet

ROW_HASHES = "row_hashes"
"""Of an entry of a set's sources, where decisions of a review are the source."""


def learnt_from(toxic_set: ToxicSet) -> list[str]:
    """Hashes of the rows whose decisions a set has learnt from, each once."""
    return list(
        dict.fromkeys(one for entry in toxic_set.sources for one in entry.get(ROW_HASHES, []))
    )


def learnt_rows(scores: Scores) -> list[str]:
    """The same of the set that some scores are by."""
    return scores.provenance.learnt_from or []


def named_set(scores: Scores) -> str:
    """The set that was asked for when scores were made, file or name; empty where it was the preset's."""
    return str((scores.provenance.settings or {}).get("toxic_set") or "")
