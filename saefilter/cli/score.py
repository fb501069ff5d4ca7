"""`saefilter score`: rows to scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saefilter.cli import app
from saefilter.cli import options as opt
from saefilter.cli.common import (
    ON_COMMAND_LINE,
    ask_and_say,
    output_console,
    print_json,
    progress_bar,
    warn,
)
from saefilter.cli.timings import Timings
from saefilter.settings import ScoreSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from saefilter.rows.read import Source
    from saefilter.run.summary import ScoreSummary


@app.command(epilog="Example: saefilter score data.jsonl -o data.scores.parquet")
@opt.with_options(ScoreSettings, "scoring", defaults=ON_COMMAND_LINE)
def score(
    *,
    input: Annotated[str, typer.Argument(help=opt.INPUT_HELP)],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Scores file [<input>.scores.parquet here]."),
    ] = None,
    scoring: opt.Given,
    resume: opt.ResumeOption = False,
    timings: Annotated[
        bool, typer.Option("--timings", help="Say on standard error where the time went.")
    ] = False,
    overwrite: opt.OverwriteOption = False,
    quiet: opt.QuietOption = False,
    as_json: opt.JsonOption = False,
) -> None:
    """Score every row of a dataset by its distance to toxic features.

    What is done is saved shard by shard: after a kill, a full disk or Ctrl-C, --resume goes on.
    """
    from saefilter.rows.inputs import open_input
    from saefilter.run.scores_for import usual_scores

    source = open_input(input)
    silent = quiet or as_json
    settings = ask_and_say(scoring, quiet=silent).settings
    target = output or usual_scores(source)
    clock = Timings()
    summary = run_score(
        source, target, settings, overwrite=overwrite, resume=resume, quiet=silent,
        at_first_shard=clock.at_first_shard,
    )  # fmt: skip
    if timings:
        clock.say(summary.provenance)
    if as_json:
        print_json(json.dumps(summary.to_fields(), ensure_ascii=False, indent=2))
    elif not quiet:
        from saefilter.report.console import print_score_summary

        print_score_summary(output_console(), summary)


def run_score(
    source: Source,
    target: Path,
    settings: ScoreSettings,
    *,
    overwrite: bool = False,
    resume: bool = False,
    quiet: bool,
    at_first_shard: Callable[[], None] = lambda: None,
) -> ScoreSummary:
    """Score with a progress bar; says why device and dtype were chosen, and what looks wrong."""
    from saefilter.run.publish import refuse_existing
    from saefilter.run.score import score_file
    from saefilter.watch import Watch

    if not resume:
        refuse_existing([target], overwrite=overwrite)  # before torch is imported
    with progress_bar("Scoring", None, quiet=quiet) as bar:

        def plan(rows: int, done: int) -> None:
            at_first_shard()
            bar.plan(rows, done)

        watch = Watch(lambda text: warn(text, quiet=quiet), plan, bar)
        return score_file(
            source, target, settings, overwrite=overwrite, resume=resume, watch=watch,
        )  # fmt: skip
