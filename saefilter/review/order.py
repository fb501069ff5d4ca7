"""What a reviewer asks for: which rows are shown, and which first."""

from __future__ import annotations

from dataclasses import dataclass

from saefilter.described import Checked, option

CLOSEST, RANDOM = "closest", "random"


@dataclass(frozen=True)
class ReviewOrder(Checked):
    """Which rows are shown, and which first."""

    order: str = option(
        CLOSEST, "Which rows come first: closest, or random (what a set is learnt from needs rows to keep too).",
        choices=(CLOSEST, RANDOM),
    )  # fmt: skip
    rows: int = option(20, "How many rows to decide on this time.", least=1)
    seed: int | None = option(None, "Of --order random.", least=0, unless_said="0")

    around_cut: float | None = option(
        None, "Show the rows on either side of this cut, such as 10%, those next to it first.",
        least=0, most=1, fraction=True,
    )  # fmt: skip
    """Instead of an order; a share of the scored rows."""
