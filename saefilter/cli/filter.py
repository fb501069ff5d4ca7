"""`saefilter filter`: scores to kept, dropped and quarantined rows and the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saefilter.cli import app, strategies
from saefilter.cli import options as opt
from saefilter.cli.common import choose_preset, output_console, print_json, progress_bar, warn
from saefilter.cli.judge import with_judge_options
from saefilter.cli.score import run_score
from saefilter.errors import SaefilterError

if TYPE_CHECKING:
    from saefilter.rows.read import Source
    from saefilter.run.chunks import ScoreSettings
    from saefilter.run.scores import Scores
    from saefilter.select.judge.settings import JudgeSettings


@app.command(
    "filter", epilog="Example: saefilter filter data.jsonl --drop-frac 0.1 -o clean.parquet"
)
@with_judge_options
def filter_command(
    input: Annotated[
        str | None, typer.Argument(help="Dataset [that of the last scores in this folder].")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option("--scores", help="Scores file [<input>.scores.parquet here].")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Kept rows, .parquet or .jsonl [<input>.filtered.parquet]."
        ),
    ] = None,
    drop_frac: Annotated[
        float | None, typer.Option("--drop-frac", help="Share of the scored rows to drop, 0 to 1.")
    ] = None,
    drop_count: Annotated[
        int | None, typer.Option("--drop-count", help="Number of rows to drop.")
    ] = None,
    min_distance: Annotated[
        float | None, typer.Option("--min-distance", help="Drop every row closer than this.")
    ] = None,
    strategy: Annotated[
        str,
        typer.Option("--strategy", help=f"Which rows go first: {strategies.NAMES}."),
    ] = "closest",
    seed: Annotated[int, typer.Option("--seed", help="Of strategies that draw.")] = 0,
    contrast_toxic: strategies.ContrastToxicOption = None,
    contrast_benign: strategies.ContrastBenignOption = None,
    label: strategies.LabelOption = None,
    labels: strategies.LabelsOption = None,
    hook: strategies.HookOption = None,
    max_new_tokens: strategies.MaxNewTokensOption = None,
    temperature: strategies.TemperatureOption = None,
    preset: opt.PresetOption = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Model of a strategy that reads with one; with --sae, of scores."
        ),
    ] = None,
    sae: opt.SaeOption = None,
    revision: opt.RevisionOption = None,
    toxic_set: opt.ToxicSetOption = None,
    device: strategies.DeviceOption = None,
    dtype: strategies.DtypeOption = None,
    metric: opt.MetricOption = None,
    card: Annotated[
        bool,
        typer.Option("--card", help="Write a dataset card too: README.md beside the kept rows."),
    ] = False,
    judge: JudgeSettings | None = None,
    judge_dry_run: Annotated[
        bool, typer.Option("--judge-dry-run", help="Say what judging would take, and stop there.")
    ] = False,
    overwrite: opt.OverwriteOption = False,
    quiet: opt.QuietOption = False,
    as_json: opt.JsonOption = False,
) -> None:
    """Drop the rows closest to toxic features; scores the data first when there are no scores.

    --preset, --sae, --toxic-set and --metric only matter when it does. Other strategies than the
    closest are for comparison, and may need options of their own.
    """
    from saefilter.rows.inputs import hub_name
    from saefilter.rows.write import check_output_name
    from saefilter.run.chunks import ScoreSettings
    from saefilter.run.filter import filter_file
    from saefilter.run.outputs import OutputPaths
    from saefilter.select.registry import takes
    from saefilter.select.strategies import Selection
    from saefilter.watch import Watch

    options = strategies.strategy_options(
        [strategy], contrast_toxic=contrast_toxic, contrast_benign=contrast_benign, label=label,
        labels=labels, hook=hook, max_new_tokens=max_new_tokens, temperature=temperature,
        model=model, revision=revision, toxic_set=toxic_set, device=device, dtype=dtype, judge=judge,
    )  # fmt: skip
    selection = Selection(strategy, drop_frac, drop_count, min_distance, seed, options)
    selection.check()
    if takes(strategy, "model") and not sae:  # the strategy's alone; the scores go by a preset
        model = revision = toxic_set = None
    source, opened = _find(input, scores, quiet=quiet or as_json)
    if judge_dry_run:
        _say_estimate(judge, source, opened)
        return
    target = output or Path(f"{source.stem}.filtered.parquet")
    check_output_name(target)
    OutputPaths.beside(target).refuse_existing(card=card, overwrite=overwrite)
    if opened is None:
        name, why = choose_preset(preset, model, sae)
        settings = ScoreSettings(
            preset=name,
            model=model,
            sae=sae,
            revision=revision,
            toxic_set=toxic_set,
            metric=metric,
            device=device or "auto",
            dtype=dtype or "auto",
            prepare_processes=None,
        )
        what = f"preset {name} ({why})" if name else f"{model} and {sae}"
        opened = _score_first(source, settings, what, quiet=quiet or as_json)
    silent = quiet or as_json
    with progress_bar(f"Strategy {strategy}", None, quiet=silent) as bar:
        result = filter_file(
            source,
            opened,
            target,
            selection,
            overwrite=overwrite,
            card=card,
            source_dataset=hub_name(input),
            watch=Watch(lambda text: warn(text, quiet=silent), bar.plan, bar),
        )
    if as_json:
        print_json(result.report.to_json())
    elif not quiet:
        from saefilter.report.console import print_filter_result

        print_filter_result(output_console(), result)


def _find(input: str | None, scores: Path | None, *, quiet: bool) -> tuple[Source, Scores | None]:
    """The data and its scores; None for scores that have yet to be made."""
    from saefilter.rows.inputs import open_input
    from saefilter.run.scores import SUFFIX, Scores, latest_scores

    if input is not None:
        source = open_input(input)
        path = scores or Path(f"{source.stem}{SUFFIX}")
        return source, Scores.open(path) if scores or path.exists() else None
    opened = Scores.open(scores or latest_scores(Path()))
    data = opened.provenance.input_path
    try:
        source = open_input(data)
    except SaefilterError as error:
        raise SaefilterError(
            f"{opened.path} was made from {data}, which is not there",
            remedy=f"Name the data: saefilter filter DATA --scores {opened.path}",
        ) from error
    warn(f"Using the scores {opened.path} of {data}, made {opened.provenance.created}", quiet=quiet)
    return source, opened


def _say_estimate(judge: JudgeSettings | None, source: Source, scores: Scores | None) -> None:
    """What judging would take; of data without scores, over every row that can be read."""
    from saefilter.run.filter import candidates_of
    from saefilter.select.judge.judge import estimate
    from saefilter.toxic.sources import usable_rows

    if judge is None:
        raise SaefilterError("--judge-dry-run needs --judge-url and --judge-model")
    if scores is None:
        found = estimate(lambda: usable_rows(source), judge)
    else:
        scores.check_belongs(source)
        found = estimate(candidates_of(source, scores).conversations, judge)
    warn(found.words(judge))


def _score_first(source: Source, settings: ScoreSettings, what: str, *, quiet: bool) -> Scores:
    from saefilter.run.scores import SUFFIX, Scores

    target = Path(f"{source.stem}{SUFFIX}")
    warn(f"No scores yet: scoring {source.path} with {what}", quiet=quiet)
    run_score(source, target, settings, overwrite=False, quiet=quiet)
    warn(f"Scores: {target}", quiet=quiet)
    return Scores.open(target)
