"""The sentences and cells that the faces of a comparison share. Plain text; names are untrusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saefilter.text import decimal, percent, rows_of

if TYPE_CHECKING:
    from saefilter.compare.data import Arm, AtFraction, Comparison, Excerpt, Overlap


def headline(comparison: Comparison) -> str:
    """The first sentence, up to the name of the input file."""
    count = len(comparison.arms)
    return f"{count} {'strategy' if count == 1 else 'strategies'} side by side on"


def lead(comparison: Comparison) -> str:
    """What was compared."""
    words = (
        f"Each orders the {rows_of(comparison.scored)} that are scored, and drops the same number of "
        "them."
    )
    if comparison.base_rate is None:
        return f"{words} Nothing says which rows are bad, so only where they agree can be shown."
    return (
        f"{words} {comparison.bad:,} of the {comparison.labelled:,} labelled rows are bad "
        f"({percent(comparison.base_rate)}): the precision of dropping at random."
    )


def area(arm: Arm) -> str:
    """AUROC with its interval, or a dash."""
    if arm.auroc is None:
        return "–"
    return f"{decimal(arm.auroc, 3)} ({decimal(arm.auroc_low, 2)}–{decimal(arm.auroc_high, 2)})"


def precision(at: AtFraction) -> str:
    """In percent, or a dash."""
    return "–" if at.precision is None else percent(at.precision)


def recall(at: AtFraction) -> str:
    """In percent, or a dash."""
    return "–" if at.recall is None else percent(at.recall)


def counted(at: AtFraction) -> str:
    """The numbers behind a precision, and how sure it is."""
    if at.precision is None:
        return f"{at.dropped:,} dropped"
    return (
        f"{at.bad:,} bad of {at.labelled:,} dropped; precision {percent(at.precision_low or 0)} to "
        f"{percent(at.precision_high or 0)} (95%)"
    )


def chance(overlap: Overlap) -> str:
    """Over a table of overlaps: the share dropped, and what two unrelated choices would share."""
    share = overlap.drop_frac
    return (
        f"Dropping {percent(share)}: two unrelated choices would come to {share / (2 - share):.2f}"
    )


def seconds(arm: Arm) -> str:
    """What the ranking took."""
    return f"{arm.seconds:,.1f} s" if arm.seconds >= 0.1 else "under 0.1 s"


def label_word(excerpt: Excerpt) -> str:
    """`bad`, `good`, or nothing without a label."""
    return "" if excerpt.bad is None else "bad" if excerpt.bad else "good"


def alone(arm: Arm, comparison: Comparison) -> str:
    """How many rows a strategy drops that no other does."""
    return (
        f"{rows_of(arm.only_count)} of the {_dropped(arm, comparison):,} that it drops at "
        f"{percent(comparison.detail_frac)}"
    )


def _dropped(arm: Arm, comparison: Comparison) -> int:
    return next(at.dropped for at in arm.at if at.drop_frac == comparison.detail_frac)
