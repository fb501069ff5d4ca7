"""`saefilter scores`: what is done with scores that are there. No torch here."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from saefilter.cli import app
from saefilter.cli import options as opt
from saefilter.cli.common import print_json, warn
from saefilter.cli.hints import after_score
from saefilter.cli.root import App, InOrder

scores = App(
    cls=InOrder,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Put parts of scores together.\n\n"
    "Example: saefilter scores merge data.scores.part-*.parquet -o data.scores.parquet",
)
app.add_typer(scores, name="scores")


@scores.command(
    epilog="Example: saefilter scores merge data.scores.part-*.parquet -o data.scores.parquet"
)
def merge(
    *,
    parts: Annotated[
        list[str], typer.Argument(help="All files that score --part wrote, in any order.")
    ],
    output: Annotated[str, typer.Option("-o", "--output", help="Scores file.")],
    overwrite: opt.OverwriteOption = False,
    quiet: opt.QuietOption = False,
    as_json: opt.JsonOption = False,
) -> None:
    """Make the scores file of one run out of those of its parts; data and model are not needed.

    Parts of another job, and parts that are missing, doubled or damaged, are refused by name.
    """
    from saefilter.rows.inputs import open_input
    from saefilter.scoring.merge import merge_parts
    from saefilter.storage import located, matched
    from saefilter.text import one_line

    places = [place for part in parts for place in matched(part)]
    merged = merge_parts(
        places, located(output), overwrite=overwrite,
        say=lambda text: warn(text, quiet=quiet or as_json),
    )  # fmt: skip
    made = merged.provenance
    if as_json:
        said = {"scores": str(merged.path), "parts": len(places), **asdict(made)}
        print_json(json.dumps(said, ensure_ascii=False, indent=2))
    elif not quiet:
        typer.echo(
            f"Merged {len(places):,} parts of {one_line(made.input_path)}: {made.rows:,} rows, "
            f"{made.scored:,} scored, {made.quarantined:,} quarantined, "
            f"{made.duplicates:,} duplicates\n{one_line(str(merged.path))}"
        )
        if Path(made.input_path).exists():  # parts may have been scored elsewhere
            stem = open_input(made.input_path).stem
            typer.echo(f"Next: {after_score(made.input_path, merged.path, made, {}, stem)}")
