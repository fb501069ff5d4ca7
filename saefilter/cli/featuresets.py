"""`saefilter features ...`: read, search and change toxic sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saefilter.cli import options as opt
from saefilter.cli.common import (
    ask_and_say,
    asked_of,
    one_of,
    output_console,
    preset_of,
    print_json,
    progress_bar,
    refuse_overwrite_alone,
    warn,
)
from saefilter.cli.features import features
from saefilter.errors import SaefilterError
from saefilter.settings import CurationOptions, ScoreSettings

if TYPE_CHECKING:
    from saefilter.toxic.toxicset import ToxicFeature, ToxicSet

SetArgument = Annotated[str, typer.Argument(help="A JSON file or the name of a shipped set.")]
ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why; it is kept in the set's history.")
]
EditedOption = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="The changed set [the file itself is changed]."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@features.command(epilog="Example: saefilter features show minilm --limit 20")
def show(
    name_or_file: SetArgument,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Features shown per side.")] = 25,
    as_json: JsonOption = False,
) -> None:
    """Show a toxic set: its features, how sure they are, where they come from."""
    from saefilter.report.console_sets import print_toxic_set
    from saefilter.toxic.load import load_toxic_set

    toxic_set = load_toxic_set(name_or_file)
    if as_json:
        print_json(toxic_set.to_json())
        return
    print_toxic_set(output_console(), toxic_set, limit=limit)


@features.command("list", epilog="Example: saefilter features list")
def list_sets(as_json: JsonOption = False) -> None:
    """List the toxic sets at hand: shipped ones, and those made of the bundled contrast."""
    from saefilter.config import cache_folder
    from saefilter.report.console_sets import print_toxic_sets
    from saefilter.toxic.load import load_toxic_set, shipped_sets

    made = sorted(str(path) for path in (cache_folder() / "toxic-sets").glob("*.json"))
    sets = {name: load_toxic_set(name) for name in [*shipped_sets(), *made]}
    if as_json:
        typer.echo(
            json.dumps(
                [
                    {"reference": name, "model": toxic_set.model, "sae": toxic_set.sae,
                     "toxic": len(toxic_set.side("toxic")), "benign": len(toxic_set.side("benign"))}
                    for name, toxic_set in sets.items()
                ],
                indent=2,
            )
        )  # fmt: skip
        return
    print_toxic_sets(output_console(), sets)


@features.command(epilog="Example: saefilter features search minilm doctor")
def search(
    name_or_file: SetArgument,
    text: Annotated[str, typer.Argument(help="Words to look for, in any case.")],
    as_json: JsonOption = False,
) -> None:
    """Find features by their label or by the texts they fire on."""
    from saefilter.report.console_sets import print_features
    from saefilter.toxic.load import load_toxic_set

    toxic_set = load_toxic_set(name_or_file)
    wanted = text.casefold().split()

    def matches(*texts: str) -> bool:
        held = " ".join(texts).casefold()
        return all(word in held for word in wanted)

    matching = [
        feature
        for feature in toxic_set.features
        if matches(feature.label, feature.keyword, *feature.snippets)
    ]
    near = {
        int(index): label for index, label in toxic_set.neighbour_labels.items() if matches(label)
    }
    if as_json:
        entries = [asdict(feature) for feature in matching]
        print_json(json.dumps({"features": entries, "neighbours": near}, ensure_ascii=False))
        return
    print_features(output_console(), matching, near)


@features.command(epilog='Example: saefilter features add set.json 1234 --reason "fires on scams"')
def add(
    name_or_file: SetArgument,
    index: Annotated[int, typer.Argument(help="Which feature of the SAE.")],
    reason: ReasonOption,
    side: Annotated[str, typer.Option("--side", help="toxic or benign.")] = "toxic",
    weight: Annotated[float, typer.Option("--weight", min=0, help="In weighted metrics.")] = 0.0,
    label: Annotated[str, typer.Option("--label", help="What it fires on.")] = "",
    output: EditedOption = None,
    overwrite: opt.OverwriteOption = False,
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
    )


@features.command(epilog='Example: saefilter features remove set.json 12 40 --reason "a topic"')
def remove(
    name_or_file: SetArgument,
    indices: Annotated[list[int], typer.Argument(help="Which features.")],
    reason: ReasonOption,
    output: EditedOption = None,
    overwrite: opt.OverwriteOption = False,
) -> None:
    """Remove features from a set."""
    from saefilter.toxic.edit import remove as remove_features

    _edit(
        name_or_file,
        output,
        overwrite,
        lambda toxic_set: remove_features(toxic_set, indices, reason),
    )


@features.command(epilog='Example: saefilter features reweight set.json 12 0.5 --reason "too loud"')
def reweight(
    name_or_file: SetArgument,
    index: Annotated[int, typer.Argument(help="Which feature.")],
    weight: Annotated[float, typer.Argument(min=0, help="Its new weight.")],
    reason: ReasonOption,
    output: EditedOption = None,
    overwrite: opt.OverwriteOption = False,
) -> None:
    """Change the weight of a feature."""
    from saefilter.toxic.edit import reweight as reweight_features

    _edit(
        name_or_file,
        output,
        overwrite,
        lambda toxic_set: reweight_features(toxic_set, {index: weight}, reason),
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

    _edit(name_or_file, output, overwrite, change)


@features.command(epilog="Example: saefilter features merge a.json b.json -o both.json")
def merge(
    names_or_files: Annotated[list[str], typer.Argument(help="Sets of one SAE.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The merged set.")],
    reason: ReasonOption = "one set for all",
    overwrite: opt.OverwriteOption = False,
) -> None:
    """Merge sets of the same SAE into one."""
    from saefilter.toxic.edit import merge as merge_sets
    from saefilter.toxic.load import load_toxic_set

    if len(names_or_files) < 2:
        raise SaefilterError("one set is nothing to merge", remedy="Name two or more.")
    sets = [load_toxic_set(name_or_file) for name_or_file in names_or_files]
    _write(merge_sets(sets, output.stem, reason), output, overwrite)


@features.command(epilog="Example: saefilter features diff old.json new.json")
def diff(first: SetArgument, second: SetArgument, as_json: JsonOption = False) -> None:
    """Show what differs between two sets of the same SAE."""
    from saefilter.report.console_sets import print_difference
    from saefilter.toxic.edit import diff as diff_sets
    from saefilter.toxic.load import load_toxic_set

    difference = diff_sets(load_toxic_set(first), load_toxic_set(second))
    if as_json:

        def entries(several: list[ToxicFeature]) -> list[int]:
            return [feature.index for feature in several]

        typer.echo(
            json.dumps(
                {"only_first": entries(difference.only_first),
                 "only_second": entries(difference.only_second),
                 "other_side": entries([feature for feature, _ in difference.other_side]),
                 "reweighted": entries([feature for feature, _ in difference.reweighted]),
                 "same": difference.same}
            )
        )  # fmt: skip
        return
    print_difference(output_console(), difference, first, second)


@features.command(epilog="Example: saefilter features neighbours 1234 --preset gemma-2-2b")
@opt.with_options(ScoreSettings, "reading", only=("preset", "model", "sae"))
def neighbours(
    *,
    index: Annotated[int, typer.Argument(help="Which feature of the SAE.")],
    reading: opt.Given,
    name_or_file: Annotated[
        str | None, typer.Option("--set", help="A set to mark and label them by [the preset's].")
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Show the features whose directions lie nearest to a feature's, among all of the SAE."""
    from saefilter.encode.sae import load_sae
    from saefilter.encode.sae_source import find_sae
    from saefilter.geometry.space import DirectionIndex
    from saefilter.report.console_sets import print_neighbours
    from saefilter.toxic.load import load_toxic_set

    asked = asked_of(reading)
    chosen = preset_of(asked)
    loaded = load_sae(find_sae(chosen.sae))
    if not 0 <= index < loaded.d_sae:
        raise SaefilterError(f"feature {index} is outside 0..{loaded.d_sae - 1}")
    name_or_file = name_or_file or asked.settings.toxic_set or chosen.toxic_set
    toxic_set = load_toxic_set(name_or_file) if name_or_file else None
    if toxic_set is not None and toxic_set.fingerprint != loaded.fingerprint:
        raise SaefilterError(f"the set {name_or_file} is not of the SAE {chosen.sae}")
    directions = loaded.directions()
    near = DirectionIndex(directions).nearest(directions[[index]], count + 1)
    nearest = [
        (int(position), float(cosine))
        for position, cosine in zip(near.position[0], near.cosine[0], strict=True)
        if position != index
    ][:count]
    if as_json:
        labels = toxic_set.labels() if toxic_set else {}
        typer.echo(
            json.dumps(
                [{"feature": f, "cosine": round(c, 6), "label": labels.get(f)} for f, c in nearest]
            )
        )
        return
    print_neighbours(output_console(), index, nearest, toxic_set)


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
) -> None:
    """Measure anew what percentiles mean, on harmless rows of your own."""
    from saefilter.curate.calibrate import calibrated
    from saefilter.curate.sources import ContrastRows, with_groups
    from saefilter.encode.encoder import Encoder
    from saefilter.rows.inputs import open_input

    source, by = open_input(benign), CurationOptions(**choosing).group
    rows, groups = with_groups(source, by)
    reference = ContrastRows([], rows, [], group=groups if by else None)
    asked = ask_and_say(reading, quiet=quiet)
    encoder = Encoder.of(asked.settings)
    with progress_bar("Encoding", len(rows), quiet=quiet) as advance:
        _edit(
            name_or_file,
            output,
            overwrite,
            lambda toxic_set: calibrated(
                toxic_set, encoder, reference, source.path.name, asked.settings, by, advance
            ),
        )


def _edit(
    name_or_file: str, output: Path | None, overwrite: bool, change: Callable[[ToxicSet], ToxicSet]
) -> None:
    """Change a set in its file, or into another one."""
    from saefilter.toxic.load import find_toxic_set, load_toxic_set, shipped_sets

    refuse_overwrite_alone(output, overwrite=overwrite)
    path = find_toxic_set(name_or_file)
    if output is None and name_or_file in shipped_sets():
        raise SaefilterError(
            f"{name_or_file} came with saefilter and is not changed in place",
            remedy="Name a file for the changed set with -o.",
        )
    before = load_toxic_set(name_or_file)
    after = change(before)
    _write(after, output or path, overwrite or output is None)
    if before.calibration is not None and after.calibration is None:
        warn(
            "Percentiles no longer hold for what is scored now; measure them anew with: "
            f"saefilter features calibrate {output or path} --benign good.jsonl"
        )


def _write(toxic_set: ToxicSet, path: Path, overwrite: bool) -> None:
    from saefilter.artifacts.publish import publishing, refuse_existing

    refuse_existing([path], overwrite=overwrite)
    with publishing([path]) as (temporary,):
        temporary.write_text(toxic_set.to_json(), encoding="utf-8")
    warn(f"Written to {path}")
