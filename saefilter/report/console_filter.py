"""What `filter` did, on a terminal: counts, files, the cut and its curve, what values of a column lose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from saefilter.report.console import not_said, safe
from saefilter.report.cut import (
    HARMLESS,
    MARK,
    STAY,
    curve_rows,
    cut_words,
    loss_head,
    loss_rows,
    loss_title,
    more_values,
)
from saefilter.report.done import decisions_words, gone, gone_words, written_words
from saefilter.report.wording import parts_words
from saefilter.text import one_line, percent, rows_of

if TYPE_CHECKING:
    from saefilter.filtering.job import FilterResult
    from saefilter.report.data import Report

CURVE_WIDTH = 20


def print_filter_result(console: Console, result: FilterResult, said: Sequence[str] = ()) -> None:
    """What was dropped, what was kept, and where it is; not the notes that were `said` before."""
    report = result.report
    counts = report.counts
    console.print()
    console.print(
        Text.assemble(
            (f"{gone_words(report)} ", "bold"),
            (f"{gone(report):,}", "bold red"),
            " of ",
            (f"{counts['rows']:,}", "bold"),
            f" rows of {one_line(report.input)} ({_selection(report)})",
        )
    )
    places = f"{counts['kept']:,} kept + {counts['dropped']:,} dropped"
    if report.written is not None:
        places = f"{counts['kept']:,} written"
    console.print(
        f"  {places} + {counts['quarantined']:,} quarantined = {rows_of(counts['rows'])} in",
        highlight=False,
    )
    if not counts["kept"] + counts.get("estimated", 0):
        console.print(Text("  No row is kept: nothing is left to train on.", style="yellow"))
    for words in (written_words(report), decisions_words(report)):
        if words:
            console.print(Text(f"  {words}"))
    if not said and (words := parts_words(report.scoring.get("own_share"))):
        console.print(Text(f"  {words}", style="dim"))
    for note in not_said(report.notes, said):
        console.print(Text(f"Note: {note}", style="yellow"))
    if report.cut is not None:
        console.print(_cut(report.cut))
    for entry in report.per:
        console.print(_losses(entry))
    table = Table.grid(padding=(0, 2))
    if report.layout:
        table.add_row("  files", f"{len(report.layout):,} in {result.paths.kept}, each by its name")
        table.add_row("", "beside them *.dropped.* and *.quarantined.*, where there are such rows")
    elif report.written is not None:
        table.add_row("  all rows", str(result.paths.kept))
    else:
        table.add_row("  kept", str(result.paths.kept))
        table.add_row("  dropped", str(result.paths.dropped))
    if counts["quarantined"] and not report.layout:
        table.add_row("  quarantined", str(result.paths.quarantined))
    table.add_row("  report", f"{result.paths.report_html} (.json, .md)")
    if "card" in report.files:
        table.add_row("  card", f"{result.paths.card} (fill in the licence)")
    console.print(table)


def _cut(cut: dict[str, Any]) -> Group:
    """Why so many rows go, and the curve of what more or less would cost."""
    words = [Padding(Text(text), (0, 2)) for text in cut_words(cut)]
    table = Table.grid(padding=(0, 2))
    for share, harmless, stay, nearest in curve_rows(cut):
        table.add_row(
            Text(f"  drop {percent(share):>6}", style="bold" if nearest else "dim"),
            Text("█" * round(CURVE_WIDTH * harmless) + f" {percent(harmless)}", style="cyan"),
            Text("█" * round(CURVE_WIDTH * stay) + f" {percent(stay)}", style="red"),
            "<- the cut" if nearest else "",
        )
    if not table.row_count:
        return Group(*words)
    head = Text(f"  By the estimate: {HARMLESS} (left), {STAY} (right)", style="bold")
    return Group(*words, head, table)


def _losses(entry: dict[str, Any]) -> Group:
    table = Table.grid(padding=(0, 2))
    _, *names = loss_head(entry)
    table.add_row("", "", *(Text(name, style="dim") for name in names))
    for name, *cells in loss_rows(entry):
        style = "yellow" if any(cell.endswith(MARK) for cell in cells) else ""
        table.add_row("", safe(name, 40), *(Text(cell, style=style) for cell in cells))
    head = Text(f"  {loss_title(entry, lambda name: safe(name, 40).plain)}", style="bold")
    more = [Text(f"  {words}", style="dim")] if (words := more_values(entry)) else []
    return Group(head, table, *more)


def _selection(report: Report) -> str:
    asked = report.selection
    if asked["strategy"] == "random":
        return f"drawn at random, seed {asked['seed']}"
    if asked["strategy"] != "closest":
        words = f"first by {asked['strategy']}"
        if asked.get("score_threshold") is None:
            return words
        return f"{words}, {asked['score_name']} from {asked['score_threshold']:.3f}"
    if asked["threshold"] is None:
        if report.decisions:
            return "by decision alone"
        if (share := asked.get("drop_frac")) is not None:
            return f"{percent(share)} of them is less than one row"
        return "none was close enough"
    decided = ", decisions aside" if report.decisions else ""
    return f"the closest, distance up to {asked['threshold']:.3f}{decided}"
