"""What was done, in words: headline, lead, titles and how the rows were chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saefilter.report.cut import request_words
from saefilter.text import decimal, percent, rows_of

if TYPE_CHECKING:
    from saefilter.report.data import Report


def headline(report: Report) -> str:
    """The first sentence, up to the name of the input file."""
    count, rows = gone(report), report.counts["rows"]
    if not rows:
        return "No rows in"
    return f"{gone_words(report)} {f'{count:,}' if count else 'none'} of the {rows_of(rows)} in"


def gone(report: Report) -> int:
    """Rows that were dropped, or that a soft output marks instead."""
    return report.counts["dropped"] + report.counts.get("marked", 0)


def gone_words(report: Report) -> str:
    """What was done with them."""
    done = {
        "weights": "Weighted down", "mask": "Masked in", "labels": "Labelled",
        "switched": "Switched",
    }  # fmt: skip
    return done.get((report.written or {}).get("as", ""), "Dropped")


def written_words(report: Report) -> str:
    """What a soft output holds; nothing where rows were dropped."""
    told = report.written
    if told is None:
        return ""
    if told["as"] == "weights":
        return (
            f"All scored rows are written, each with a {told['how']} weight in the column 'weight'; together "
            f"they lose as much as {told['removed']:,.0f} rows."
        )
    if told["as"] == "labels":
        return f"All scored rows are written, each labelled {told['how']} in the column 'saefilter_label'."
    if told["as"] == "switched":
        return _switched_words(report, told)
    whole = f" ({rows_of(told['whole'])} as a whole, their parts not told apart)" * bool(
        told["whole"]
    )
    return (
        f"All scored rows are written, with marks for {told['for']}: in {rows_of(told['rows'])} {told['parts']:,} "
        f"{told['how']} are left out of training{whole}. Of {rows_of(told['emptied'])} nothing is left to train on."
    )


def _switched_words(report: Report, told: dict[str, Any]) -> str:
    """What was exchanged in which rows, and what was left."""
    what = " and ".join(f"{one!r} with {other!r}" for one, other in told["exchanged"])
    done = f"have {what} exchanged" if what else f"have {told['flipped'][0]!r} turned round"
    left = told["left"]
    stay = f"; {rows_of(left)} that were asked for do not, and stay as they are" if left else ""
    return (
        f"All scored rows are written. {report.counts['marked']:,} of them, which push towards toxic features, "
        f"{done}{stay}. The proposal rests on the scores alone: read some before you train on it."
    )


def lead(report: Report) -> str:
    """Where the other rows went, and how the dropped ones were chosen."""
    kept, quarantined = report.counts["kept"], report.counts["quarantined"]
    if not report.counts["rows"]:
        return "There was nothing to score, so nothing to drop."
    places = f"{rows_of(kept)} kept"
    if quarantined:
        cause = "it" if quarantined == 1 else "they"
        places += f", {quarantined:,} quarantined because {cause} could not be scored"
    said = (places, written_words(report), selection_words(report), decisions_words(report))
    return ". ".join(text.removesuffix(".") for text in said if text) + "."


def selection_words(report: Report) -> str:
    """What was asked for and what it came to."""
    asked, threshold = report.selection, report.selection.get("threshold")
    if not gone(report) - _by_decision(report) or threshold is None:
        return "" if report.decisions else "No scored row met what was asked for."
    strategy = asked.get("strategy")
    if strategy == "random":
        return (
            f"The {_gone_rows(report)} were drawn at random (seed {asked.get('seed')}), whatever their "
            "distance: a baseline to compare with."
        )
    if strategy != "closest":
        return _other_selection_words(report, asked, gone(report) - _by_decision(report))
    nearest, rows = "closest to toxic features", "scored rows"
    if report.decisions is not None:
        rows = "rows without a decision"
    if report.scoring.get("preference") is not None:
        nearest = "that push most towards toxic features"
    if asked.get("drop_frac") is not None:
        request = f"the {percent(asked['drop_frac'])} of {rows} {nearest}"
    elif asked.get("drop_count") is not None:
        request = f"the {asked['drop_count']:,} {rows} {nearest}"
    elif report.cut is not None:
        request = request_words(report)
    else:
        request = f"those closer than {decimal(asked.get('min_distance'), 3)} to toxic features"
    if asked.get("keep_balance"):
        request += f", the same share of each value of {asked['keep_balance']!r}"
    return f"The {_gone_rows(report)} are {request}: distances up to {decimal(threshold, 3)}."


def _by_decision(report: Report) -> int:
    """Rows that a person drops."""
    return int(report.decisions["dropped"]) if report.decisions else 0


def decisions_words(report: Report) -> str:
    """What people decided on rows, and what the cut is over; nothing where they did not."""
    told = report.decisions
    if told is None:
        return ""
    said = (
        f"Decisions of a review come first: {rows_of(told['dropped'])} dropped and {rows_of(told['spared'])} "
        f"kept by them; "
    )
    rest = rows_of(told["undecided"])
    by_cut = gone(report) > told["dropped"]
    said += f"the cut is over the other {rest}" if by_cut else f"the other {rest} stay"
    if told["saved"]:
        said += f". Of the rows kept by decision {told['saved']:,} lie as close as the last one that went"
    if told["absent"]:
        said += f". Decisions on rows that have no score or are not in the data: {told['absent']:,}"
    return said + "."


def _gone_rows(report: Report) -> str:
    rows = (
        "dropped rows" if report.written is None else f"rows that are {gone_words(report).lower()}"
    )
    return f"other {rows}" if _by_decision(report) else rows


def _other_selection_words(report: Report, asked: dict[str, Any], dropped: int) -> str:
    """Of a strategy that does not go by the distance."""
    if asked.get("drop_frac") is not None:
        rows = "rows without a decision" if report.decisions else "scored rows"
        request = f"the {percent(asked['drop_frac'])} of {rows}"
    else:
        request = f"the {rows_of(dropped)}"
    words = (
        f"The {_gone_rows(report)} are {request} that the strategy {asked['strategy']} puts first"
    )
    if asked.get("score_threshold") is not None:
        words += f": {asked['score_name']} of {decimal(asked['score_threshold'], 3)} and higher"
    return f"{words}. Their distance to toxic features played no part in it."


def orders_by_distance(report: Report) -> bool:
    """Whether the rows that are shown are the closest; else they are the strategy's first."""
    return report.selection.get("score_name") is None


def dropped_title(report: Report) -> str:
    """Over the dropped rows that are shown."""
    if report.written is not None:
        first = "Closest" if orders_by_distance(report) else "First"
        return f"{first} rows, {gone_words(report).lower()}"
    return "Closest dropped rows" if orders_by_distance(report) else "First rows to be dropped"


def kept_title(report: Report) -> str:
    """Over the kept rows that are shown."""
    return "Closest kept rows" if orders_by_distance(report) else "Next rows to be dropped"


def kept_hint(report: Report) -> str:
    """What the kept rows that are shown are."""
    by_chance = {
        "random": "Kept by chance.",
        "closest": "The next to go if more were dropped.",
    }
    if not orders_by_distance(report):
        return by_chance["closest"]
    return by_chance.get(str(report.selection.get("strategy")), "Close, and kept by this strategy.")
