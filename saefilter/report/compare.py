"""The page of a comparison: what `templates/compare.html` is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saefilter.report import compare_text
from saefilter.report.charts import Line, kinds, line_chart
from saefilter.report.compare_text import costs_once, headline, lead
from saefilter.report.fragments import render

if TYPE_CHECKING:
    from markupsafe import Markup

    from saefilter.compare.data import Comparison


def compare_html(comparison: Comparison) -> str:
    """The whole comparison as one self-contained page."""
    shown = [o for o in comparison.overlaps if o.drop_frac == comparison.detail_frac][:1]
    return render(
        "compare.html",
        f"{headline(comparison)} {comparison.input}",
        brand="saefilter compare",
        headline=headline(comparison),
        lead=lead(comparison),
        notes=comparison.notes,
        of=comparison,
        words=compare_text,
        costs_once=costs_once(comparison),
        charts=_charts(comparison),
        overlap=shown[0] if shown else None,
        other_overlaps=[overlap for overlap in comparison.overlaps if overlap not in shown],
        own=[arm for arm in comparison.arms if not arm.control],
        made=_made(comparison),
    )


def _charts(comparison: Comparison) -> list[Markup]:
    """Recall and precision over the dropped share; without labels, the overlap with the first."""
    line_kinds = kinds([arm.control for arm in comparison.arms])
    pairs = list(zip(comparison.arms, line_kinds, strict=True))

    def lines(value: str, start: tuple[float, float] | None = None) -> list[Line]:
        made = []
        for arm, kind in pairs:
            values = getattr(arm.curve, value)
            points = [
                (x, y) for x, y in zip(arm.curve.drop_frac, values, strict=True) if y is not None
            ]
            made.append(Line(arm.name, kind, [*([start] if start else []), *points]))
        return made

    if comparison.base_rate is None:
        others = [line for line in lines("overlap")[1:] if line.name != comparison.arms[0].name]
        title = "Overlap over the dropped share"
        return [line_chart("overlap", title, "overlap", others)] if others else []
    return [
        line_chart(name, f"{name.capitalize()} over the dropped share", name, lines(name, start))
        for name, start in (("recall", (0.0, 0.0)), ("precision", None))
    ]


def _made(comparison: Comparison) -> list[tuple[str, str]]:
    """How it came about, as terms and untrusted values."""
    return [
        ("Input", comparison.input),
        ("Input SHA-256", comparison.input_sha256),
        *(
            (f"Scores {number}", ", ".join(str(value) for value in one.values() if value))
            for number, one in enumerate(comparison.scores, start=1)
        ),
        ("Labels", _words(comparison.labels) if comparison.labels else "none"),
        *((f"{arm.name}", _words(arm.details)) for arm in comparison.arms if arm.details),
        ("Seed", str(comparison.seed)),
        ("Made by", f"saefilter {comparison.version}"),
        ("Made at", comparison.created),
    ]


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    return "; ".join(map(_words, value)) if isinstance(value, list) else str(value)
