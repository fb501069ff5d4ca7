"""`saefilter features add, remove, reweight, label, themes, name, merge, calibrate`: change toxic sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saefilter.cli import options as opt
from saefilter.cli import panels
from saefilter.cli.common import (
    ask_and_say,
    one_of,
    output_console,
    print_json,
    refuse_overwrite_alone,
    warn,
)
from saefilter.cli.features import about_set, features
from saefilter.cli.featuresets import SetArgument
from saefilter.cli.progress import progress_bar
from saefilter.curate.options import CurationOptions
from saefilter.errors import SaefilterError
from saefilter.settings import ScoreSettings
from saefilter.text import command_line

if TYPE_CHECKING:
    from saefilter.toxic.toxicset import ToxicSet

ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why; it is kept in the set's history.")
]
EditedOption = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="The changed set [the file itself is changed]."),
]


@features.command(epilog='Example: saefilter features add set.json 1234 --reason "fires on scams"')
def add(
    name_or_file: SetArgument,
    index: Annotated[int, typer.Argument(help="Which feature of the SAE.")],
    reason: ReasonOption,
    side: Annotated[str, typer.Option("--side", help="toxic or benign.")] = "toxic",
    weight: Annotated[float, typer.Option("--weight", min=0, help="In weighted metrics.")] = 0.0,
    label: Annotated[
        str,
        typer.Option(
            "--label", metavar="WORDS", help="What it fires on.", rich_help_panel=panels.FEATURES
        ),
    ] = "",
    output: EditedOption = None,
    overwrite: opt.OverwriteOption = False,
    as_json: opt.JsonOption = False,
) -> None:
    """Add a feature to a set."""
    from saefilter.toxic.edit import add as add_feature
    from saefilter.toxic.toxicset import SIDES

    one_of("--side", side, SIDES)
    _edit(
        name_or_file,
        output,
        overwrite,
        lambda toxic_set: add_feature(toxic_set, index, side, weight, label, reason),
        as_json=as_json,
    )


@features.command(epilog='Example: saefilter features remove set.json 12 40 --reason "a topic"')
def remove(
    name_or_file: SetArgument,
    indices: Annotated[list[int], typer.Argument(help="Which features.")],
    reason: ReasonOption,
    output: EditedOption = None,
    overwrite: opt.OverwriteOption = False,
    as_json: opt.JsonOption = False,
) -> None:
    """Remove features from a set."""
    from saefilter.toxic.edit import remove as remove_features

    _edit(
        name_or_file,
        output,
        overwrite,
        lambda toxic_set: remove_features(toxic_set, indices, reason),
        as_json=as_json,
    )


@features.command(epilog='Example: saefilter features reweight set.json 12 0.5 --reason "too loud"')
def reweight(
    name_or_file: SetArgument,
    index: Annotated[int, typer.Argument(help="Which feature.")],
    weight: Annotated[float, typer.Argument(min=0, help="Its new weight.")],
    reason: ReasonOption,
    output: EditedOption = None,
    overwrite: opt.OverwriteOption = False,
    as_json: opt.JsonOption = False,
) -> None:
    """Change the weight of a feature."""
    from saefilter.toxic.edit import reweight as reweight_features

    _edit(
        name_or_file,
        output,
        overwrite,
        lambda toxic_set: reweight_features(toxic_set, {index: weight}, reason),
        as_json=as_json,
    )


@features.command(epilog="Example: saefilter features label set.json --from explanations.jsonl.gz")
def label(
    name_or_file: SetArgument,
    explanations: Annotated[
        str,
        typer.Option("--from", help="Neuronpedia export or CSV: columns index and description."),
    ],
    output: EditedOption = None,
    overwrite: opt.OverwriteOption = False,
    as_json: opt.JsonOption = False,
) -> None:
    """Take labels from a Neuronpedia export or a table."""
    from saefilter.rows.inputs import open_input
    from saefilter.toxic.edit import read_labels, relabel

    source = open_input(explanations)
    labels = read_labels(source)

    def change(toxic_set: ToxicSet) -> ToxicSet:
        changed, count = relabel(toxic_set, labels, f"labels from {source.path.name}")
        warn(f"{count:,} of {len(toxic_set.labels()):,} labels changed")
        return changed

    _edit(name_or_file, output, overwrite, change, as_json=as_json)


@features.command(epilog="Example: saefilter features themes set.json -o with-themes.json")
@opt.with_options(
    ScoreSettings, "reading",
    only=(*opt.READING, *opt.TRAINED, "device", "dtype"),
)  # fmt: skip
def themes(
    *,
    name_or_file: SetArgument,
    toxic: Annotated[
        list[str] | None,
        typer.Option("--toxic", help="Toxic rows; repeat for several [the bundled pairs]."),
    ] = None,
    benign: Annotated[
        list[str] | None, typer.Option("--benign", help="Benign rows, one input per --toxic.")
    ] = None,
    describe_with: Annotated[
        list[str] | None,
        typer.Option(
            "--describe-with", help="Take words and examples from these rows, not the toxic ones."
        ),
    ] = None,
    no_examples: Annotated[
        bool, typer.Option("--no-examples", help="Keep words and no texts in the set.")
    ] = False,
    reading: opt.Given,
    output: EditedOption = None,
    overwrite: opt.OverwriteOption = False,
    quiet: opt.QuietOption = False,
    as_json: opt.JsonOption = False,
) -> None:
    """Put a set's toxic features into themes anew; its features, weights and percentiles stay.

    `curate` does so by itself. Names that a person gave are kept where a theme has largely the same
    features.
    """
    from saefilter.cli.contrast import contrast_of
    from saefilter.curate.curate import made_themes
    from saefilter.curate.sources import usable_rows
    from saefilter.encode.encoder import Encoder
    from saefilter.report.console_sets import print_themes
    from saefilter.rows.inputs import open_input
    from saefilter.toxic.themes import without_examples

    sources = contrast_of(toxic or [], benign or [])
    describing = [row for name in describe_with or () for row in usable_rows(open_input(name))]
    asked = ask_and_say(reading, quiet=quiet or as_json)
    encoder = Encoder.of(asked.settings)
    total = sum(len(rows.conversations()) for rows in sources)

    def change(toxic_set: ToxicSet) -> ToxicSet:
        with progress_bar("Encoding", total, quiet=quiet or as_json) as advance:
            made = made_themes(toxic_set, encoder, sources, asked.settings, describing, advance)
        if no_examples and made.themes is not None:
            return replace(made, themes=without_examples(made.themes))
        return made

    changed = _edit(name_or_file, output, overwrite, change, quiet=quiet, as_json=as_json)
    if not quiet and not as_json:
        print_themes(output_console(), changed)


@features.command(epilog='Example: saefilter features name set.json 2 "plays down a danger"')
def name(
    name_or_file: SetArgument,
    number: Annotated[int, typer.Argument(help="Which theme, as `features show` counts.")],
    called: Annotated[str, typer.Argument(metavar="NAME", help="What it is called from now on.")],
    reason: ReasonOption = "read its words and examples",
    output: EditedOption = None,
    overwrite: opt.OverwriteOption = False,
    as_json: opt.JsonOption = False,
) -> None:
    """Give a theme a name; it is kept when themes are made anew."""
    from saefilter.toxic.edit import name_theme

    _edit(
        name_or_file,
        output,
        overwrite,
        lambda toxic_set: name_theme(toxic_set, number, called, reason),
        as_json=as_json,
    )


@features.command(epilog="Example: saefilter features merge a.json b.json -o both.json")
def merge(
    names_or_files: Annotated[list[str], typer.Argument(help="Sets of one SAE.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The merged set.")],
    reason: ReasonOption = "one set for all",
    overwrite: opt.OverwriteOption = False,
    as_json: opt.JsonOption = False,
) -> None:
    """Merge sets of the same SAE into one."""
    from saefilter.toxic.edit import merge as merge_sets
    from saefilter.toxic.load import load_toxic_set

    if len(names_or_files) < 2:
        raise SaefilterError("one set is nothing to merge", remedy="Name two or more.")
    sets = [load_toxic_set(name_or_file) for name_or_file in names_or_files]
    _write(merge_sets(sets, output.stem, reason), output, overwrite, as_json=as_json)


@features.command(epilog="Example: saefilter features calibrate set.json --benign good.jsonl")
@opt.with_options(
    ScoreSettings, "reading",
    only=(*opt.READING, "neighbours", *opt.TRAINED, "device", "dtype"),
)  # fmt: skip
@opt.with_options(CurationOptions, "choosing", only=("group",))
def calibrate(
    *,
    name_or_file: SetArgument,
    benign: Annotated[str, typer.Option("--benign", help="Harmless rows like those you train on.")],
    reading: opt.Given,
    choosing: opt.Given,
    output: EditedOption = None,
    overwrite: opt.OverwriteOption = False,
    quiet: opt.QuietOption = False,
    as_json: opt.JsonOption = False,
) -> None:
    """Measure anew what percentiles mean, on harmless rows of your own."""
    from saefilter.curate.calibrate import calibrated
    from saefilter.curate.sources import ContrastRows, with_groups
    from saefilter.encode.encoder import Encoder
    from saefilter.rows.inputs import open_input

    source, by = open_input(benign), CurationOptions(**choosing).group
    rows, groups = with_groups(source, by)
    reference = ContrastRows([], rows, [], group=groups if by else None)
    asked = ask_and_say(reading, quiet=quiet or as_json)
    encoder = Encoder.of(asked.settings)
    with progress_bar("Encoding", len(rows), quiet=quiet or as_json) as advance:
        _edit(
            name_or_file,
            output,
            overwrite,
            lambda toxic_set: calibrated(
                toxic_set, encoder, reference, source.path.name, asked.settings, by, advance
            ),
            quiet=quiet,
            as_json=as_json,
        )


def _edit(
    name_or_file: str,
    output: Path | None,
    overwrite: bool,
    change: Callable[[ToxicSet], ToxicSet],
    *,
    quiet: bool = False,
    as_json: bool = False,
) -> ToxicSet:
    """Change a set in its file, or into another one; returns it."""
    from saefilter.toxic.load import find_toxic_set, load_toxic_set, refuse_in_place

    refuse_overwrite_alone(output, overwrite=overwrite)
    path = find_toxic_set(name_or_file)
    if output is None:
        refuse_in_place(name_or_file)
    before = load_toxic_set(name_or_file)
    after = change(before)
    _write(after, output or path, overwrite or output is None, quiet=quiet, as_json=as_json)
    if before.calibration is not None and after.calibration is None:
        warn(
            "Percentiles no longer hold for what is scored now; measure them anew with: "
            f"saefilter features calibrate {command_line(str(output or path))} --benign good.jsonl"
        )
    return after


def _write(
    toxic_set: ToxicSet, path: Path, overwrite: bool, *, quiet: bool = False, as_json: bool = False
) -> None:
    from saefilter.artifacts.publish import publishing, refuse_existing

    refuse_existing([path], overwrite=overwrite)
    with publishing([path]) as (temporary,):
        temporary.write_text(toxic_set.to_json(), encoding="utf-8")
    if as_json:
        print_json(json.dumps(about_set(toxic_set, path), ensure_ascii=False, indent=2))
    else:
        warn(f"Written to {path}", quiet=quiet)
