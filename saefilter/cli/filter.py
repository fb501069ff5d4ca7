"""`saefilter filter`: scores to kept, dropped and quarantined rows and the report."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from saefilter.cli import app, completion, panels
from saefilter.cli import options as opt
from saefilter.cli.common import (
    ON_COMMAND_LINE,
    STRATEGY_NAMES,
    asked_of,
    data_of,
    judge_settings,
    output_console,
    print_json,
    strategy_options,
    warn,
)
from saefilter.cli.kept import hub_repo, push, writer_of
from saefilter.cli.progress import progress_bar, scoring_bar
from saefilter.described import as_fraction, described
from saefilter.errors import SaefilterError
from saefilter.filtering.soft import SoftOptions
from saefilter.select.judge.settings import JudgeSettings
from saefilter.select.registry import StrategyOptions, is_seeded, takes
from saefilter.select.strategies import Selection
from saefilter.settings import ScoreSettings
from saefilter.text import command_line

if TYPE_CHECKING:
    from saefilter.artifacts.decisions import Decisions
    from saefilter.artifacts.scores import Scores
    from saefilter.asked import Asked
    from saefilter.filtering.job import FilterResult
    from saefilter.hub import Pushed
    from saefilter.rows.read import Source
    from saefilter.storage import Location

SHARED = ("model", "revision", "toxic_set", "device", "dtype")
"""Options that scoring and strategies both have."""
ALREADY = (*SHARED, "decisions")
"""Options of strategies that the command has in another place; `--decisions` are of every strategy."""


@app.command("filter", epilog="Example: saefilter filter data.jsonl --drop-frac 10% -o clean.jsonl")
@opt.with_options(
    ScoreSettings,
    "scoring",
    defaults=ON_COMMAND_LINE,
    helps={"model": "Model of a strategy that reads with one; with --sae, of scores."},
)
@opt.with_options(Selection, "cutting", panel=panels.CUT)
@opt.with_options(StrategyOptions, "telling", panel=panels.STRATEGIES, without=ALREADY)
@opt.with_options(SoftOptions, "writing", panel=panels.WRITING)
@opt.with_options(JudgeSettings, "judging", panel=panels.JUDGE)
def filter_command(
    *,
    input: Annotated[
        str | None, typer.Argument(help="Dataset [that of the last scores in this folder].")
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option("--scores", help="Scores file [<input>.scores.parquet here]."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            help="Kept rows, .jsonl, .csv or .parquet [<input>.filtered, in the input's format]; of several "
            "files a folder, where each keeps its name [<input>.filtered]. Folders are made.",
        ),
    ] = None,
    format: Annotated[
        Literal["jsonl", "csv", "parquet"] | None,
        typer.Option(
            "--format",
            help="What is written [the input's format; of JSON and of files of several formats jsonl, of hub "
            "datasets parquet].",
        ),
    ] = None,
    single: Annotated[
        bool, typer.Option("--single", help="Write one file, where the data are several.")
    ] = False,
    drop_frac: Annotated[
        str | None,
        typer.Option("--drop-frac", help="Share of the scored rows to drop: 10% or 0.1."),
    ] = None,
    drop_count: Annotated[
        int | None, typer.Option("--drop-count", help="Number of rows to drop.")
    ] = None,
    min_distance: Annotated[
        float | None, typer.Option("--min-distance", help="Drop every row closer than this.")
    ] = None,
    cutting: opt.Given,
    decisions: Annotated[
        str | None,
        typer.Option(
            "--decisions",
            help="Rows that a review keeps or drops, whatever their distance; the cut is over the others, or, "
            "where none is asked for, only they go.",
        ),
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(
            "--strategy",
            help=f"Which rows go first: {STRATEGY_NAMES} [closest].",
            show_default=False,
            autocompletion=completion.strategies,
        ),
    ] = "closest",
    seed: Annotated[int | None, typer.Option("--seed", help="Of strategies that draw [0].")] = None,
    telling: opt.Given,
    scoring: opt.Given,
    writing: opt.Given,
    card: Annotated[
        bool,
        typer.Option("--card", help="Write a dataset card too: README.md beside the kept rows."),
    ] = False,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            "--push-to-hub",
            metavar="ORG/NAME",
            help="Hand the kept rows and a card over to a dataset on the hub, made and private where there is "
            "none.",
        ),
    ] = None,
    public: opt.PublicOption = False,
    report_rows: Annotated[
        int,
        typer.Option(
            "--report-rows",
            min=0,
            metavar="N",
            help="Rows to look through in the HTML report, with their texts; 0 for none.",
        ),
    ] = 5_000,
    judging: opt.Given,
    judge_dry_run: Annotated[
        bool, typer.Option("--judge-dry-run", help="Say what judging would take, and stop there.")
    ] = False,
    overwrite: opt.OverwriteOption = False,
    quiet: opt.QuietOption = False,
    as_json: opt.JsonOption = False,
) -> None:
    """Drop the rows closest to toxic features; scores the data first when there are no scores.

    Scores that are there must have been made as is asked for here. Other strategies than the closest
    are for comparison, and may need options of their own.
    """
    from saefilter.rows.inputs import hub_name
    from saefilter.scoring.scores_for import scores_for, usual_scores
    from saefilter.storage import located_if
    from saefilter.watch import Watch

    judge = judge_settings(judging)
    scoring, shared = _whose(strategy, scoring)
    options = strategy_options({**telling, **shared}, judge)
    share = None if drop_frac is None else as_fraction(drop_frac, "--drop-frac")
    own = described(Selection)
    cutting = {name: own[name].plain(value) for name, value in cutting.items()}
    if decisions is not None and (share, min_distance, cutting.get("drop")) == (None,) * 3:
        drop_count = drop_count or 0
    selection = Selection(strategy, share, drop_count, min_distance, seed or 0, options, **cutting)
    selection.check()
    written = SoftOptions(**writing)
    written.check_with(selection)
    decided = None if decisions is None else _decisions(decisions, written)
    if seed is not None and not is_seeded(strategy):
        raise SaefilterError(
            f"--seed has no effect with --strategy {strategy}, which draws nothing",
            remedy="Leave it out.",
        )
    asked, silent = _seeking(asked_of(scoring), share), quiet or as_json
    source, named = _data(input, located_if(scores), asked, quiet=silent)
    if judge_dry_run:
        _say_estimate(judge, source, named or usual_scores(source))
        return
    if decided is not None:
        decided.check_belongs(source.sha256(), str(source.path))
    repo = hub_repo(push_to_hub, located_if(output), public=public)
    write = writer_of(
        located_if(output), source, written, format,
        single=single, card=card, report_rows=report_rows, overwrite=overwrite, quiet=silent,
        settings=asked.settings,
    )  # fmt: skip
    made: list[Scores] = []

    def make(why: str | None) -> Scores:
        made.append(_score_first(source, asked, why, overwrite=overwrite, quiet=silent))
        return made[0]

    opened = scores_for(
        source, asked, named=named, say=lambda text: warn(text, quiet=silent), make=make
    )
    with progress_bar(f"Strategy {strategy}", None, quiet=silent) as bar:
        watch = Watch(lambda text: warn(text, quiet=silent), bar.plan, bar)
        result = write(
            scores=opened, selection=selection, decisions=decided, watch=watch,
            source_dataset=hub_name(input),
        )  # fmt: skip
    pushed = push(result, repo)
    if as_json:
        print_json(_as_json(result, pushed))
    elif not quiet:
        from saefilter.report.console import print_next
        from saefilter.report.console_filter import print_filter_result

        said = [] if made else [opened.provenance.note or ""]  # by who made the scores
        print_filter_result(output_console(), result, said)
        if pushed is not None:
            seen = "private" if pushed.private else "public"
            typer.echo(f"  on the hub   {pushed.url} ({seen}), commit {pushed.commit[:12]}")
        if decided is not None:
            from saefilter.cli.rounds import after_filter

            data = input or opened.provenance.input_path
            print_next(output_console(), after_filter(data, source, opened, decided))


def _decisions(path: str, written: SoftOptions) -> Decisions:
    """Raises SaefilterError for a file that is none, and for outputs that it does not go with."""
    from saefilter.artifacts.decisions import Decisions

    written.check_decided()
    return Decisions.open(path)


def _as_json(result: FilterResult, pushed: Pushed | None) -> str:
    text = result.report.to_json()
    return text if pushed is None else json.dumps({**json.loads(text), "hub": pushed.to_json()})


def _whose(strategy: str, scoring: opt.Given) -> tuple[opt.Given, opt.Given]:
    """Of the options that scoring and strategies both have: what is for scoring, and what for the
    strategy. The model is the strategy's alone where it takes one, unless an SAE comes with it."""
    shared = {name: scoring[name] for name in SHARED if name in scoring and takes(strategy, name)}
    own = {"dtype"} & set(shared)
    if takes(strategy, "model") and "sae" not in scoring:
        own |= {"model", "revision", *({"toxic_set"} & set(shared))}
    return {name: value for name, value in scoring.items() if name not in own}, shared


def _seeking(asked: Asked, drop_frac: float | None) -> Asked:
    """A cascade seeks as many rows as are to be dropped, where nobody says otherwise."""
    settings = asked.settings
    if settings.cheap_reader is None or settings.nearest is not None or not drop_frac:
        return asked
    # not as something that was asked for: scores that sought more serve as well
    return replace(asked, settings=replace(settings, nearest=min(drop_frac, 0.999)))


def _data(
    input: str | None, scores: Location | None, asked: Asked, *, quiet: bool
) -> tuple[Source, Location | None]:
    """The data, and the scores that are named or that name it."""
    from saefilter.artifacts.scores import Scores
    from saefilter.rows.inputs import open_input
    from saefilter.scoring.scores_for import latest_scores_for

    if input is not None:
        return open_input(input), scores
    opened = Scores.open(scores) if scores else latest_scores_for(asked)
    again = f"saefilter filter DATA --scores {command_line(str(opened.path))}"
    source, made = data_of(opened, f"Name the data: {again}"), opened.provenance
    warn(f"Using the scores {opened.path} of {made.input_path}, made {made.created}", quiet=quiet)
    return source, opened.path


def _say_estimate(judge: JudgeSettings | None, source: Source, scores: Location) -> None:
    """What judging would take; of data without scores, over every row that can be read."""
    from saefilter.artifacts.scores import Scores
    from saefilter.curate.sources import usable_rows
    from saefilter.filtering.job import candidates_of
    from saefilter.select.judge.judge import estimate

    if judge is None:
        raise SaefilterError("--judge-dry-run needs --judge-url and --judge-model")
    if not scores.exists():
        warn(estimate(lambda: usable_rows(source), judge).words(judge))
        return
    opened = Scores.open(scores)
    opened.check_belongs(source)
    warn(estimate(candidates_of(source, opened).conversations, judge).words(judge))


def _score_first(
    source: Source, asked: Asked, why: str | None, *, overwrite: bool, quiet: bool
) -> Scores:
    """Score the data, in place of scores that do not serve where those may be replaced."""
    from saefilter.artifacts.scores import Scores
    from saefilter.scoring.scores_for import usual_scores

    target = usual_scores(source)
    if why is None:
        warn(f"No scores yet: scoring {source.path}. {asked.why()}", quiet=quiet)
    elif overwrite:
        warn(f"Not using {target}: {why}; scoring {source.path}. {asked.why()}", quiet=quiet)
    else:
        raise SaefilterError(
            f"{target} cannot be used: {why}",
            remedy=f"Score the data anew (saefilter score {command_line(str(source.path))} --overwrite, or --overwrite "
            "here), or ask for what the scores were made with.",
        )
    with scoring_bar(quiet=quiet) as watch:
        from saefilter.scoring.score import score_file

        # what an interrupted run has done is gone on with, where it is of these settings
        score_file(
            source, target, asked.settings,
            overwrite=overwrite or why is not None, resume=why is None, watch=watch,
            again="the same command scores the rest",
        )  # fmt: skip
    warn(f"Scores: {target}", quiet=quiet)
    return Scores.open(target)
