"""`saefilter features show, list, search, diff, neighbours, push, pull`: read toxic sets, and pass them on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saefilter.cli import completion
from saefilter.cli import options as opt
from saefilter.cli.common import (
    asked_of,
    output_console,
    preset_of,
    print_json,
    warn,
)
from saefilter.cli.features import features
from saefilter.errors import SaefilterError
from saefilter.settings import ScoreSettings

if TYPE_CHECKING:
    from saefilter.toxic.toxicset import ToxicFeature

SetArgument = Annotated[
    str,
    typer.Argument(
        help="A JSON file or the name of a shipped set.", autocompletion=completion.toxic_sets
    ),
]


@features.command(epilog="Example: saefilter features show minilm --limit 20")
def show(
    name_or_file: SetArgument,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Features shown per side.")] = 25,
    as_json: opt.JsonOption = False,
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
def list_sets(as_json: opt.JsonOption = False) -> None:
    """List the toxic sets at hand: shipped ones, and those made of the bundled contrast."""
    from saefilter.config import cache_folder
    from saefilter.report.console_sets import print_toxic_sets
    from saefilter.toxic.load import load_toxic_set, shipped_sets

    made = sorted(str(path) for path in (cache_folder() / "toxic-sets").glob("*.json"))
    sets = {name: load_toxic_set(name) for name in [*shipped_sets(), *made]}
    if as_json:
        print_json(
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
    as_json: opt.JsonOption = False,
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


@features.command(epilog="Example: saefilter features diff old.json new.json")
def diff(first: SetArgument, second: SetArgument, as_json: opt.JsonOption = False) -> None:
    """Show what differs between two sets of the same SAE."""
    from saefilter.report.console_sets import print_difference
    from saefilter.toxic.edit import diff as diff_sets
    from saefilter.toxic.load import load_toxic_set

    difference = diff_sets(load_toxic_set(first), load_toxic_set(second))
    if as_json:

        def entries(several: list[ToxicFeature]) -> list[int]:
            return [feature.index for feature in several]

        print_json(
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
@opt.with_options(ScoreSettings, "reading", only=("preset", "model", "sae", "layer"))
def neighbours(
    *,
    index: Annotated[int, typer.Argument(help="Which feature of the SAE.")],
    reading: opt.Given,
    name_or_file: Annotated[
        str | None,
        typer.Option(
            "--set",
            help="A set to mark and label them by [the preset's].",
            autocompletion=completion.toxic_sets,
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many.")] = 10,
    as_json: opt.JsonOption = False,
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
        print_json(
            json.dumps(
                [{"feature": f, "cosine": round(c, 6), "label": labels.get(f)} for f, c in nearest]
            )
        )
        return
    print_neighbours(output_console(), index, nearest, toxic_set)


@features.command(epilog="Example: saefilter features push set.json my-name/my-set")
def push(
    *,
    name_or_file: SetArgument,
    repo: Annotated[str, typer.Argument(metavar="ORG/NAME", help="A model repository on the hub.")],
    public: opt.PublicOption = False,
    as_json: opt.JsonOption = False,
) -> None:
    """Hand a set over to the Hugging Face hub, where others take it by a pin: its JSON and a card.

    The repository is made, and private, where there is none. Needs a token that may write (hf auth login).
    The file quotes texts that the set was made from.
    """
    from saefilter.hub import HubRepo
    from saefilter.toxic.hub import push_set

    pushed, pin = push_set(name_or_file, HubRepo(repo, "model", public))
    if as_json:
        print_json(json.dumps({**pushed.to_json(), "pin": pin}))
        return
    seen = "private" if pushed.private else "public"
    typer.echo(f"Pushed to {pushed.url} ({seen}). Its pin, for --toxic-set and features pull:")
    typer.echo(pin)


@features.command(epilog="Example: saefilter features pull org/name -o set.json")
def pull(
    *,
    reference: Annotated[
        str,
        typer.Argument(
            metavar="ORG/NAME[@COMMIT[#sha256=HEX]]", help="A set on the hub, best by its pin."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where it goes [NAME.json].")
    ] = None,
    overwrite: opt.OverwriteOption = False,
    as_json: opt.JsonOption = False,
) -> None:
    """Take a set from the Hugging Face hub: one JSON file, checked, and held to its pin where one is given.

    Nothing else of the repository is fetched.
    """
    from saefilter.artifacts.publish import publishing, refuse_existing
    from saefilter.toxic.hub import HubSet, pull_set

    asked = HubSet.of(reference)
    path = output or Path(f"{asked.repo.partition('/')[2]}.json")
    refuse_existing([path], overwrite=overwrite)
    pulled = pull_set(reference)
    with publishing([path]) as (temporary,):
        temporary.write_bytes(pulled.text)
    if as_json:
        print_json(json.dumps({"file": str(path), "pin": pulled.pin, "model": pulled.toxic_set.model,
                               "sae": pulled.toxic_set.sae}))  # fmt: skip
        return
    if asked.sha256 is None:
        warn(
            "Nothing says that it is the set you mean: no SHA-256 was given. To hold it to this one:"
        )
    typer.echo(f"{path}: a set of {pulled.toxic_set.model} and {pulled.toxic_set.sae}. Its pin:")
    typer.echo(pulled.pin)
