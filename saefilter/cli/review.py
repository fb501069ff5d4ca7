"""`saefilter review`: rows to a person's decisions."""

from __future__ import annotations

import json
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from saefilter.cli import app, panels
from saefilter.cli import options as opt
from saefilter.cli.common import asked_of, data_of, output_console, print_json
from saefilter.errors import SaefilterError
from saefilter.review.order import ReviewOrder
from saefilter.text import command_line

if TYPE_CHECKING:
    from rich.console import Console

    from saefilter.artifacts.decisions import Decisions
    from saefilter.artifacts.scores import Scores
    from saefilter.review.session import Session
    from saefilter.rows.read import Source
    from saefilter.storage import Location


@app.command(epilog="Example: saefilter review data.scores.parquet --rows 20")
@opt.with_options(ReviewOrder, "choosing", panel=panels.SHOWN)
def review(
    *,
    scores: Annotated[
        str | None, typer.Argument(help="Scores file [the last in this folder].")
    ] = None,
    data: Annotated[
        str | None, typer.Argument(help="The dataset [what the scores were made from].")
    ] = None,
    choosing: opt.Given,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            help="Decisions; of a file that is there, it goes on [<input>.decisions.json beside the scores].",
        ),
    ] = None,
    reviewer: Annotated[
        str | None, typer.Option("--reviewer", help="Who decides [nobody named].")
    ] = None,
    as_json: opt.JsonOption = False,
) -> None:
    """Read rows one by one, the closest first, and decide on each: keep it, drop it, or leave it to the cut.

    A key is enough: k keeps, d drops, s skips, b goes back, r takes a reason, q quits, ? helps. Every
    decision is saved at once, and the same command goes on. Without a terminal, lines do the same: `d
    gives a dose` drops with a reason. `filter`, `features curate` and `compare` take the decisions.
    """
    from saefilter.artifacts.publish import exclusive, refuse_existing
    from saefilter.cli.rounds import usual_decisions
    from saefilter.storage import located_if

    asked = ReviewOrder(**choosing)
    if "around_cut" in choosing and {"order", "seed"} & set(choosing):
        raise SaefilterError(
            "--around-cut is an order of its own", remedy="Leave --order and --seed out."
        )
    opened, source = _open(scores, data)
    target = located_if(output) or usual_decisions(opened)
    refuse_existing([target], overwrite=True)  # a folder
    console = _console(as_json=as_json)
    with exclusive(target):
        before = _decisions(target, opened, source, reviewer)
        session = _session(console, opened, source, asked, before, target)
        if session.queue:
            _run(console, session, opened.provenance.reference_name)
    _say_end(
        console,
        session,
        opened,
        source,
        data or opened.provenance.input_path,
        target,
        as_json=as_json,
    )


def _open(scores: str | None, data: str | None) -> tuple[Scores, Source]:
    from saefilter.artifacts.scores import Scores
    from saefilter.rows.inputs import open_input
    from saefilter.scoring.scores_for import latest_scores_for

    opened = Scores.open(scores) if scores else latest_scores_for(asked_of({}))
    again = f"{command_line('saefilter', 'review', str(opened.path))} DATA"
    source = open_input(data) if data else data_of(opened, f"Name the data: {again}")
    opened.check_belongs(source)
    opened.verify()
    return opened, source


def _decisions(target: Location, scores: Scores, source: Source, reviewer: str | None) -> Decisions:
    """Those that are there, to go on with, or none yet."""
    from saefilter.artifacts.decisions import Decisions
    from saefilter.text import one_line

    made = scores.provenance
    there = Decisions(source.path.name, made.input_sha256)
    if target.exists():
        there = Decisions.open(target)
        there.check_belongs(made.input_sha256, str(source.path))
    by = there.reviewer if reviewer is None else one_line(reviewer)
    return replace(there, scores_content_sha256=made.content_sha256, reviewer=by, path=target)


def _session(
    console: Console,
    scores: Scores,
    source: Source,
    asked: ReviewOrder,
    before: Decisions,
    target: Location,
) -> Session:
    from saefilter.review.queue import queue_of, views_of
    from saefilter.review.session import Session
    from saefilter.text import rows_of
    from saefilter.toxic.learnt import learnt_rows

    learnt = set(learnt_rows(scores))
    if learnt:
        console.print(
            f"Not shown: {rows_of(len(learnt))} that the toxic set {scores.provenance.toxic_set} has learnt from."
        )
    over = {one.row_hash for one in before.decisions} | learnt
    queue = [one for one in queue_of(scores, asked) if one.row_hash not in over][: asked.rows]
    return Session(
        queue, views_of(source, scores, queue), before, save=lambda made: made.write(target)
    )


def _console(*, as_json: bool) -> Console:
    """Where rows are shown; standard output is the summary's, where that is to be read by a program."""
    if not as_json:
        return output_console()
    from saefilter.report.console import SafeConsole

    return SafeConsole(stderr=True)


def _run(console: Console, session: Session, reference: str | None) -> None:
    """Show rows and take keys until there are no more of either. Ctrl-C and the end of the input are `q`."""
    from rich.text import Text

    from saefilter.review.keys import presses
    from saefilter.review.page import show_row
    from saefilter.review.session import hint

    with suppress(KeyboardInterrupt, EOFError), closing(presses(console.input)) as said_by:
        at = -1
        while not session.finished:
            if session.at != at:
                at = session.at
                show_row(console, session, reference)
                console.print(Text(hint(), style="dim"))
            press = next(said_by, None)
            if press is None:
                return
            if said := session.press(press):
                console.print(Text(said, style="bold"))


def _say_end(
    console: Console, session: Session, scores: Scores, source: Source, data: str, target: Location,
    *, as_json: bool,
) -> None:  # fmt: skip
    """What was decided, and what to do with it."""
    from saefilter.artifacts.decisions import DROP, KEEP
    from saefilter.cli.rounds import to_filter
    from saefilter.report.console import print_next
    from saefilter.text import rows_of

    made = session.decisions
    counts = {one: made.count(one) for one in (KEEP, DROP)}
    left = len(session.queue) - session.at if session.queue else 0
    if as_json:
        fields = {
            "decisions": str(target),
            "decided_now": len(session.made),
            "left": left,
            **counts,
        }
        print_json(json.dumps(fields, ensure_ascii=False, indent=2))
        return
    if not made.decisions:
        console.print("\nNothing was decided, and nothing written.")
        return
    done = "Every scored row was decided on before." if not session.queue else (
        f"Decided on {rows_of(len(session.made))} now."
    )  # fmt: skip
    console.print(
        f"\n{done} {target} has {len(made.decisions):,}: {counts[KEEP]:,} keep, {counts[DROP]:,} drop.",
        soft_wrap=True,
    )
    if left > 0:
        console.print(f"Left of {len(session.queue):,}: {left:,}; the same command goes on.")
    print_next(console, to_filter(data, source, scores, made))
