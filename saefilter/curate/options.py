"""The choices of a curation; described.py has what is read off a field."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

from saefilter.described import Checked, option
from saefilter.errors import SaefilterError


class Penalty(NamedTuple):
    """Of an elastic net."""

    l1: float
    """More gives fewer features."""
    l2: float
    """More spreads weight over features that fire together."""


@dataclass(frozen=True)
class CurationOptions(Checked):
    """Choices of a curation, kept in the set's provenance."""

    group: str | None = option(
        None, "Column whose equal values belong together; none: each row by itself.",
        unless_said="same prompt, near-identical text or one template", metavar="COLUMN",
    )  # fmt: skip
    """Rows of a group stay on one side of every split, and p-values count groups."""

    recipe: str = option(
        "weighted", "weighted: confirmed features with fitted weights; paper: those most correlated "
        "with toxicity, unweighted.",
        choices=("weighted", "paper"),
    )  # fmt: skip
    """`paper` is what is known of arXiv 2605.00842."""
    fdr: float = option(
        0.05, "False-discovery rate of the features.", least=0, most=1, fraction=True
    )
    """Share of false features accepted among the confirmed ones."""
    screen_p: float = option(0.01, "p-value that makes a feature a candidate.", least=0, most=1)
    """On the screening half."""
    min_frequency: float = 0.005
    """Features active in a smaller share of samples are not considered."""
    max_density: float = option(
        0.5, "Leave out features firing on more of the tokens.", least=0, most=1, fraction=True
    )
    prune_cosine: float = option(
        0.95, "Leave out the weaker of two features that are closer.", most=1
    )
    """Of two confirmed features of one side; 1 leaves none out."""
    max_candidates: int = 4096
    """At most that many confirmed features per side and source, the strongest; bounds the memory."""
    top: int = option(
        100, "Features per side, besides the weighted ones; with paper, all.", least=1
    )
    penalty: Penalty | None = None
    """Of the weights; None chooses it for each source by cross-validation."""
    seed: int = option(0, "Of the split in halves.", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        known = {one.name: one.default for one in dataclasses.fields(CurationOptions)}
        for name in ("fdr", "screen_p", "min_frequency", "max_density", "prune_cosine", "penalty"):
            if self.recipe == "paper" and getattr(self, name) != known[name]:
                raise SaefilterError(
                    f"--{name.replace('_', '-')} has no effect with --recipe paper",
                    remedy="The paper's features are neither confirmed nor weighted: leave it out.",
                )
