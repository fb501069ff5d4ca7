"""What a strategy learns from: toxic and benign rows of the user's, or those that saefilter brings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter.curate.sources import bundled, from_files
from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation
from saefilter.rows.inputs import open_input
from saefilter.rows.render import trained_messages
from saefilter.select.ranking import Candidates
from saefilter.select.registry import StrategyOptions

MIN_ROWS = 5
"""Of either side; fewer teach nothing that could be checked."""


@dataclass(frozen=True)
class ContrastPair:
    """Rows of both sides, toxic ones first."""

    conversations: list[Conversation]
    toxic: NDArray[np.bool_]
    """`[n_contrast]`"""
    about: list[dict[str, Any]]
    """Name, side, rows and hash of each input, for artifacts."""


def read_contrast(candidates: Candidates, options: StrategyOptions) -> ContrastPair:
    """The contrast rows that the options name, else the bundled pairs.

    Raises SaefilterError when the sides do not go together, or one has hardly a usable row.
    """
    toxic, benign = options.contrast_toxic or (), options.contrast_benign or ()
    if len(toxic) != len(benign):
        raise SaefilterError(
            f"{len(toxic)} --contrast-toxic and {len(benign)} --contrast-benign inputs",
            remedy="Name one benign input for each toxic one.",
        )
    if toxic:
        pairs = zip(toxic, benign, strict=True)
        sources = [from_files(open_input(one), open_input(other)) for one, other in pairs]
    else:
        candidates.watch.say(
            "Learning from saefilter's 180 bundled pairs; rows like yours teach more "
            "(--contrast-toxic, --contrast-benign)"
        )
        sources = [bundled()]
    bad = [row for source in sources for row in source.toxic]
    good = [row for source in sources for row in source.benign]
    for side, rows in (("toxic", bad), ("benign", good)):
        if len(rows) < MIN_ROWS:
            raise SaefilterError(
                f"only {len(rows)} usable {side} contrast rows; at least {MIN_ROWS} are needed",
                remedy=f"Look at the inputs of --contrast-{side}.",
            )
    return ContrastPair(
        [*bad, *good],
        np.arange(len(bad) + len(good)) < len(bad),
        [entry for source in sources for entry in source.about],
    )


def train_on_of(candidates: Candidates) -> str:
    """Which turns were scored, so that a strategy reads the same."""
    return candidates.scores.provenance.train_on if candidates.scores else "assistant"


def trained_text(conversation: Conversation, train_on: str) -> str:
    """What training would learn from, as one text; all of it, whatever the token limit."""
    chosen = trained_messages(conversation, train_on)
    messages = [one for one, trained in zip(conversation, chosen, strict=True) if trained]
    parts = [
        part
        for message in messages
        for part in (message.content, str(message.fields.get("tool_calls") or ""))
    ]
    return "\n\n".join(filter(None, parts))
