"""`saefilter filter`: scores to kept, dropped and quarantined rows and the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saefilter.cli import app
from saefilter.cli import options as opt
from saefilter.cli.common import (
    ON_COMMAND_LINE,
    STRATEGY_NAMES,
    asked_of,
    judge_settings,
    output_console,
    print_json,
    progress_bar,
    scoring_bar,
    strategy_options,
    warn,
)
from saefilter.errors import SaefilterError
from saefilter.filtering.soft import SoftOptions
from saefilter.select.judge.settings import JudgeSettings
from saefilter.select.registry import StrategyOptions, is_seeded, takes
from saefilter.select.strategies import Selection
from saefilter.settings import ScoreSettings

if TYPE_CHECKING:
    from saefilter.artifacts.decisions import Decisions
    from saefilter.artifacts.scores import Scores
    from saefilter.asked import Asked
    from saefilter.filtering.filter import FilterResult
    from saefilter.rows.read import Source
    from saefilter.storage import Location

SHARED = ("model", "revision", "toxic_set", "device", "dtype")
"""Options that scoring and strategies both have."""
ALREADY = (*SHARED, "decisions")
"""Options of strategies that the command has in another place; `--decisions` are of every strategy."""


@app.command(
    "filter", epilog="Example: saefilter filter data.jsonl --drop-frac 0.1 -o clean.parquet"
)
@opt.with_options(
    ScoreSettings,
    "scoring",
    defaults=ON_COMMAND_LINE,
    helps={"model": "Model of a strategy that reads with one; with --sae, of scores."},
)
@opt.with_options(Selection, "cutting")
@opt.with_options(StrategyOptions, "telling", without=ALREADY)
@opt.with_options(SoftOptions, "writing")
@opt.with_options(JudgeSettings, "judging")
def filter_command(
    *,
    input: Annotated[
        str | None, typer.Argument(help="Dataset [that of the last scores in this folder].")
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option("--scores", metavar="PATH", help="Scores file [<input>.scores.parquet here]."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="Kept rows, .parquet or .jsonl [<input>.filtered.parquet; .jsonl for JSON that no table "
            "holds]; of several files a folder, where each keeps its name [<input>.filtered].",
        ),
    ] = None,
    single: Annotated[
        bool, typer.Option("--single", help="Write one file, where the data are several.")
    ] = False,
    drop_frac: Annotated[
        float | None, typer.Option("--drop-frac", help="Share of the scored rows to drop, 0 to 1.")
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
            metavar="FILE",
            help="Rows that a review keeps or drops, whatever their distance; the cut is over the others, or, "
            "where none is asked for, only they go.",
        ),
    ] = None,
    strategy: Annotated[
        str,
        typer.Option("--strategy", help=f"Which rows go first: {STRATEGY_NAMES}."),
    ] = "closest",
    seed: Annotated[int | None, typer.Option("--seed", help="Of strategies that draw [0].")] = None,
    telling: opt.Given,
    scoring: opt.Given,
    writing: opt.Given,
    card: Annotated[
        bool,
        typer.Option("--card", help="Write a dataset card too: README.md beside the kept rows."),
    ] = False,
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
    cutting = {name: tuple(v) if isinstance(v, list) else v for name, v in cutting.items()}
    if decisions is not None and (drop_frac, min_distance, cutting.get("drop")) == (None,) * 3:
        drop_count = drop_count or 0
    selection = Selection(
        strategy, drop_frac, drop_count, min_distance, seed or 0, options, **cutting
    )
    selection.check()
    written = SoftOptions(**writing)
    written.check_with(selection)
    decided = None if decisions is None else _decisions(decisions, written)
    if seed is not None and not is_seeded(strategy):
        raise SaefilterError(
            f"--seed has no effect with --strategy {strategy}, which draws nothing",
            remedy="Leave it out.",
        )
    asked, silent = _seeking(asked_of(scoring), drop_frac), quiet or as_json
    source, named = _data(input, located_if(scores), asked, quiet=silent)
    if judge_dry_run:
        _say_estimate(judge, source, named or usual_scores(source))
        return
    if decided is not None:
        decided.check_belongs(source.sha256(), str(source.path))
    write = _writer(
        located_if(output), source, written,
        single=single, card=card, report_rows=report_rows, overwrite=overwrite, quiet=silent,
    )  # fmt: skip
    opened = scores_for(
        source, asked, named=named, say=lambda text: warn(text, quiet=silent),
        make=lambda why: _score_first(source, asked, why, overwrite=overwrite, quiet=silent),
    )  # fmt: skip
    with progress_bar(f"Strategy {strategy}", None, quiet=silent) as bar:
        watch = Watch(lambda text: warn(text, quiet=silent), bar.plan, bar)
        result = write(
            opened, selection, source_dataset=hub_name(input), watch=watch, settings=asked.settings,
            decisions=decided,
        )  # fmt: skip
    if as_json:
        print_json(result.report.to_json())
    elif not quiet:
        from saefilter.report.console import print_filter_result

        print_filter_result(output_console(), result)
        if decided is not None:
            from saefilter.cli.hints import after_filter, say_next

            data = input or opened.provenance.input_path
            say_next(output_console(), after_filter(data, source, opened, decided))


def _decisions(path: str, written: SoftOptions) -> Decisions:
    """Raises SaefilterError for a file that is none, and for outputs that it does not go with."""
    from saefilter.artifacts.decisions import Decisions

    written.check_decided()
    return Decisions.open(path)


def _writer(
    output: Location | None,
    source: Source,
    written: SoftOptions,
    *,
    single: bool,
    quiet: bool,
    card: bool,
    report_rows: int,
    overwrite: bool,
) -> Callable[..., FilterResult]:
    """What writes the rows of scores by a selection: to a folder or to one file, neither of which is in the
    way. Raises SaefilterError where it is, before anything is scored."""
    from saefilter.filtering.filter import filter_file
    from saefilter.filtering.folder import check_folder, filter_folder
    from saefilter.filtering.layout import goes_to_folder
    from saefilter.filtering.outputs import OutputPaths
    from saefilter.rows.write import check_output_name

    how: dict[str, Any] = {
        "card": card, "overwrite": overwrite, "options": written, "report_rows": report_rows,
    }  # fmt: skip
    single = single or (output is None and (written.is_soft or written.swaps))
    if not single and goes_to_folder(source, output):
        folder = Path(str(output or f"{source.stem}.filtered"))
        check_folder(source, folder, written, overwrite=overwrite)
        return lambda scores, selection, settings, **more: filter_folder(
            source, scores, folder, selection, **how, **more
        )
    target = _output(output, source, quiet=quiet)
    check_output_name(target)
    OutputPaths.beside(target).refuse_existing(card=card, overwrite=overwrite)
    return lambda scores, selection, **more: filter_file(
        source, scores, target, selection, **how, **more
    )


def _output(asked: Location | None, source: Source, *, quiet: bool) -> Location:
    """Where kept rows go: unless asked otherwise Parquet, or JSONL where one table would not hold the rows
    as they are."""
    from saefilter.rows.tables import why_no_table

    if asked is not None and asked.suffix != ".parquet":
        return asked
    if (why := why_no_table(source)) is None:
        return asked or Path(f"{source.stem}.filtered.parquet")
    if asked is None:
        warn(f"Writing JSONL, which keeps rows as they are: {why}", quiet=quiet)
        return Path(f"{source.stem}.filtered.jsonl")
    warn(
        f"A table does not hold these rows as they are: {why}; missing fields become nulls, and rows of "
        "another type are set aside. -o NAME.jsonl keeps all",
        quiet=quiet,
    )
    return asked


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
    data = opened.provenance.input_path
    try:
        source = open_input(data)
    except SaefilterError as error:
        raise SaefilterError(
            f"{opened.path} was made from {data}, which is not there",
            remedy=f"Name the data: saefilter filter DATA --scores {opened.path}",
        ) from error
    warn(f"Using the scores {opened.path} of {data}, made {opened.provenance.created}", quiet=quiet)
    return source, opened.path


def _say_estimate(judge: JudgeSettings | None, source: Source, scores: Location) -> None:
    """What judging would take; of data without scores, over every row that can be read."""
    from saefilter.artifacts.scores import Scores
    from saefilter.curate.sources import usable_rows
    from saefilter.filtering.filter import candidates_of
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
            remedy=f"Score the data anew (saefilter score {source.path} --overwrite, or --overwrite "
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
