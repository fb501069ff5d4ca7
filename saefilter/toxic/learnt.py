"""Which rows a toxic set has learnt from, by their hashes: they are no test of it."""

from __future__ import annotations

from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.toxic.load import load_toxic_set

ROW_HASHES = "row_hashes"
"""Of an entry of a set's sources, where decisions of a review are the source."""


def learnt_rows(scores: Scores) -> list[str]:
    """Hashes of the rows that the toxic set of some scores has learnt from; none where the set is no longer
    where it was, or is another one by now."""
    name = named_set(scores)
    if not name:
        return []
    try:
        toxic_set = load_toxic_set(name)
    except SaefilterError:
        return []
    if toxic_set.sha256() != scores.provenance.toxic_set_sha256:
        return []
    return [one for entry in toxic_set.sources for one in entry.get(ROW_HASHES, [])]


def named_set(scores: Scores) -> str:
    """The set that was asked for when scores were made, file or name; empty where it was the preset's."""
    return str((scores.provenance.settings or {}).get("toxic_set") or "")
