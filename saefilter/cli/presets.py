"""`saefilter presets`: what can be used."""

from __future__ import annotations

import typer

from saefilter.cli import app


@app.command(epilog="Example: saefilter presets")
def presets() -> None:
    """List the presets: a model, its SAE and its default toxic set under one name."""
    from saefilter.encode.presets import load_preset, preset_names

    for name in preset_names():
        typer.echo(f"{name:12} {load_preset(name).summary}")
