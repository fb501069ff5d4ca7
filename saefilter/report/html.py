"""The report's HTML face: what `templates/report.html` is given."""

from __future__ import annotations

from typing import Any

from saefilter.report.advice import advice
from saefilter.report.cards import cards, name_parts
from saefilter.report.charts import Line, histogram, line_chart
from saefilter.report.cut import curves, cut_words, loss_head, loss_rows, loss_title, more_values
from saefilter.report.data import Report
from saefilter.report.done import (
    dropped_title,
    gone,
    gone_words,
    headline,
    kept_hint,
    kept_title,
    lead,
    orders_by_distance,
)
from saefilter.report.explore import Explorer
from saefilter.report.explore_page import DATA_ID, ROOT_ID, explore_script
from saefilter.report.fragments import render
from saefilter.report.wording import flagged, made, parts_words, rough_levels, tiles
from saefilter.text import reference_words, rows_of

N_OPEN_CARDS = 10
"""Cards shown at once; the others are folded."""
N_PRINTED = 6
"""Rows in the table that stands for the cards on paper."""


def to_html(report: Report, explorer: Explorer | None = None) -> str:
    """The whole report as one self-contained page; with an `explorer`, rows to look through by its script."""
    return render(
        "report.html",
        f"{headline(report)} {report.input}",
        scripts=[explore_script()] if explorer else (),
        data={DATA_ID: explorer.to_json()} if explorer else {},
        brand="saefilter report",
        headline=headline(report),
        lead=lead(report),
        notes=report.notes,
        advice=advice(report),
        report=report,
        reference_name=report.reference_name,
        tiles=tiles(report),
        name_parts=name_parts,
        explore_id=ROOT_ID if explorer else "",
        made=made(report),
        **_distances(report),
        **_cut(report),
        **_rows(report),
        quarantined_which=_quarantined_which(report),
    )


def _distances(report: Report) -> dict[str, Any]:
    # The farthest of rows that were not chosen by distance divides nothing.
    by_distance = report.selection.get("strategy") == "closest"
    threshold = report.selection.get("threshold") if by_distance else None
    done = gone_words(report).lower().removesuffix(" in")
    return {
        "distance_hint": _what_distance_is(report),
        "histogram": histogram(report.histogram, threshold, done),
        "parts_words": parts_words(report.scoring.get("own_share")),
        "flagged": [{"of": at, "level_words": f"{at.level:g}%"} for at in flagged(report)],
        "reference": reference_words(report.reference_rows, report.reference_name),
        "rough": rough_levels(report),
        "no_levels": _no_levels(report),
    }


def _what_distance_is(report: Report) -> str:
    if report.scoring.get("preference"):
        return "At 0 a row pushes nowhere; to the left training pushes towards toxic features."
    unread = report.counts.get("estimated", 0)
    return (
        "A small distance means that what the row activates lies near the toxic features; to the left is "
        "closer."
        + (f" The {rows_of(unread)} that were only estimated are not shown." if unread else "")
    )


def _no_levels(report: Report) -> str:
    """Why it is not said how many rows are closer than harmless ones."""
    if report.scoring.get("preference"):
        return (
            "What a row pushes to has no percentile among harmless answers; name pairs by --reference to "
            "have one."
        )
    if report.counts.get("estimated"):
        return (
            "How many rows are closer than harmless ones is not counted here: the model read those that "
            "seemed near, which are not like all. saefilter check counts rows drawn at random."
        )
    return "The toxic set has no harmless reference samples to compare with."


def _cut(report: Report) -> dict[str, Any]:
    """Why so many went, and what the values of columns lose."""
    lines = [
        Line(name, f"s{number}", points)
        for number, (name, points) in enumerate(curves(report.cut).items() if report.cut else ())
    ]
    title = "What dropping more or less would cost, by the estimate"
    losses = [
        {
            # Around the column's name, which is untrusted.
            "title": loss_title(entry, lambda _: "\n").split("\n"),
            "column": entry["column"],
            "head": loss_head(entry),
            "rows": loss_rows(entry),
            "more": more_values(entry),
        }
        for entry in report.per
    ]
    return {
        "cut_words": cut_words(report.cut) if report.cut else [],
        "cut_chart": line_chart("cut", title, "share", lines) if lines else "",
        "losses": losses,
    }


def _rows(report: Report) -> dict[str, Any]:
    """The dropped rows and those that would go next."""
    shown, total = len(report.dropped), gone(report)
    which, order = (
        ("closest", "closest first")
        if orders_by_distance(report)
        else ("first", "in the order of the strategy")
    )
    which_rows = "All" if shown >= total else f"The {which} {shown:,} of"
    with_each = "the features that brought it close, and their part in that"
    if any(view.themes or view.closest for view in report.dropped):
        with_each = (
            "the themes of the toxic set that stand out in it, their part of what its toxic features add "
            "up to (beside it, their usual part in harmless rows), and the toxic example it is most like"
        )
    return {
        "dropped": cards(report.dropped, report),
        "n_open": N_OPEN_CARDS,
        "dropped_title": dropped_title(report),
        "dropped_which": f"{which_rows} {rows_of(total)}, {order}.",
        "with_each": with_each,
        "n_printed": N_PRINTED,
        "borderline": cards(report.borderline, report),
        "kept_title": kept_title(report),
        "kept_hint": kept_hint(report),
    }


def _quarantined_which(report: Report) -> str:
    shown, total = len(report.quarantined), report.counts["quarantined"]
    return f"Show {'all' if shown >= total else f'the first {shown:,}'} by line"
