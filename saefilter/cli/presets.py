"""`saefilter presets` and `saefilter doctor`: what can be used, and will it work."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saefilter.cli import app
from saefilter.cli import options as opt
from saefilter.cli.common import asked_of, preset_of
from saefilter.columns import Columns
from saefilter.errors import SaefilterError
from saefilter.settings import COLUMN_SETTINGS, ScoreSettings
from saefilter.text import clean

if TYPE_CHECKING:
    from saefilter.encode.preflight import DataEstimate, Preflight
    from saefilter.rows.rendered import RenderOptions

presets = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="List the presets: a model, its SAE and where it is read, under one name.\n\n"
    "Example: saefilter presets",
)
app.add_typer(presets, name="presets")

SAMPLE_ROWS = 200
"""Rows that are tokenised to estimate a dataset."""
MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


@presets.callback()
def list_presets(context: typer.Context) -> None:
    """Without a command: the list."""
    if context.invoked_subcommand is not None:
        return
    from saefilter.encode.presets import load_preset, preset_names

    width = max(len(name) for name in preset_names())
    for name in preset_names():
        preset = load_preset(name)
        size = f"{preset.millions_to_hook * 2 / 1000:5.1f} GB" if preset.millions_to_hook else ""
        typer.echo(f"{name:{width}}  {size:8}  {preset.summary}")
    typer.echo(
        "\nThe size is that of the weights up to the hook in bf16. Any other pair goes by --model and "
        "--sae.\n`saefilter doctor --preset NAME` says whether one will work here."
    )


@presets.command(epilog="Example: saefilter presets show gemma-2-2b")
def show(
    name: Annotated[str, typer.Argument(help="Name of the preset.")],
    as_json: opt.JsonOption = False,
) -> None:
    """Show everything a preset stands for."""
    from saefilter.encode.presets import load_preset

    preset = load_preset(name)
    if as_json:
        typer.echo(json.dumps(asdict(preset), indent=2))
        return
    lines = {
        "model": preset.model + (" (gated: accept its terms on the hub)" if preset.gated else ""),
        "revision": preset.revision or "newest; the one used is kept with the scores",
        "SAE": preset.sae,
        "hook": preset.hook,
        "d_model, d_sae": f"{preset.d_model}, {preset.d_sae or 'as the SAE says'}",
        "rendering": f"{preset.rendering}; one BOS where the model has one",
        "context": f"{preset.context} tokens; longer rows are read in windows",
        "dtype": f"{preset.dtype}" + (" (bf16 on a GPU)" if preset.dtype == "auto" else ""),
        "toxic set": preset.toxic_set or "none ships; make one with `saefilter features curate`",
    }
    if preset.millions and preset.millions_to_hook:
        lines["weights up to the hook"] = (
            f"{preset.millions_to_hook * 2 / 1000:.1f} GB in bf16, of {preset.millions * 2 / 1000:.1f} "
            "in the whole model"
        )
    typer.echo(f"{name}: {preset.summary}")
    for label, value in lines.items():
        typer.echo(f"  {label:24}{value}")


@app.command(epilog="Example: saefilter doctor --preset gemma-2-2b data.jsonl")
@opt.with_options(
    ScoreSettings, "reading", only=(*opt.READING, *COLUMN_SETTINGS, "max_tokens", "device", "dtype")
)
def doctor(
    *,
    input: Annotated[str | None, typer.Argument(help="Dataset to estimate the time for.")] = None,
    reading: opt.Given,
    as_json: opt.JsonOption = False,
) -> None:
    """Say in seconds whether a preset will work here, before any weights load."""
    from saefilter.encode.preflight import preflight
    from saefilter.rows.rendered import RenderOptions

    asked = asked_of(reading)
    settings = asked.settings
    checked = preflight(preset_of(asked), device=settings.device, dtype=settings.dtype)
    cost = None
    if input is not None and not checked.failed:
        cost = _estimate(
            checked,
            input,
            RenderOptions(
                max_tokens=settings.max_tokens, columns=settings.of_data(Path(input)).columns
            ),
        )
    if as_json:
        summary = {
            "preset": checked.preset.name,
            "checks": [asdict(check) for check in checked.checks],
            "data": None if cost is None else asdict(cost),
        }
        typer.echo(json.dumps(summary, indent=2))
    else:
        _print(checked, asked.why(), cost)
    if checked.failed:
        raise typer.Exit(2)


def _estimate(checked: Preflight, name: str, options: RenderOptions) -> DataEstimate:
    from saefilter.encode.preflight import estimate
    from saefilter.rows.inputs import open_input
    from saefilter.scoring.prepare import conversation_of

    source = open_input(name)
    total = source.count_rows()
    every = max(1, total // SAMPLE_ROWS)
    columns = Columns.parse(options.columns)
    items = [conversation_of(row, columns) for row in source.rows(set(range(0, total, every)))]
    sample = [item for item in items if not isinstance(item, str)]
    if not sample:
        raise SaefilterError(f"no row can be scored; the first: {items[0]}", where=name)
    return estimate(checked, round(total * len(sample) / len(items)), sample, options)


def _print(checked: Preflight, title: str, cost: DataEstimate | None) -> None:
    typer.echo(title)
    for check in checked.checks:
        typer.echo(clean(f"  {MARKS[check.status]}  {check.name:10} {check.says}"))
        if check.remedy and check.status != "ok":
            typer.echo(clean(f"        {'':10} {check.remedy}"))
    if checked.placement is not None:
        for reason in checked.placement.reasons:
            typer.echo(f"        {reason}")
    if cost is not None:
        minutes = cost.seconds / 60
        time = f"{cost.seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min"
        typer.echo(f"  data  {cost.rows:,} rows, about {cost.tokens:,} tokens: about {time} here")
    typer.echo("It will not work as it is." if checked.failed else "Ready.")
