"""The faces of a geometry report: a page, and a few lines for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saefilter.report.fragments import render
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
    return "As a whole no closer to toxic features than harmless data"


def may_be_topic(space: SpaceDiagnosis) -> bool:
    """Whether chance does not explain the difference, and topic may."""
    near = space.decided and space.chance is not None and space.chance["p_value"] < LEVEL
    return near and not space.closer


def geometry_html(report: GeometryReport) -> str:
    """The whole report as one self-contained page."""
    return render(
        "geometry.html",
        f"{headline(report)}: {report.input}",
        brand="saefilter geometry",
        headline=headline(report),
        lead=f"{report.rows:,} rows of {report.input} against {report.against_rows:,} rows of "
        f"{report.against}.",
        notes=[*report.notes, *(note for space in report.spaces for note in space.notes)],
        report=report,
        spaces=[_space(space, number) for number, space in enumerate(report.spaces)],
        p_value=_p,
        n_rows=N_ROWS,
        made=_made(report),
    )


def _p(of: dict[str, float] | float | None) -> str:
    value = of["p_value"] if isinstance(of, dict) else of
    return "-" if value is None else f"{value:.3f}"


def _space(space: SpaceDiagnosis, number: int) -> dict[str, Any]:
    """What the template needs of one SAE beyond its diagnosis."""
    largest = max((max(abs(push.low), abs(push.high)) for push in space.spillover), default=0.0)
    cosines = [feature.cosine for feature in space.data_features]
    return {
        "of": space,
        "name": f"{space.preset or space.model}, {space.hook}",
        "cosines": cosine_chart(cosines, space.matched_proximity, number),
        "map": map_chart(space.map, number),
        "pushes": [(push, interval_bar(push, largest)) for push in space.spillover],
    }


def _made(report: GeometryReport) -> list[tuple[str, str]]:
    """How it came about, as terms and untrusted values."""
    return [
        ("Rows left out", f"{report.left_out:,}"),
        *((f"Option {name}", str(value)) for name, value in report.options.items()),
        *(
            (f"Toxic set {number + 1}", f"{space.toxic_set}, {space.toxic_features} features, {space.sae}")
            for number, space in enumerate(report.spaces)
        ),
        ("saefilter", report.version),
        ("Made", report.created),
    ]  # fmt: skip


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
