"""`saefilter features`: make and read toxic sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saefilter.cli import app
from saefilter.cli import options as opt
from saefilter.cli.common import choose_preset, one_of, output_console, progress_bar, warn
from saefilter.errors import SaefilterError

if TYPE_CHECKING:
    from saefilter.toxic.sources import ContrastRows

features = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make and read toxic sets: curated lists of toxic features of one SAE.\n\n"
    "Example: saefilter features show minilm",
)
app.add_typer(features, name="features")


@features.command(
    epilog="Example: saefilter features curate --toxic bad.jsonl --benign good.jsonl -o set.json"
)
def curate(
    output: Annotated[Path, typer.Option("-o", "--output", help="The set, a JSON file.")],
    toxic: Annotated[
        list[str] | None, typer.Option("--toxic", help="Toxic rows; repeat for several sources.")
    ] = None,
    benign: Annotated[
        list[str] | None, typer.Option("--benign", help="Benign rows, one input per --toxic.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="Rows of both sides, told apart by the column --label."),
    ] = None,
    label: Annotated[
        str, typer.Option("--label", help="Column of --data: a label or a toxicity score.")
    ] = "toxic",
    threshold: Annotated[
        float, typer.Option("--threshold", help="Scores above it are toxic.")
    ] = 0.5,
    match: Annotated[
        bool,
        typer.Option(
            "--match", help="Keep pairs of toxic and benign rows alike in length and vocabulary."
        ),
    ] = False,
    preset: opt.PresetOption = None,
    model: opt.ModelOption = None,
    sae: opt.SaeOption = None,
    revision: opt.RevisionOption = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the set [file name].")] = None,
    describe_with: Annotated[
        list[str] | None,
        typer.Option(
            "--describe-with", help="Make labels and snippets from these rows, not the contrast's."
        ),
    ] = None,
    pool: opt.PoolOption = "mean",
    train_on: opt.TrainOnOption = "assistant",
    rendering: opt.RenderingOption = "auto",
    fdr: Annotated[
        float, typer.Option("--fdr", min=0, max=1, help="False-discovery rate of the features.")
    ] = 0.05,
    screen_p: Annotated[
        float,
        typer.Option("--screen-p", min=0, max=1, help="p-value that makes a feature a candidate."),
    ] = 0.01,
    top: Annotated[
        int, typer.Option("--top", min=1, help="Features per side, besides the weighted ones.")
    ] = 100,
    max_density: Annotated[
        float,
        typer.Option(
            "--max-density", min=0, max=1, help="Leave out features firing on more of the tokens."
        ),
    ] = 0.5,
    prune_cosine: Annotated[
        float,
        typer.Option(
            "--prune-cosine", max=1, help="Leave out the weaker of two features that are closer."
        ),
    ] = 0.95,
    penalty: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--penalty",
            help="L1 and L2 penalty of the weights: L1 gives fewer features, L2 spreads weight over "
            "like ones [chosen by cross-validation].",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the split in halves.")] = 0,
    device: opt.DeviceOption = "auto",
    dtype: opt.DtypeOption = "auto",
    overwrite: opt.OverwriteOption = False,
    quiet: opt.QuietOption = False,
) -> None:
    """Make a toxic set from rows that are toxic and rows that are not.

    Features are chosen on one half of the data and confirmed on the other. Without data, the 180
    pairs that saefilter brings along are used.
    """
    from saefilter.run.publish import publishing, refuse_existing

    if penalty is not None and min(penalty) < 0:
        raise SaefilterError("--penalty is negative", remedy="Give two numbers of 0 or more.")
    one_of("--pool", pool, opt.POOLS)
    one_of("--train-on", train_on, opt.TRAIN_ON)
    one_of("--dtype", dtype, opt.DTYPES)
    one_of("--rendering", rendering, opt.RENDERINGS)
    refuse_existing([output], overwrite=overwrite)
    sources = contrast_of(toxic or [], benign or [], data or [], label, threshold)
    if match:
        sources = [_matched(rows, quiet=quiet) for rows in sources]
    total = sum(len(rows.conversations()) for rows in sources)
    chosen, why = choose_preset(preset, model, sae)
    warn(f"Preset {chosen} ({why})" if chosen else f"{model} with {sae}", quiet=quiet)

    from saefilter.encode.encoder import Encoder
    from saefilter.encode.presets import resolve
    from saefilter.rows.inputs import open_input
    from saefilter.toxic.curate import curate as curate_set
    from saefilter.toxic.select import CurationOptions
    from saefilter.toxic.sources import usable_rows
    from saefilter.toxic.weights import Penalty

    encoder = Encoder(resolve(chosen, model, sae, revision), device=device, dtype=dtype)
    for line in (*encoder.placement.reasons, *(f"Warning: {text}" for text in encoder.warnings)):
        warn(line, quiet=quiet)
    with progress_bar("Encoding", total, quiet=quiet) as advance:
        toxic_set = curate_set(
            encoder,
            sources,
            name=name or output.stem,
            options=CurationOptions(
                fdr=fdr,
                screen_p=screen_p,
                max_density=max_density,
                prune_cosine=prune_cosine,
                top=top,
                penalty=None if penalty is None else Penalty(*penalty),
                seed=seed,
            ),
            pool=pool,
            train_on=train_on,
            rendering=rendering,
            describe_with=[
                conversation
                for described in describe_with or ()
                for conversation in usable_rows(open_input(described))
            ],
            advance=advance,
        )
    with publishing([output]) as (temporary,):
        temporary.write_text(toxic_set.to_json(), encoding="utf-8")
    if not quiet:
        from saefilter.report.console_sets import print_toxic_set

        print_toxic_set(output_console(), toxic_set, limit=10)
        output_console().print(f"Written to {output}")


def contrast_of(
    toxic: list[str], benign: list[str], data: list[str], label: str, threshold: float
) -> list[ContrastRows]:
    """What the options name, or what is bundled."""
    from saefilter.rows.inputs import open_input
    from saefilter.toxic.sources import bundled, from_column, from_files

    if len(toxic) != len(benign):
        raise SaefilterError(
            f"{len(toxic)} --toxic and {len(benign)} --benign inputs",
            remedy="Name one benign input for each toxic one.",
        )
    pairs = zip(toxic, benign, strict=True)
    sources = [from_files(open_input(one), open_input(other)) for one, other in pairs]
    sources += [from_column(open_input(name), label, threshold) for name in data]
    return sources or [bundled()]


def _matched(rows: ContrastRows, *, quiet: bool) -> ContrastRows:
    from saefilter.toxic.match import match

    matched, what = match(rows)
    warn(str(what), quiet=quiet)
    return matched
