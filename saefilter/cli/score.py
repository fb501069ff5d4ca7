"""`saefilter score`: rows to scores."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saefilter.cli import app
from saefilter.cli.common import (
    POOLS,
    TRAIN_ON,
    choose_preset,
    one_of,
    output_console,
    progress_bar,
    warn,
)

if TYPE_CHECKING:
    from saefilter.rows.read import Source
    from saefilter.run.chunks import ScoreSettings
    from saefilter.run.score import ScoreSummary

PresetOption = Annotated[
    str | None,
    typer.Option("--preset", help="Model and SAE to read with; see `saefilter presets`."),
]
ToxicSetOption = Annotated[
    str | None,
    typer.Option("--toxic-set", help="Toxic set: a JSON file or a shipped name [preset's own]."),
]
MetricOption = Annotated[
    str | None,
    typer.Option("--metric", help="How closeness is measured; docs/metrics.md [contrast]."),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace outputs that exist already.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]


@app.command(epilog="Example: saefilter score data.jsonl -o data.scores.parquet")
def score(
    input: Annotated[Path, typer.Argument(help="Dataset: JSONL, JSON, CSV (.gz) or Parquet.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Scores file [<input>.scores.parquet here]."),
    ] = None,
    preset: PresetOption = None,
    toxic_set: ToxicSetOption = None,
    metric: MetricOption = None,
    pool: Annotated[
        str, typer.Option("--pool", help="Pool activations over trained tokens: mean or max.")
    ] = "mean",
    neighbours: Annotated[
        int | None,
        typer.Option("--neighbours", min=1, help="Average this many nearest toxic features."),
    ] = None,
    train_on: Annotated[
        str,
        typer.Option("--train-on", help="Tokens that are trained on: assistant, all, last-turn."),
    ] = "assistant",
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="Cut rows here, as your trainer does.")
    ] = 1024,
    batch_tokens: Annotated[
        int, typer.Option("--batch-tokens", min=1, help="Padded tokens per batch.")
    ] = 8192,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    dtype: Annotated[str, typer.Option("--dtype", help="auto, fp32, bf16 or fp16.")] = "auto",
    on_bad_row: Annotated[
        str, typer.Option("--on-bad-row", help="quarantine (set aside and go on) or error.")
    ] = "quarantine",
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score every row of a dataset by its distance to toxic features."""
    from saefilter.rows.read import Source
    from saefilter.run.chunks import ScoreSettings
    from saefilter.run.scores import SUFFIX

    source = Source.open(input)
    name, why = choose_preset(preset)
    settings = ScoreSettings(
        preset=name,
        toxic_set=toxic_set,
        metric=metric,
        pool=one_of("--pool", pool, POOLS),
        neighbours=neighbours,
        train_on=one_of("--train-on", train_on, TRAIN_ON),
        max_tokens=max_tokens,
        batch_tokens=batch_tokens,
        device=device,
        dtype=one_of("--dtype", dtype, ("auto", "fp32", "bf16", "fp16")),
        on_bad_row=one_of("--on-bad-row", on_bad_row, ("quarantine", "error")),
    )
    target = output or Path(f"{source.stem}{SUFFIX}")
    warn(f"Preset {name} ({why})", quiet=quiet or as_json)
    summary = run_score(source, target, settings, overwrite=overwrite, quiet=quiet or as_json)
    if as_json:
        typer.echo(json.dumps(summary_json(summary), ensure_ascii=False, indent=2))
    elif not quiet:
        from saefilter.report.console import print_score_summary

        print_score_summary(output_console(), summary)


def run_score(
    source: Source, target: Path, settings: ScoreSettings, *, overwrite: bool, quiet: bool
) -> ScoreSummary:
    """Score with a progress bar."""
    from saefilter.run.publish import refuse_existing
    from saefilter.run.score import score_file

    refuse_existing([target], overwrite=overwrite)  # before any work
    with progress_bar("Scoring", source.count_rows(), quiet=quiet) as advance:
        return score_file(source, target, settings, overwrite=overwrite, advance=advance)


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
