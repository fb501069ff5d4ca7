"""The report's HTML face."""

from __future__ import annotations

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
from saefilter.report.explore_page import DATA_ID, explore_script, explore_section
from saefilter.report.fragments import (
    bdi,
    cards,
    esc,
    feature_words,
    file_name,
    fold,
    header,
    notes,
    page,
    place_of,
    section,
    share_bar,
)
from saefilter.report.wording import flagged, made, parts_words, rough_levels, tiles
from saefilter.text import few, percent, reference_words, rows_of

N_OPEN_CARDS = 10
"""Cards shown at once; the others are folded."""


def to_html(report: Report, explorer: Explorer | None = None) -> str:
    """The whole report as one self-contained page; with an `explorer`, rows to look through by its script."""
    title = f"{esc(headline(report))} {bdi(report.input)}"
    return page(
        f"{headline(report)} {report.input}",
        header("saefilter report", title, lead(report)),
        notes(report.notes),
        _tiles(report),
        _distances(report),
        explore_section(explorer),
        _cut(report),
        _per(report),
        _dropped(report),
        _borderline(report),
        _themes(report),
        _features(report),
        _quarantined(report),
        _made(report),
        scripts=[explore_script()] if explorer else (),
        data={DATA_ID: explorer.to_json()} if explorer else {},
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
    # The farthest of rows that were not chosen by distance divides nothing.
    by_distance = report.selection.get("strategy") == "closest"
    threshold = report.selection.get("threshold") if by_distance else None
    return section(
        "distances",
        "How close the rows are",
        f'<p class="hint">{_what_distance_is(report)}</p>\n',
        histogram(report.histogram, threshold, gone_words(report).lower().removesuffix(" in")),
        f'<p class="hint">{esc(words)}</p>\n'
        if (words := parts_words(report.scoring.get("own_share")))
        else "",
        _flagged(report),
    )


def _what_distance_is(report: Report) -> str:
    if report.scoring.get("preference"):
        return "At 0 a row pushes nowhere; to the left training pushes towards toxic features."
    unread = report.counts.get("estimated", 0)
    return (
        "A small distance means that what the row activates lies near the toxic features; to the left is "
        "closer."
        + (f" The {rows_of(unread)} that were only estimated are not shown." if unread else "")
    )


def _flagged(report: Report) -> str:
    levels = flagged(report)
    if not levels and report.scoring.get("preference"):
        return (
            '<p class="hint">What a row pushes to has no percentile among harmless answers; name pairs by '
            "--reference to have one.</p>\n"
        )
    if not levels and report.counts.get("estimated"):
        return (
            '<p class="hint">How many rows are closer than harmless ones is not counted here: the model read '
            "those that seemed near, which are not like all. saefilter check counts rows drawn at random.</p>\n"
        )
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
        f"{esc(reference_words(report.reference_rows, report.reference_name))}</caption>\n"
        '<thead><tr><th scope="col">Closer than</th><th scope="col">Rows</th>'
        '<th scope="col">Of the scored</th><th scope="col">Expected by chance</th></tr></thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table>\n" + rough
    )


def _cut(report: Report) -> str:
    if report.cut is None:
        return ""
    words = "".join(f"<p>{esc(text)}</p>\n" for text in cut_words(report.cut))
    lines = [
        Line(name, f"s{number}", points)
        for number, (name, points) in enumerate(curves(report.cut).items())
    ]
    drawn = line_chart(
        "cut", "What dropping more or less would cost, by the estimate", "share", lines
    )
    return section("cut", "Why so many", words, drawn if lines else "")


def _per(report: Report) -> str:
    tables = []
    for entry in report.per:
        head = "".join(f'<th scope="col">{esc(name)}</th>' for name in loss_head(entry))
        body = "".join(
            f'<tr><th scope="row">{bdi(name)}</th>{"".join(f"<td>{esc(cell)}</td>" for cell in cells)}</tr>\n'
            for name, *cells in loss_rows(entry)
        )
        tables.append(
            f'<table class="numbers">\n<caption>{loss_title(entry, bdi)}</caption>\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"
            + (f'<p class="hint">{esc(words)}</p>\n' if (words := more_values(entry)) else "")
        )
    return section("per", "What goes of each", *tables) if tables else ""


def _dropped(report: Report) -> str:
    if not report.dropped:
        return section("dropped", "Dropped rows", '<p class="empty">No row was dropped.</p>\n')
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
    hint = (
        f'<p class="hint">{which_rows} {rows_of(total)}, {order}. <mark>Marked words</mark> weigh '
        f"most. With each text: {with_each}.</p>\n"
    )
    first = cards(report.dropped[:N_OPEN_CARDS], report)
    rest = report.dropped[N_OPEN_CARDS:]
    more = fold(f"Show {len(rest):,} more", cards(rest, report)) if rest else ""
    return section("dropped", dropped_title(report), hint, first, more)


def _borderline(report: Report) -> str:
    if not report.borderline:
        return ""
    return section(
        "borderline",
        kept_title(report),
        f'<p class="hint">{kept_hint(report)}</p>\n',
        fold(f"Show {rows_of(len(report.borderline))}", cards(report.borderline, report)),
    )


def _themes(report: Report) -> str:
    if not report.themes:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{bdi(total.theme)}</th>'
        f"<td>{percent(total.dropped_share)}{share_bar(total.dropped_share, 'dropped')}</td>"
        f"<td>{percent(total.kept_share)}{share_bar(total.kept_share, 'kept')}</td></tr>\n"
        for total in report.themes
    )
    return section(
        "themes",
        "Themes of the dropped rows",
        '<p class="hint">In how many of the dropped rows a theme of the toxic set stands out, and in how '
        "many of the kept ones. It stands out in harmless rows too: a theme says what a row is like, its "
        "distance how far it goes.</p>\n",
        '<table class="features">\n<thead><tr><th scope="col">Theme</th>'
        '<th scope="col">In dropped</th><th scope="col">In kept</th></tr></thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table>\n",
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
    table = (
        '<table class="features">\n<thead><tr><th scope="col">Feature</th>'
        '<th scope="col">In dropped</th><th scope="col">In kept</th></tr></thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table>\n"
    )
    return section(
        "features",
        "Features of the dropped rows",
        '<p class="hint">In how many of the dropped rows a feature is among the strongest, and in '
        "how many of the kept ones.</p>\n",
        fold("Show the features", table) if report.themes else table,
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
