"""`saefilter presets`: what can be read with."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from saefilter.cli import app, completion
from saefilter.cli import options as opt
from saefilter.cli.common import print_json
from saefilter.cli.root import App, InOrder

presets = App(
    cls=InOrder,
    invoke_without_command=True,
    rich_markup_mode="rich",
    help="List the presets: a model, its SAE and where it is read, under one name.\n\n"
    "Example: saefilter presets",
)
app.add_typer(presets, name="presets")


@presets.callback()
def list_presets(context: typer.Context, as_json: opt.JsonOption = False) -> None:
    """Without a command: the list."""
    if context.invoked_subcommand is not None:
        return
    from saefilter.encode.presets import load_preset, preset_names

    if as_json:
        print_json(json.dumps([asdict(load_preset(name)) for name in preset_names()], indent=2))
        return

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
    name: Annotated[
        str, typer.Argument(help="Name of the preset.", autocompletion=completion.presets)
    ],
    as_json: opt.JsonOption = False,
) -> None:
    """Show everything a preset stands for."""
    from saefilter.encode.presets import load_preset

    preset = load_preset(name)
    if as_json:
        print_json(json.dumps(asdict(preset), indent=2))
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
