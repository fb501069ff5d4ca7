"""`saefilter geometry`: is a dataset nearer to toxic features than harmless data is?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from saefilter.cli import app, panels
from saefilter.cli import options as opt
from saefilter.cli.common import (
    SEVERAL,
    asked_of,
    asked_several,
    one_of,
    output_console,
    preset_of,
    print_json,
    warn,
)
from saefilter.cli.progress import progress_bar
from saefilter.columns import Columns
from saefilter.curate.options import CurationOptions
from saefilter.errors import SaefilterError
from saefilter.settings import COLUMN_SETTINGS, ScoreSettings

ENDINGS = (".geometry.html", ".geometry.json")


WHOLE = (
    "This is about what marks the data as a whole: bad rows among many others may not show in it. For single "
    "rows there are saefilter check and score."
)
"""What its verdict, green as it may be, does not say."""


@app.command(epilog="Example: saefilter geometry data.jsonl --against harmless.jsonl")
@opt.with_options(
    ScoreSettings, "reading",
    only=(*opt.READING, "toxic_set", "train_on", "trainer", "read", *COLUMN_SETTINGS, "rendering",
          "device", "dtype"),
    several=(*SEVERAL, "toxic_set"),
    helps={
        "preset": "Repeat to compare SAEs; see `saefilter presets`.",
        "sae": "RELEASE/SAE_ID or a folder, with --model; repeat for layers.",
        "layer": "Another layer of the preset; repeat for several.",
        "toxic_set": "One for each preset or SAE, in their order.",
    },
)  # fmt: skip
@opt.with_options(CurationOptions, "grouping", only=("group",))
def geometry(
    *,
    input: Annotated[str, typer.Argument(help=opt.INPUT_HELP)],
    against: Annotated[
        str | None,
        typer.Option("--against", help="Harmless rows of the same kind [the bundled answers]."),
    ] = None,
    reading: opt.Given,
    grouping: opt.Given,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The page [<input>.geometry.html here].")
    ] = None,
    max_rows: Annotated[
        int, typer.Option("--max-rows", min=20, help="Rows read of either side, evenly spaced.")
    ] = 5000,
    data_features: Annotated[
        int, typer.Option("--data-features", min=5, help="Features that mark the data.")
    ] = 100,
    toxic_features: Annotated[
        int, typer.Option("--toxic-features", min=1, help="Toxic features compared with.")
    ] = 100,
    map_by: Annotated[
        str, typer.Option("--map", help="pca, or umap where it is installed.")
    ] = "pca",
    seed: Annotated[
        int,
        typer.Option(
            "--seed", min=0, help="Of permutations and resampling.", rich_help_panel=panels.FEATURES
        ),
    ] = 0,
    overwrite: opt.OverwriteOption = False,
    quiet: opt.QuietOption = False,
    as_json: opt.JsonOption = False,
) -> None:
    """Diagnose a dataset: do the features that mark it lie near toxic ones?

    They are compared with features that fire as often, with rows relabelled by group, and with
    rows split by topic.
    """
    from saefilter.artifacts.publish import publishing, refuse_existing
    from saefilter.curate.sources import columns_held
    from saefilter.diagnose.dataset import MAPS, diagnose_rows, sampled
    from saefilter.diagnose.result import GeometryReport, corrected
    from saefilter.rows.inputs import open_input

    one_of("--map", map_by, MAPS)
    source = open_input(input)
    page = output or Path(f"{source.stem}{ENDINGS[0]}")
    paths = [page, page.with_suffix(".json")]
    refuse_existing(paths, overwrite=overwrite)
    source.refuse_to_join(paths)
    by = CurationOptions(**grouping).group
    of_columns = {name: value for name, value in reading.items() if name in COLUMN_SETTINGS}
    columns = Columns.parse(asked_of(of_columns).settings.of_data(source.path).columns)
    data, values, left_out = sampled(source, max_rows, by, columns)
    notes = [WHOLE]
    if against is not None:
        other = open_input(against)
        reference, more_values, _ = sampled(other, max_rows, by, columns_held(other, columns))
        against_name = other.path.name
    else:
        from saefilter.curate.sources import bundled

        reference, against_name = bundled().benign, "saefilter's bundled answers"
        more_values = [None] * len(reference)
        notes.append(
            "The reference is saefilter's bundled answers on everyday questions; what differs "
            "may be the topic. Harmless rows of your own kind (--against) say more."
        )
    silent = quiet or as_json
    asked = asked_several(reading, quiet=silent)
    for one in asked:
        preset_of(one)  # one that is not there shows before another one loads
    settings = asked[0].settings
    sets = reading.get("toxic_set") or ([settings.toxic_set] if settings.toxic_set else [])
    if sets and len(sets) != len(asked):
        file = asked[0].origin.get("toxic_set")
        whose = f" ({file})" if file else ""
        raise SaefilterError(
            f"{len(sets)} toxic set{'s' if len(sets) > 1 else ''}{whose} for {len(asked)} SAEs",
            remedy="Name one for each with --toxic-set.",
        )
    from saefilter.curate.curate import groups_of
    from saefilter.curate.sources import ContrastRows
    from saefilter.diagnose.features import Options
    from saefilter.encode.encoder import Encoder
    from saefilter.scoring.scorer import toxic_set_of

    groups = groups_of(
        [ContrastRows(data, reference, [], group=values + more_values if by else None)], by
    )
    options = Options(data_features, toxic_features, seed=seed)
    spaces = []
    for number, one in enumerate(asked):
        encoder = Encoder.of(one.settings)
        for line in encoder.placement.reasons:
            warn(line, quiet=silent)
        toxic_set, note = toxic_set_of(
            encoder,
            sets[number] if sets else None,
            lambda text: warn(text, quiet=silent),
        )
        notes += [text for text in (encoder.preset.note, note) if text and text not in notes]
        with progress_bar("Encoding", len(data) + len(reference), quiet=silent) as advance:
            spaces.append(
                diagnose_rows(
                    encoder, toxic_set, data, reference, options, groups, map_by=map_by,
                    settings=settings, advance=advance,
                )
            )  # fmt: skip
    report = GeometryReport(
        input=source.path.name,
        against=against_name,
        rows=len(data),
        against_rows=len(reference),
        left_out=left_out,
        options=asdict(options)
        | {
            "train_on": settings.trainer or settings.train_on,
            "read": settings.read,
            "max_rows": max_rows,
            "map": map_by,
            "group": by,
        },
        spaces=corrected(spaces),
        notes=notes,
    )
    from saefilter.report.geometry import geometry_html, print_geometry

    with publishing(paths) as (html, json_file):
        html.write_text(geometry_html(report), encoding="utf-8")
        json_file.write_text(report.to_json(), encoding="utf-8")
    if as_json:
        print_json(report.to_json())
    elif not quiet:
        print_geometry(output_console(), report)
        output_console().print(f"\nReport: {page}")
