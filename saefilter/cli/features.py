"""`saefilter features`: make and read toxic sets."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saefilter.cli import app, completion, panels
from saefilter.cli import options as opt
from saefilter.cli.common import (
    SEVERAL,
    asked_several,
    output_console,
    preset_of,
    print_json,
    warn,
)
from saefilter.cli.contrast import contrast_of, given_columns, matched_rows
from saefilter.cli.progress import progress_bar
from saefilter.cli.root import App, Features
from saefilter.curate.options import CurationOptions, Penalty
from saefilter.errors import SaefilterError
from saefilter.settings import COLUMN_SETTINGS, ScoreSettings

if TYPE_CHECKING:
    from saefilter.asked import Asked
    from saefilter.curate.sources import ContrastRows
    from saefilter.rows.formats import Conversation
    from saefilter.toxic.toxicset import ToxicSet

features = App(
    cls=Features,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Make and read toxic sets: curated lists of toxic features of one SAE.\n\n"
    "Example: saefilter features show minilm",
)
app.add_typer(features, name="features")


@features.command(
    epilog="Example: saefilter features curate --toxic bad.jsonl --benign good.jsonl -o set.json"
)
@opt.with_options(
    ScoreSettings, "reading",
    only=(*opt.READING, *COLUMN_SETTINGS, "pool", *opt.TRAINED, "device", "dtype"), several=SEVERAL,
    helps={
        "preset": "Model and SAE; repeat to try several and keep the set that tells best.",
        "sae": "RELEASE/SAE_ID or a folder, with --model; repeat to try several.",
        "layer": "Another layer of the preset; repeat to try several.",
    },
)  # fmt: skip
@opt.with_options(CurationOptions, "choosing", panel=panels.FEATURES)
def curate(
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="The set, a JSON file.")],
    toxic: Annotated[
        list[str] | None, typer.Option("--toxic", help="Toxic rows; repeat for several sources.")
    ] = None,
    benign: Annotated[
        list[str] | None, typer.Option("--benign", help="Benign rows, one input per --toxic.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data", help="Rows of both sides, told apart by the column --label or by --decisions."
        ),
    ] = None,
    decisions: Annotated[
        str | None,
        typer.Option(
            "--decisions",
            help="Decisions of a review on --data: what it dropped against what it kept.",
            rich_help_panel=panels.CONTRAST,
        ),
    ] = None,
    adapt: Annotated[
        str | None,
        typer.Option(
            "--adapt",
            help="With --decisions: set whose features are kept and whose weights learn; none: a set from the "
            "decisions alone, which takes hundreds [the preset's].",
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--label",
            help="Column of --data: a label or a toxicity score [toxic].",
            autocompletion=completion.columns,
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Scores above it are toxic [0.5].")
    ] = None,
    match: Annotated[
        bool,
        typer.Option(
            "--match", help="Keep pairs of toxic and benign rows alike in length and vocabulary."
        ),
    ] = False,
    reading: opt.Given,
    name: Annotated[str | None, typer.Option("--name", help="Name of the set [file name].")] = None,
    describe_with: Annotated[
        list[str] | None,
        typer.Option(
            "--describe-with", help="Make labels and snippets from these rows, not the contrast's."
        ),
    ] = None,
    choosing: opt.Given,
    penalty: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--penalty",
            help="L1 and L2 penalty of the weights: L1 gives fewer features, L2 spreads weight over "
            "like ones [chosen by cross-validation].",
        ),
    ] = None,
    overwrite: opt.OverwriteOption = False,
    quiet: opt.QuietOption = False,
    as_json: opt.JsonOption = False,
) -> None:
    """Make a toxic set from rows that are toxic and rows that are not.

    Features are chosen on one half of the data and confirmed on the other, groups whole; then the whole
    is repeated in folds to say how it does on rows it has not seen. Without data, the pairs that
    saefilter brings along are used. Of several layers or SAEs the set is kept that tells rows not seen
    apart best.
    """
    from saefilter.artifacts.publish import publishing, refuse_existing

    if penalty is not None and not all(0 <= one < math.inf for one in penalty):
        raise SaefilterError(
            f"--penalty {penalty[0]:g} {penalty[1]:g} is no penalty",
            remedy="Give two numbers of 0 or more.",
        )
    if not data and (label, threshold) != (None, None):
        raise SaefilterError(
            "--label and --threshold have no effect without --data",
            remedy="Leave them out, or name the rows with --data.",
        )
    quiet = quiet or as_json
    options = CurationOptions(**choosing, penalty=None if penalty is None else Penalty(*penalty))
    if adapt is not None and decisions is None:
        raise SaefilterError("--adapt has no effect without --decisions", remedy="Leave it out.")
    adapting = decisions is not None and adapt != NONE
    if adapting:
        _refuse_curation(
            choosing, toxic=toxic, match=match, describe_with=describe_with, penalty=penalty
        )
    refuse_existing([output], overwrite=overwrite)
    columns_of = given_columns(reading)
    sources = contrast_of(
        toxic or [], benign or [], data or [], label, threshold, options.group, decisions,
        columns_of,
    )  # fmt: skip
    if match:
        sources = [matched_rows(rows, quiet=quiet) for rows in sources]
    asked = asked_several(reading, quiet=True)
    for one in asked:
        preset_of(one)  # one that is not there shows before another one loads

    from saefilter.curate.sources import usable_rows
    from saefilter.rows.inputs import open_input

    describing = [
        conversation
        for described in map(open_input, describe_with or ())
        for conversation in usable_rows(described, columns_of(described))
    ]
    sets: list[ToxicSet] = []
    for one in asked:
        warn(one.why(), quiet=quiet)
        try:
            if adapting:
                sets.append(
                    _adapted(one, adapt, sources[0], name or output.stem, options, quiet=quiet)
                )
                continue
            made = _curated(one, sources, name or output.stem, options, describing, quiet=quiet)
        except SaefilterError as error:
            if one is asked[-1] and not sets:
                raise
            warn(f"No set: {error.problem}", quiet=quiet)
            continue
        sets.append(made)
    toxic_set = max(sets, key=held_out_auroc)
    if len(asked) > 1:
        for line in compared(sets, toxic_set):
            warn(line, quiet=quiet)
    with publishing([output]) as (temporary,):
        temporary.write_text(toxic_set.to_json(), encoding="utf-8")
    if as_json:
        print_json(json.dumps(about_set(toxic_set, output), ensure_ascii=False, indent=2))
    elif not quiet:
        from saefilter.report.console_sets import print_toxic_set

        print_toxic_set(output_console(), toxic_set, limit=10)
        output_console().print(f"Written to {output}")
        if decisions is not None and data:
            from saefilter.cli.rounds import after_curate, kept_reading
            from saefilter.report.console import print_next

            commands = after_curate(data[0], output, kept_reading(reading, toxic_set))
            print_next(output_console(), *commands)


NONE = "none"
"""Of `--adapt`."""


def _refuse_curation(choosing: opt.Given, **given: object) -> None:
    """Raises SaefilterError for options of a curation, where a set that is there only learns."""
    asked = [name for name in choosing if name != "group"]
    asked += [name for name, value in given.items() if value]
    if asked:
        raise SaefilterError(
            f"--{asked[0].replace('_', '-')} has no effect where a set learns from decisions, which keeps its "
            "features",
            remedy="Leave it out, or make a set from the decisions alone: --adapt none.",
        )


def _adapted(
    asked: Asked,
    adapt: str | None,
    rows: ContrastRows,
    name: str,
    options: CurationOptions,
    *,
    quiet: bool,
) -> ToxicSet:
    """A set that is there, with weights that have learnt from decisions."""
    from saefilter.curate.adapt import adapted
    from saefilter.encode.encoder import Encoder
    from saefilter.scoring.scorer import toxic_set_of

    encoder = Encoder.of(asked.settings)
    base, note = toxic_set_of(encoder, adapt, lambda text: warn(text, quiet=quiet))
    if note:
        warn(note, quiet=quiet)
    with progress_bar("Encoding", len(rows.conversations()), quiet=quiet) as advance:
        made = adapted(
            base, encoder, rows, asked.settings, name=name, group=options.group, advance=advance
        )
    warn(
        f"{made}. It is a figure of few rows, and of those that were chosen to be read.",
        quiet=quiet,
    )
    return made.toxic_set


def _curated(
    asked: Asked,
    sources: Sequence[ContrastRows],
    name: str,
    options: CurationOptions,
    describe_with: Sequence[Conversation],
    *,
    quiet: bool,
) -> ToxicSet:
    """A set for one SAE."""
    from saefilter.curate.curate import curate as curate_set
    from saefilter.encode.encoder import Encoder

    encoder = Encoder.of(asked.settings)
    for line in (*encoder.placement.reasons, *(f"Warning: {text}" for text in encoder.warnings)):
        warn(line, quiet=quiet)
    total = sum(len(rows.conversations()) for rows in sources)
    with progress_bar("Encoding", total, quiet=quiet) as advance:
        return curate_set(
            encoder, sources, name=name, options=options, settings=asked.settings,
            say=lambda text: warn(text, quiet=quiet), describe_with=describe_with, advance=advance,
        )  # fmt: skip


def about_set(toxic_set: ToxicSet, path: Path) -> dict[str, object]:
    """What a command that wrote a set says of it to machines; all of it is in the file."""
    calibration = toxic_set.calibration
    return {
        "written": str(path),
        "name": toxic_set.name,
        "model": toxic_set.model,
        "sae": toxic_set.sae,
        "hook": toxic_set.hook,
        "toxic": len(toxic_set.side("toxic")),
        "benign": len(toxic_set.side("benign")),
        "weighted": sum(feature.weight > 0 for feature in toxic_set.features),
        "themes": [theme.name for theme in toxic_set.themes.themes] if toxic_set.themes else [],
        "calibration_rows": calibration.rows if calibration else None,
        "auroc": calibration.auroc if calibration else None,
        "history": list(toxic_set.history),
    }


def held_out_auroc(toxic_set: ToxicSet) -> float:
    """Of rows not seen; 0 where it is not known."""
    known = toxic_set.calibration.auroc if toxic_set.calibration else None
    return known[0] if known else 0.0


def compared(sets: Sequence[ToxicSet], best: ToxicSet) -> Iterator[str]:
    """What was tried and which is kept, a line each."""
    for one in sets:
        known = one.calibration.auroc if one.calibration else None
        told = f"{known[0]:.3f} ({known[1]:.3f} to {known[2]:.3f})" if known else "not known"
        kept = "  kept" if one is best else ""
        yield f"{one.sae} at {one.hook}: AUROC on rows not seen {told}{kept}"
    yield f"The best of {len(sets)} looks better than it is; try it on rows of another kind."
