"""The report's HTML face: one page that works offline, without scripts and without any request.

The content security policy allows nothing but the one inlined style sheet, so that even a mistake
in escaping could neither run nor load anything. It forbids style attributes too: whatever has a
size or a place is SVG with presentation attributes.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Sequence
from importlib import resources

from saefilter.report.chart import histogram, share_bar
from saefilter.report.data import Report
from saefilter.report.fragments import (
    bdi,
    cards,
    esc,
    feature_words,
    file_name,
    fold,
    place_of,
    section,
)
from saefilter.report.wording import (
    few,
    flagged,
    headline,
    lead,
    made,
    percent,
    rough_levels,
    rows_of,
    tiles,
)

N_OPEN_CARDS = 10
"""Cards shown at once; the others are folded."""


def to_html(report: Report) -> str:
    """The whole report as one self-contained page."""
    style = style_sheet()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    body = [
        _header(report),
        _notes(report.notes),
        _tiles(report),
        _distances(report),
        _dropped(report),
        _borderline(report),
        _features(report),
        _quarantined(report),
        _made(report),
    ]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{esc(f"{headline(report)} {report.input}")}</title>
<style>{style}</style>
</head>
<body>
<main>
{"".join(body)}</main>
</body>
</html>
"""


@functools.cache
def style_sheet() -> str:
    """The style sheet as it is inlined; its hash in the policy is of exactly this text."""
    sheet = resources.files("saefilter.report").joinpath("report.css")
    return sheet.read_text(encoding="utf-8").replace("\r\n", "\n")


def _header(report: Report) -> str:
    return (
        '<header class="top">\n<p class="brand">saefilter report</p>\n'
        f"<h1>{esc(headline(report))} {bdi(report.input)}</h1>\n"
        f'<p class="lead">{esc(lead(report))}</p>\n</header>\n'
    )


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    items = "".join(f"<li>{bdi(note)}</li>\n" for note in notes)
    return (
        '<aside class="notes" aria-labelledby="notes-title">\n'
        f'<h2 id="notes-title">Before you rely on this</h2>\n<ul>\n{items}</ul>\n</aside>\n'
    )


def _tiles(report: Report) -> str:
    items = []
    for tile in tiles(report):
        name = report.outputs.get(tile.key)
        where = f'<dd class="file">{file_name(name)}</dd>' if name else ""
        items.append(
            f'<div class="tile {tile.key}"><dt>{tile.name}</dt>'
            f'<dd class="count">{tile.count:,}</dd>'
            f"<dd>{esc(tile.meaning)}</dd>{where}</div>\n"
        )
    return f'<dl class="tiles">\n{"".join(items)}</dl>\n'


def _distances(report: Report) -> str:
    # The farthest of rows drawn at random divides nothing.
    at_random = report.selection.get("strategy") == "random"
    threshold = None if at_random else report.selection.get("threshold")
    return section(
        "distances",
        "How close the rows are",
        '<p class="hint">A small distance means that what the row activates lies near the toxic '
        "features; to the left is closer.</p>\n",
        histogram(report.histogram, threshold),
        _flagged(report),
    )


def _flagged(report: Report) -> str:
    levels = flagged(report)
    if not levels:
        return (
            '<p class="hint">The toxic set has no harmless reference samples to compare with.</p>\n'
        )
    rows = "".join(
        f'<tr><th scope="row">{at.level:g}%</th><td>{at.count:,}</td>'
        f"<td>{percent(at.share)}</td>"
        f"<td>{few(at.expected_count)} ({percent(at.expected_share)})</td></tr>\n"
        for at in levels
    )
    rough = f'<p class="hint">{words}</p>\n' if (words := rough_levels(report)) else ""
    return (
        '<table class="numbers">\n<caption>Rows closer than most of the '
        f"{report.reference_rows:,} harmless reference samples</caption>\n"
        '<thead><tr><th scope="col">Closer than</th><th scope="col">Rows</th>'
        '<th scope="col">Of the scored</th><th scope="col">Expected by chance</th></tr></thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table>\n" + rough
    )


def _dropped(report: Report) -> str:
    if not report.dropped:
        return section("dropped", "Dropped rows", '<p class="empty">No row was dropped.</p>\n')
    shown, total = len(report.dropped), report.counts["dropped"]
    which = "All" if shown >= total else f"The closest {shown:,} of"
    hint = (
        f'<p class="hint">{which} {rows_of(total)}, closest first. <mark>Marked words</mark> weigh '
        "most. With each text: the features that brought it close, and their part in that.</p>\n"
    )
    first = cards(report.dropped[:N_OPEN_CARDS], report)
    rest = report.dropped[N_OPEN_CARDS:]
    more = fold(f"Show {len(rest):,} more", cards(rest, report)) if rest else ""
    return section("dropped", "Closest dropped rows", hint, first, more)


def _borderline(report: Report) -> str:
    if not report.borderline:
        return ""
    at_random = report.selection.get("strategy") == "random"
    hint = "Kept by chance." if at_random else "The next to go if more were dropped."
    return section(
        "borderline",
        "Closest kept rows",
        f'<p class="hint">{hint}</p>\n',
        fold(f"Show {rows_of(len(report.borderline))}", cards(report.borderline, report)),
    )


def _features(report: Report) -> str:
    if not report.features:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{feature_words(total)}</th>'
        f"<td>{percent(total.dropped_share)}{share_bar(total.dropped_share, 'dropped')}</td>"
        f"<td>{percent(total.kept_share)}{share_bar(total.kept_share, 'kept')}</td></tr>\n"
        for total in report.features
    )
    return section(
        "features",
        "Features of the dropped rows",
        '<p class="hint">In how many of the dropped rows a feature is among the strongest, and in '
        "how many of the kept ones.</p>\n",
        '<table class="features">\n<thead><tr><th scope="col">Feature</th>'
        '<th scope="col">In dropped</th><th scope="col">In kept</th></tr></thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table>\n",
    )


def _quarantined(report: Report) -> str:
    if not report.quarantine_reasons and not report.quarantined:
        return ""
    reasons = "".join(
        f"<li><b>{rows_of(count)}</b>: {bdi(reason)}</li>\n"
        for reason, count in report.quarantine_reasons.items()
    )
    entries = "".join(
        f'<tr><th scope="row">{place_of(view)}</th><td>{bdi(view.reason)}</td></tr>\n'
        for view in report.quarantined
    )
    total = report.counts["quarantined"]
    which = "all" if len(report.quarantined) >= total else f"the first {len(report.quarantined):,}"
    table = f'<table class="reasons">\n<tbody>\n{entries}</tbody>\n</table>\n'
    return section(
        "quarantined",
        "Quarantined rows",
        '<p class="hint">Could not be scored; neither kept nor dropped.</p>\n',
        f"<ul>\n{reasons}</ul>\n" if reasons else "",
        fold(f"Show {which} by line", table) if entries else "",
    )


def _made(report: Report) -> str:
    rows = "".join(
        f'<tr><th scope="row">{esc(term)}</th><td>{bdi(value)}</td></tr>\n'
        for term, value in made(report)
    )
    return section(
        "made",
        "How this was made",
        f'<table class="made">\n<tbody>\n{rows}</tbody>\n</table>\n',
    )
