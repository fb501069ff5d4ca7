"""`saefilter score`: rows to scores."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saefilter.cli import app
from saefilter.cli import options as opt
from saefilter.cli.common import (
    ON_COMMAND_LINE,
    ask_and_say,
    output_console,
    print_json,
    warn,
)
from saefilter.cli.hints import after_score, no_option
from saefilter.cli.progress import scoring_bar
from saefilter.settings import ScoreSettings
from saefilter.text import command_line, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saefilter.scoring.part import Part, PartFile


@app.command(epilog="Example: saefilter score data.jsonl -o data.scores.parquet")
@opt.with_options(ScoreSettings, "scoring", defaults=ON_COMMAND_LINE)
def score(
    *,
    input: Annotated[str, typer.Argument(help=opt.INPUT_HELP)],
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", help="Scores file [<input>.scores.parquet here]."),
    ] = None,
    scoring: opt.Given,
    part: Annotated[
        str | None,
        typer.Option(
            "--part",
            metavar="K/N",
            help="Score one of N parts, for job arrays; `saefilter scores merge` puts them together.",
        ),
    ] = None,
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
    --part 3/8 writes <output>.part-3-of-8.parquet beside the output.
    """
    from saefilter.artifacts.publish import refuse_existing
    from saefilter.artifacts.scores import Scores
    from saefilter.encode.presets import preset_of
    from saefilter.rows.inputs import open_input
    from saefilter.scoring.part import PartFile
    from saefilter.scoring.scores_for import usual_scores
    from saefilter.scoring.summary import summarise
    from saefilter.storage import located_if

    one = _parsed(part)
    source = open_input(input)
    silent = quiet or as_json
    settings = ask_and_say(scoring, quiet=silent).settings
    preset_of(settings)  # a misspelt one is told of before what lies in the way
    target = located_if(output) or usual_scores(source)
    if one is not None:
        target = one.file(target)
    if not resume:
        refuse_existing([target], overwrite=overwrite)  # before torch is imported
    clock = Timings()
    with scoring_bar(quiet=silent, at_first_shard=clock.at_first_shard) as watch:
        from saefilter.scoring.score import score_file

        score_file(
            source, target, settings, part=one, overwrite=overwrite, resume=resume, watch=watch
        )
        done = summarise(source, Scores.open(target)) if one is None else PartFile.open(target)
    if timings:
        clock.say(done.tally.reported() if isinstance(done, PartFile) else vars(done.provenance))
    if isinstance(done, PartFile):
        _say_part(done, as_json=as_json, quiet=quiet)
    elif as_json:
        print_json(json.dumps(done.to_fields(), ensure_ascii=False, indent=2))
    elif not quiet:
        from saefilter.report.console import print_score_summary

        is_usual = target == usual_scores(source)
        then = after_score(
            input, None if is_usual else target, done.provenance, scoring, source.stem
        )
        print_score_summary(output_console(), done, then)
        if input != "-":
            read_first = command_line("saefilter", "review", no_option(str(target)))
            typer.echo(f"Or read the closest rows first: {read_first}")


def _parsed(part: str | None) -> Part | None:
    if part is None:
        return None
    from saefilter.scoring.part import Part

    return Part.parse(part)


def _say_part(file: PartFile, *, as_json: bool, quiet: bool) -> None:
    """What the part holds, and what to do when all are there."""
    one, rows, scored = file.part, file.rows, file.scored
    if as_json:
        said = {
            "part": one.number, "of": one.of, "file": str(file.path), "rows": rows,
            "scored": scored, "quarantined": rows - scored, "fingerprint": file.digest,
        }  # fmt: skip
        print_json(json.dumps(said, ensure_ascii=False, indent=2))
    elif not quiet:
        typer.echo(
            f"Scored {one}: {rows:,} of {file.fingerprint['rows']:,} rows, {scored:,} scored, "
            f"{rows - scored:,} quarantined\n{one_line(str(file.path))}\n"
            f"When all are there: {one_line(one.how_to_merge(file.path))}"
        )


STAGES = {
    "read": "rows read from the data",
    "render": "recognised, rendered, tokenised",
    "cheap": "the cheap reader of a cascade",
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

    def say(self, made: Mapping[str, Any]) -> None:
        """A line for each stage, on standard error; `made`: `timings`, `padding`, `shared` and so on, as
        in `Provenance`. Stages of different shards overlap, so that they may add up to more than passed."""
        start = self._first_shard - self._process_began
        warn(f"  start    {start:8.2f} s  imports, model, SAE, toxic set, FAISS")
        for stage, words in STAGES.items():
            if stage == "cheap" and not made.get("cascade"):
                continue
            warn(f"  {stage:8} {(made['timings'] or {}).get(stage, 0.0):8.2f} s  {words}")
        total = time.time() - self._process_began
        warn(
            f"  in all   {total:8.2f} s  stages overlap; {made['padding']:.1%} of tokens were padding"
            + (
                f", {made['shared']:.1%} prefixes computed for another row"
                if made["shared"]
                else ""
            )
            + (f", {made['repeated']:,} tokens read in another row" if made["repeated"] else "")
            + (f", {made['left_out']:,} not sampled" if made["left_out"] else "")
        )
