"""The faces of a geometry report: a page, and a few lines for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saefilter.report.fragments import bdi, esc, fold, header, notes, page, section
from saefilter.report.geometry_charts import cosine_chart, interval_bar, map_chart

if TYPE_CHECKING:
    from rich.console import Console

    from saefilter.diagnose.result import GeometryReport, SpaceDiagnosis

LEVEL = 0.05
N_ROWS = 15
"""Features listed before the fold."""


def headline(report: GeometryReport) -> str:
    """The answer, over all SAEs."""
    closer = sum(space.closer for space in report.spaces)
    if closer == len(report.spaces):
        return "Closer to toxic features than harmless data"
    if closer:
        return f"Closer to toxic features in {closer} of {len(report.spaces)} SAEs"
    if not any(space.enough for space in report.spaces):
        return "Cannot tell: too few independent groups of rows"
    if not any(space.decided for space in report.spaces):
        return "Undecided: hardly a feature tells the data from the reference"
    if any(map(may_be_topic, report.spaces)):
        return "Nearer to toxic features than chance explains, but it may be the topic"
    return "No closer to toxic features than harmless data"


def may_be_topic(space: SpaceDiagnosis) -> bool:
    """Whether chance does not explain the difference, and topic may."""
    near = space.decided and space.chance is not None and space.chance["p_value"] < LEVEL
    return near and not space.closer


def geometry_html(report: GeometryReport) -> str:
    """The whole report as one self-contained page."""
    lead = (
        f"{report.rows:,} rows of {report.input} against {report.against_rows:,} rows of "
        f"{report.against}."
    )
    body = [_space(space, number) for number, space in enumerate(report.spaces)]
    if len(report.spaces) > 1:
        body.insert(0, _comparison(report))
    return page(
        f"{headline(report)}: {report.input}",
        header("saefilter geometry", f"{esc(headline(report))}: {bdi(report.input)}", lead),
        notes([*report.notes, *(note for space in report.spaces for note in space.notes)]),
        *body,
        _made(report),
    )


def _comparison(report: GeometryReport) -> str:
    rows = "".join(
        f'<tr><th scope="row">{bdi(space.preset or space.sae)}</th><td>{bdi(space.hook)}</td>'
        f"<td>{space.mean:.3f}</td><td>{space.matched:.3f}</td>"
        f"<td>{_p(space.chance)}</td>"
        f"<td>{_p(space.topics)}</td><td>{_p(space.p_corrected)}</td>"
        f"<td>{'yes' if space.closer else 'no' if space.decided else 'undecided'}</td></tr>\n"
        for space in report.spaces
    )
    return section(
        "saes",
        "One SAE beside the other",
        '<table class="numbers"><thead><tr><th>SAE</th><th>read at</th><th>data</th><th>matched</th>'
        "<th>p, chance</th><th>p, topic</th><th>p, corrected</th><th>closer</th></tr></thead>\n"
        f"<tbody>\n{rows}</tbody></table>\n"
        '<p class="hint">Corrected for the number of SAEs (Holm), of the larger of the two; below '
        "0.05 is closer.</p>\n",
    )


def _p(of: dict[str, float] | float | None) -> str:
    value = of["p_value"] if isinstance(of, dict) else of
    return "-" if value is None else f"{value:.3f}"


def _space(space: SpaceDiagnosis, number: int) -> str:
    name = bdi(f"{space.preset or space.model}, {space.hook}")
    samples = space.samples
    return (
        section(
            f"finding-{number}",
            f"What the geometry says: {name}",
            f"<p>{esc(space.verdict)}</p>\n",
            f'<p class="hint">{esc(space.groups)}.</p>\n'
            f'<p class="hint">{space.in_set} of the {len(space.data_features)} data features are '
            "toxic features themselves; their cosine is to another one. Row by row, a data row is "
            f"nearer to toxic features than a reference row with a chance of {samples.auroc:.2f} "
            f"({samples.low:.2f} to {samples.high:.2f}, metric {esc(samples.metric)}; 0.5 would be "
            "no difference).</p>\n",
            cosine_chart(
                [feature.cosine for feature in space.data_features], space.matched_proximity, number
            ),
        )
        + section(
            f"map-of-{number}",
            "A map of the features",
            '<p class="hint">Directions of features, in the two dimensions that tell most of them '
            "apart. Near on the map is a hint, not a measure: the cosines above are.</p>\n",
            map_chart(space.map, number),
        )
        + _spillover(space, number)
        + _features(space, number)
    )


def _spillover(space: SpaceDiagnosis, number: int) -> str:
    largest = max((max(abs(push.low), abs(push.high)) for push in space.spillover), default=0.0)
    rows = [
        f'<tr><th scope="row">{bdi(push.label)} <span class="id">{push.feature}</span></th>'
        f"<td>{push.push:+.4f}</td><td>{push.low:+.4f} to {push.high:+.4f}</td>"
        f"<td>{interval_bar(push, largest)}</td></tr>\n"
        for push in space.spillover
    ]
    head = (
        "<thead><tr><th>toxic feature</th><th>push</th><th>95 % interval</th><th></th></tr></thead>"
    )
    return section(
        f"spillover-{number}",
        "Predicted spillover",
        '<p class="hint">How much more a row of the data pushes along each toxic feature than a '
        "reference row does: activations times cosines, per unit of activation.</p>\n",
        _folded(head, rows, "spillover"),
    )


def _features(space: SpaceDiagnosis, number: int) -> str:
    rows = [
        f'<tr><th scope="row">{bdi(feature.label)} <span class="id">{feature.feature}'
        f"{', in the toxic set' if feature.in_set else ''}</span></th><td>{feature.correlation:.2f}</td>"
        f'<td>{feature.cosine:.2f}</td><td>{bdi(feature.toxic_label)} <span class="id">{feature.toxic_feature}'
        "</span></td></tr>\n"
        for feature in space.data_features
    ]
    head = (
        "<thead><tr><th>data feature</th><th>correlation</th><th>cosine</th>"
        "<th>nearest toxic feature</th></tr></thead>"
    )
    return section(
        f"features-{number}",
        "The features that mark the data",
        '<p class="hint">Most correlated with being of the data and not of the reference.</p>\n',
        _folded(head, rows, "pairs"),
    )


def _folded(head: str, rows: list[str], kind: str) -> str:
    def table(some: list[str]) -> str:
        return f'<table class="{kind}">{head}\n<tbody>\n{"".join(some)}</tbody></table>\n'

    if len(rows) <= N_ROWS:
        return table(rows)
    return table(rows[:N_ROWS]) + fold(f"{len(rows) - N_ROWS} more", table(rows[N_ROWS:]))


def _made(report: GeometryReport) -> str:
    terms = [
        ("Rows left out", f"{report.left_out:,}"),
        *((f"Option {name}", str(value)) for name, value in report.options.items()),
        *(
            (f"Toxic set {number + 1}", f"{space.toxic_set}, {space.toxic_features} features, {space.sae}")
            for number, space in enumerate(report.spaces)
        ),
        ("saefilter", report.version),
        ("Made", report.created),
    ]  # fmt: skip
    rows = "".join(
        f'<tr><th scope="row">{esc(name)}</th><td>{bdi(value)}</td></tr>\n' for name, value in terms
    )
    return section(
        "made", "How it was made", f'<table class="made"><tbody>{rows}</tbody></table>\n'
    )


def print_geometry(console: Console, report: GeometryReport) -> None:
    """The answer and what it rests on."""
    from rich.text import Text

    from saefilter.report.console import safe

    closer = any(space.closer for space in report.spaces)
    unclear = any(map(may_be_topic, report.spaces)) or not any(s.decided for s in report.spaces)
    style = "bold red" if closer else "bold yellow" if unclear else "bold green"
    console.print(Text.assemble((headline(report), style)))
    console.print(
        f"  {report.rows:,} rows of {report.input} against {report.against_rows:,} of "
        f"{report.against}"
    )
    for space in report.spaces:
        console.print(Text.assemble("\n", (f"{space.preset or space.model}, {space.hook}", "bold")))
        console.print(f"  {space.verdict}")
        console.print(
            f"  A data row is nearer than a reference row with a chance of {space.samples.auroc:.2f} "
            f"({space.samples.low:.2f} to {space.samples.high:.2f})."
        )
        console.print("  Most pushed toxic features:")
        for push in space.spillover[:5]:
            console.print(
                Text.assemble(
                    f"    {push.push:+.4f} ({push.low:+.4f} to {push.high:+.4f})  ",
                    safe(f"{push.label} ({push.feature})", 70),
                )
            )
    for note in report.notes:
        console.print(Text(f"Note: {note}", style="yellow"))
