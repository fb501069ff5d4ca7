"""What to do first, by a rule over what the report knows. Plain text; reasons of quarantine are untrusted.

It says no more than the counts do: that more rows lie near toxic features than harmless ones would, not that
they are bad; and of what the features do not show it says nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from saefilter.artifacts.decisions import ENOUGH
from saefilter.report.done import gone, gone_words
from saefilter.report.wording import ROUGH_BELOW, Flagged, flagged, many_weak_signs
from saefilter.text import few, percent, rows_of

if TYPE_CHECKING:
    from saefilter.report.data import Report

CLEAR = 4.0
"""Standard deviations above what is expected, of independent rows; rows often are not, hence so many."""
FEW, MANY = 0.8, 1.25
"""Dropped rows, of the surplus: below, the cut may be too low. And of all rows as near: above, too high."""
N_TOLD = 10
"""Cards from which on their reasons are counted."""
MEND_SHARE = 0.05
"""Of the rows; from here on those that could not be scored are worth mending."""


@dataclass(frozen=True)
class Advice:
    """Something to do, and the reason."""

    do: str
    why: str


def advice(report: Report) -> list[Advice]:
    """What to do, the first thing first; nothing of a report without rows."""
    if not report.counts["rows"]:
        return []
    mend = _mend(report)
    if report.counts["kept"] + gone(report) + report.counts.get("estimated", 0) == 0:
        return mend
    half = report.counts["quarantined"] * 2 > report.counts["rows"]
    told = [_cut(report), *_own_set(report)]
    return [*mend, *told] if half else [*told, *mend]


def _mend(report: Report) -> list[Advice]:
    count, rows = report.counts["quarantined"], report.counts["rows"]
    if count <= MEND_SHARE * rows:
        return []
    reasons = report.quarantine_reasons
    most = max(reasons, key=lambda reason: reasons[reason], default="")
    why = f"{count:,} of the {rows_of(rows)} could not be scored"
    return [Advice("Mend the input", f"{why}; most often: {most}." if most else f"{why}.")]


def _cut(report: Report) -> Advice:
    """Whether to keep the cut, as far as counts can say."""
    strategy = report.selection.get("strategy")
    if strategy == "random":
        return Advice(
            "Use this only to compare with",
            "The rows were drawn at random: nothing speaks for dropping just these.",
        )
    if strategy != "closest":
        return Advice(
            "Read the first rows to go",
            f"The strategy {strategy} chose them, not their distance, so that how near rows lie does not say "
            "whether the cut is right.",
        )
    if report.decisions is not None:
        return _decided(report.decisions)
    levels = [at for at in flagged(report) if at.rank >= ROUGH_BELOW]
    if report.scoring.get("unlike"):
        return Advice(
            "Name good rows like yours to compare with",
            "The data are unlike the harmless rows that they are compared with, so how many are closer than "
            "those says little. --reference takes them; until then trust the order of the rows, not their number.",
        )
    if not levels:
        return Advice("Read the rows on both sides of the cut", _no_levels(report))
    if report.cut is not None:
        return _found_cut(report)
    return _by_counts(report, levels)


def _decided(told: dict[str, Any]) -> Advice:
    """People know more than counts: what they spared says how good the cut is."""
    if told["saved"]:
        return Advice(
            "Read more of the rows that go",
            f"Of the rows as close as those that go, {told['saved']:,} were spared by decision; "
            f"{told['undecided']:,} rows have no decision yet, and others among them may deserve the same.",
        )
    if told["dropped"] < ENOUGH:
        some = f"only {told['dropped']}" if told["dropped"] else "none"
        return Advice(
            "Read more of the rows that go",
            f"Of those that go {some} had a decision: too few to say how good the cut is.",
        )
    return Advice(
        "Keep the cut, and read its last rows",
        f"By {told['decisions']:,} decisions nothing was spared that lies as close as the rows that go.",
    )


def _no_levels(report: Report) -> str:
    if report.counts.get("estimated"):
        return (
            "The model read only the rows that seemed near, so how many lie closer than harmless ones is not "
            "known here."
        )
    if report.reference_rows:
        return (
            f"Only {report.reference_rows:,} harmless rows are there to compare with: too few to say how many "
            "rows should go."
        )
    return "There are no harmless rows to compare with, so nothing here says how many should go."


def _found_cut(report: Report) -> Advice:
    assert report.cut is not None
    if report.cut["rows"]:
        return Advice(
            "Keep the cut, and read its last rows",
            "It was found by how many more rows lie near than harmless ones would; what it would cost if "
            "wrong is said below.",
        )
    return Advice(
        "Keep all rows",
        "The search for a cut found none that it can justify (see below). What these features do not show, it "
        "does not see.",
    )


def _by_counts(report: Report, levels: list[Flagged]) -> Advice:
    scored = report.counts["kept"] + report.counts["dropped"]
    at = max(levels, key=lambda level: level.count - level.expected_count)
    # Both the rows and the harmless ones that they are compared with are a sample.
    spread = at.expected_count * (1 - at.expected_share) * (1 + scored / report.reference_rows)
    # Of so few that less than one is expected, a single one may be chance: five at least are clearly more.
    spread = max(1.0, spread)
    surplus, went = at.count - at.expected_count, gone(report)
    done = gone_words(report).lower().removesuffix(" in")
    there = "is" if at.count == 1 else "are"
    counted = (
        f"{there} {rows_of(at.count)} closer than {at.level:g}% of harmless ones, where "
        f"{few(at.expected_count)} would be by chance"
    )
    if surplus <= CLEAR * math.sqrt(spread):
        return _nothing_clear(counted, went, done)
    if went < FEW * surplus:
        share = percent(math.ceil(100 * surplus / scored) / 100)
        return Advice(
            "Raise the cut",
            f"There {counted}: about {surplus:,.0f} more, but only {went:,} were {done}. Read the closest "
            f"kept rows; if they are as bad, drop more, up to about {share} of the rows.",
        )
    if went > MANY * at.count:
        return Advice(
            "Lower the cut, or read its last rows",
            f"There {counted}, but {went:,} were {done}: the others are no nearer than many harmless rows.",
        )
    return Advice(
        "Keep the cut, and read its last rows",
        f"There {counted}: about {surplus:,.0f} more, and {went:,} were {done}.",
    )


def _nothing_clear(counted: str, went: int, done: str) -> Advice:
    why = f"There {counted}: not clearly more. What these features do not show is not seen."
    if not went:
        return Advice("Keep all rows", why)
    return Advice(
        f"Read what was {done} before you leave it out",
        f"{why} Nothing here says that the {'row is' if went == 1 else f'{went:,} rows are'} worse than "
        "harmless ones.",
    )


def _own_set(report: Report) -> list[Advice]:
    """Where most of what is shown is close for no reason that can be named."""
    shown = report.dropped
    nameless = sum(
        not view.themes and bool(many_weak_signs([evidence.share for evidence in view.features]))
        for view in shown
    )
    if len(shown) < N_TOLD or nameless * 2 < len(shown):
        return []
    return [
        Advice(
            "Make a toxic set of your own",
            f"In {nameless:,} of the {len(shown):,} rows shown neither a theme nor a feature stands out. A set "
            "made of examples of what you want to keep out (saefilter features curate) may tell them better.",
        )
    ]
