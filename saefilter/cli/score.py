"""`saefilter score`: rows to scores."""

from __future__ import annotations

import json
from dataclasses import asdict
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

if TYPE_CHECKING:
    from saefilter.rows.read import Source
    from saefilter.run.chunks import ScoreSettings
    from saefilter.run.score import ScoreSummary


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
        int, typer.Option("--batch-tokens", min=1, help="Padded tokens per batch.")
    ] = 8192,
    device: opt.DeviceOption = "auto",
    dtype: opt.DtypeOption = "auto",
    device_map: opt.DeviceMapOption = None,
    quantize: opt.QuantizeOption = "none",
    on_bad_row: Annotated[
        str, typer.Option("--on-bad-row", help="quarantine (set aside and go on) or error.")
    ] = "quarantine",
    overwrite: opt.OverwriteOption = False,
    quiet: opt.QuietOption = False,
    as_json: opt.JsonOption = False,
) -> None:
    """Score every row of a dataset by its distance to toxic features."""
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
    )
    target = output or Path(f"{source.stem}{SUFFIX}")
    warn(f"Preset {name} ({why})" if name else f"{model} with {sae}", quiet=quiet or as_json)
    summary = run_score(source, target, settings, overwrite=overwrite, quiet=quiet or as_json)
    if as_json:
        print_json(json.dumps(summary_json(summary), ensure_ascii=False, indent=2))
    elif not quiet:
        from saefilter.report.console import print_score_summary

        print_score_summary(output_console(), summary)


def run_score(
    source: Source, target: Path, settings: ScoreSettings, *, overwrite: bool, quiet: bool
) -> ScoreSummary:
    """Score with a progress bar; says why device and dtype were chosen, and what looks wrong."""
    from saefilter.run.chunks import ChunkScorer
    from saefilter.run.publish import refuse_existing
    from saefilter.run.score import score_file

    refuse_existing([target], overwrite=overwrite)  # before any work
    source.refuse_to_join([target])
    total = source.count_rows()
    scorer = ChunkScorer.load(settings, lambda text: warn(text, quiet=quiet))
    encoder = scorer.encoder
    for line in (*encoder.placement.reasons, *(f"Warning: {text}" for text in encoder.warnings)):
        warn(line, quiet=quiet)
    with progress_bar("Scoring", total, quiet=quiet) as advance:
        summary = score_file(
            source, target, settings, overwrite=overwrite, chunk_scorer=scorer, advance=advance
        )
    if suspicious := encoder.l0_warning():
        warn(f"Warning: {suspicious}", quiet=quiet)
    return summary


def summary_json(summary: ScoreSummary) -> dict[str, object]:
    """The summary for machines."""
    import numpy as np

    quantiles = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
    return {
        "scores": str(summary.output),
        **asdict(summary.provenance),
        "quarantine_reasons": dict(summary.reasons),
        "distance_quantiles": {str(q): float(np.quantile(summary.distances, q)) for q in quantiles},
        "closest": summary.closest,
    }
