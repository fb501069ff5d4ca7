"""`saefilter score`: rows to scores."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from saefilter.cli import app
from saefilter.cli import options as opt
from saefilter.cli.common import (
    ON_COMMAND_LINE,
    ask_and_say,
    output_console,
    print_json,
    scoring_bar,
    warn,
)
from saefilter.settings import ScoreSettings

if TYPE_CHECKING:
    from saefilter.artifacts.provenance import Provenance


@app.command(epilog="Example: saefilter score data.jsonl -o data.scores.parquet")
@opt.with_options(ScoreSettings, "scoring", defaults=ON_COMMAND_LINE)
def score(
    *,
    input: Annotated[str, typer.Argument(help=opt.INPUT_HELP)],
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", metavar="PATH", help="Scores file [<input>.scores.parquet here]."
        ),
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
    from saefilter.artifacts.publish import refuse_existing
    from saefilter.rows.inputs import open_input
    from saefilter.scoring.scores_for import usual_scores
    from saefilter.storage import located_if

    source = open_input(input)
    silent = quiet or as_json
    settings = ask_and_say(scoring, quiet=silent).settings
    target = located_if(output) or usual_scores(source)
    if not resume:
        refuse_existing([target], overwrite=overwrite)  # before torch is imported
    clock = Timings()
    with scoring_bar(quiet=silent, at_first_shard=clock.at_first_shard) as watch:
        from saefilter.scoring.score import score_file

        summary = score_file(
            source, target, settings, overwrite=overwrite, resume=resume, watch=watch
        )
    if timings:
        clock.say(summary.provenance)
    if as_json:
        print_json(json.dumps(summary.to_fields(), ensure_ascii=False, indent=2))
    elif not quiet:
        from saefilter.report.console import print_score_summary

        print_score_summary(output_console(), summary)


STAGES = {
    "read": "rows read from the data",
    "render": "recognised, rendered, tokenised",
    "encode": "model, SAE and pooling",
    "geometry": "proximity, percentiles, evidence, spillover",
    "write": "shards written and forced to disk",
}


class Timings:
    """The moments of one run, by the clock."""

    def __init__(self) -> None:
        import psutil

        self._process_began = psutil.Process().create_time()
        self._first_shard = self._process_began

    def at_first_shard(self) -> None:
        """Everything is loaded; scoring begins."""
        self._first_shard = time.time()

    def say(self, made: Provenance) -> None:
        """A line for each stage, on standard error. Stages of different shards overlap, so that they
        may add up to more than passed."""
        start = self._first_shard - self._process_began
        warn(f"  start    {start:8.2f} s  imports, model, SAE, toxic set, FAISS")
        for stage, words in STAGES.items():
            warn(f"  {stage:8} {(made.timings or {}).get(stage, 0.0):8.2f} s  {words}")
        total = time.time() - self._process_began
        warn(
            f"  in all   {total:8.2f} s  stages overlap; {made.padding:.1%} of tokens were padding"
            + (f", {made.shared:.1%} prefixes computed for another row" if made.shared else "")
        )
