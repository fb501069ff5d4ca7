"""`saefilter score`: rows to scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saefilter.cli import app
from saefilter.cli import options as opt
from saefilter.cli.common import (
    choose_preset,
    one_of,
    output_console,
    print_json,
    progress_bar,
    warn,
)
from saefilter.cli.timings import Timings

if TYPE_CHECKING:
    from collections.abc import Callable

    from saefilter.rows.read import Source
    from saefilter.run.chunks import ScoreSettings
    from saefilter.run.summary import ScoreSummary


@app.command(epilog="Example: saefilter score data.jsonl -o data.scores.parquet")
def score(
    input: Annotated[str, typer.Argument(help=opt.INPUT_HELP)],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Scores file [<input>.scores.parquet here]."),
    ] = None,
    preset: opt.PresetOption = None,
    model: opt.ModelOption = None,
    sae: opt.SaeOption = None,
    revision: opt.RevisionOption = None,
    toxic_set: opt.ToxicSetOption = None,
    metric: opt.MetricOption = None,
    pool: opt.PoolOption = "mean",
    neighbours: Annotated[
        int | None,
        typer.Option("--neighbours", min=1, help="Average this many nearest toxic features."),
    ] = None,
    train_on: opt.TrainOnOption = "assistant",
    max_tokens: opt.MaxTokensOption = 1024,
    truncation_side: opt.TruncationOption = "right",
    rendering: opt.RenderingOption = "auto",
    batch_tokens: Annotated[
        int | None,
        typer.Option("--batch-tokens", min=1, help="Padded tokens per batch [by device]."),
    ] = None,
    device: opt.DeviceOption = "auto",
    dtype: opt.DtypeOption = "auto",
    device_map: opt.DeviceMapOption = None,
    quantize: opt.QuantizeOption = "none",
    on_bad_row: Annotated[
        str, typer.Option("--on-bad-row", help="quarantine (set aside and go on) or error.")
    ] = "quarantine",
    resume: opt.ResumeOption = False,
    workers: opt.WorkersOption = None,
    shard_rows: Annotated[
        int, typer.Option("--shard-rows", min=1, help="Rows scored together and saved at once.")
    ] = 1024,
    prepare_workers: Annotated[
        int | None,
        typer.Option(
            "--prepare-workers",
            min=0,
            help="Processes that turn text into tokens; 0 for a thread [by device].",
        ),
    ] = None,
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
    from saefilter.run.chunks import ScoreSettings
    from saefilter.run.scores import SUFFIX

    source = open_input(input)
    name, why = choose_preset(preset, model, sae)
    settings = ScoreSettings(
        preset=name,
        model=model,
        sae=sae,
        revision=revision,
        toxic_set=toxic_set,
        metric=metric,
        pool=one_of("--pool", pool, opt.POOLS),
        neighbours=neighbours,
        train_on=one_of("--train-on", train_on, opt.TRAIN_ON),
        max_tokens=max_tokens,
        batch_tokens=batch_tokens,
        device=device,
        dtype=one_of("--dtype", dtype, opt.DTYPES),
        device_map=device_map,
        quantize=one_of("--quantize", quantize, opt.QUANTIZATIONS),
        rendering=one_of("--rendering", rendering, opt.RENDERINGS),
        truncation_side=one_of("--truncation-side", truncation_side, opt.SIDES),
        on_bad_row=one_of("--on-bad-row", on_bad_row, ("quarantine", "error")),
        prepare_processes=prepare_workers,
    )
    target = output or Path(f"{source.stem}{SUFFIX}")
    warn(f"Preset {name} ({why})" if name else f"{model} with {sae}", quiet=quiet or as_json)
    clock = Timings()
    summary = run_score(
        source, target, settings, overwrite=overwrite, resume=resume, workers=workers,
        shard_rows=shard_rows, quiet=quiet or as_json, at_first_shard=clock.at_first_shard,
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
    workers: int | None = None,
    shard_rows: int = 1024,
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
            source, target, settings, overwrite=overwrite, resume=resume, workers=workers,
            shard_rows=shard_rows, watch=watch,
        )  # fmt: skip
