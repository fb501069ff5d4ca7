"""Drawings: the histogram of distances, and lines over the dropped share.

Lines live in an inner SVG that is stretched to the plot; texts stand outside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from saefilter.report.data import Histogram
from saefilter.report.fragments import part
from saefilter.report.shapes import Bar, Key, Label, Rule, Shape, Stack, figure, grid
from saefilter.text import percent, rows_of

if TYPE_CHECKING:
    from markupsafe import Markup

HEIGHT = 256
PLOT_TOP, PLOT_BOTTOM = 30, 208
"""Where the bars stand, in pixels from the chart's top."""
LINES_HEIGHT, LINES_TOP, LINES_BOTTOM = 300, 26, 252
N_COLOURS = 7


def histogram(counts: Histogram, threshold: float | None, gone: str = "dropped") -> Markup:
    """Dropped and kept rows stacked by distance, with a line at the threshold if there is one. `gone`: what
    was done to the former, in a word."""
    totals = [kept + dropped for kept, dropped in zip(counts.kept, counts.dropped, strict=True)]
    low, high = counts.edges[0], counts.edges[-1]
    if not any(totals) or not (math.isfinite(low) and math.isfinite(high) and low < high):
        return part("parts.html", "empty")("No row was scored, so there is nothing to plot.")
    if threshold is not None and not low <= threshold <= high:
        threshold = None
    steps = [step for step in ticks(0, max(totals), 4) if step == int(step)]
    axes = _Axes(low, high, (PLOT_BOTTOM - PLOT_TOP) / max(totals))
    shapes = [*_grid(steps, axes), *_bars(counts, axes, gone), *_labels(axes)]
    keys = [Key(gone, "dropped"), Key("kept", "kept")]
    if threshold is not None:
        shapes += _threshold(threshold, axes, gone)
        keys.append(Key(f"threshold: the farthest row {gone}", "threshold", "upright"))
    said = (
        f"{sum(counts.dropped):,} {gone} and {sum(counts.kept):,} kept rows at distances from "
        f"{low:.3f} to {high:.3f}; the fullest bar holds {rows_of(max(totals))}."
    )
    title = "Rows by their distance to toxic features"
    return figure("chart", title, HEIGHT, keys, shapes, said=said)


def ticks(low: float, high: float, wanted: int) -> list[float]:
    """About `wanted` round numbers from `low` to `high`, which must be larger."""
    rough = (high - low) / wanted
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


@dataclass(frozen=True)
class _Axes:
    """From distances to percent of the width, and from rows to pixels."""

    low: float
    high: float
    pixels_per_row: float

    def x(self, distance: float) -> float:
        return 100 * (distance - self.low) / (self.high - self.low)


def _grid(steps: list[float], axes: _Axes) -> Iterator[Shape]:
    for step in steps:
        yield from grid(step, PLOT_BOTTOM - step * axes.pixels_per_row, f"{step:,.0f}")
    yield Label("rows", "-44", "12", kind="name")


def _bars(counts: Histogram, axes: _Axes, gone: str) -> Iterator[Shape]:
    bins = zip(counts.edges[:-1], counts.edges[1:], counts.dropped, counts.kept, strict=True)
    for low, high, dropped, kept in bins:
        if not dropped and not kept:
            continue
        bars, top = [], float(PLOT_BOTTOM)
        x, width = f"{axes.x(low):.2f}%", f"{0.94 * (axes.x(high) - axes.x(low)):.2f}%"
        for kind, count in (("dropped", dropped), ("kept", kept)):
            if count:
                height = max(1.5, count * axes.pixels_per_row)  # one row must stay visible
                top -= height
                bars.append(Bar(kind, x, f"{top:.1f}", width, f"{height:.1f}"))
        yield Stack(f"{low:.3f} to {high:.3f}: {dropped:,} {gone}, {kept:,} kept", bars)


def _labels(axes: _Axes) -> Iterator[Shape]:
    places = ticks(axes.low, axes.high, 7)
    digits = max(0, -math.floor(math.log10(places[1] - places[0]) + 1e-9))
    for place in places:
        x = axes.x(place)
        anchor = "start" if x < 4 else "end" if x > 96 else "middle"
        yield Label(f"{place:.{digits}f}", f"{x:.2f}%", str(PLOT_BOTTOM + 18), anchor)
    yield Label("distance to toxic features", "50%", str(HEIGHT - 8), "middle", "name")


def _threshold(threshold: float, axes: _Axes, gone: str) -> Iterator[Shape]:
    at = axes.x(threshold)
    x = f"{at:.2f}%"
    anchor, shift = ("start", "6") if at < 50 else ("end", "-6")
    yield Rule("threshold", x, x, "6", str(PLOT_BOTTOM))
    yield Label(f"{gone} up to {threshold:.3f}", x, "15", anchor, "mark", shift)


class Line(NamedTuple):
    """One strategy's line."""

    name: str
    kind: str
    """Classes of the style sheet."""
    points: list[tuple[float, float]]
    """Dropped share and value, both 0 to 1."""


def kinds(controls: Sequence[bool]) -> list[str]:
    """Classes for lines, in order; controls are dashed and grey."""
    classes, n_own, n_controls = [], 0, 0
    for is_control in controls:
        if is_control:
            classes.append(f"control c{n_controls % 3}")
            n_controls += 1
        else:
            classes.append(f"s{n_own % N_COLOURS}{' again' if n_own >= N_COLOURS else ''}")
            n_own += 1
    return classes


class _Drawn(NamedTuple):
    name: str
    kind: str
    points: str


def line_chart(name: str, title: str, unit: str, lines: Sequence[Line]) -> Markup:
    """Lines from 0 to 100 % of the rows dropped; `unit` names the value."""
    top = max((y for line in lines for _, y in line.points), default=1.0)
    steps = ticks(0, max(top, 0.05), 5)
    top = steps[-1] if steps[-1] >= top else min(1.0, steps[-1] + steps[1])
    shapes: list[Shape] = []
    for step in [*steps, top] if top > steps[-1] else steps:
        shapes += grid(step, LINES_BOTTOM - (LINES_BOTTOM - LINES_TOP) * step / top, percent(step))
    shapes.append(Label(unit, "-40", "12", kind="name"))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        x = f"{100 * share:.0f}%"
        shapes.append(Label(percent(share), x, str(LINES_BOTTOM + 18), anchor))
    below = "share of the scored rows that is dropped"
    shapes.append(Label(below, "50%", str(LINES_HEIGHT - 8), "middle", "name"))
    return figure(
        f"{name}-chart",
        title,
        LINES_HEIGHT,
        [Key(line.name, f"line {line.kind}", "long") for line in lines],
        shapes,
        # the first strategy last, so that it lies on top
        lines=[_drawn(line, top) for line in reversed(lines)],
        plot_top=LINES_TOP,
        plot_height=LINES_BOTTOM - LINES_TOP,
    )


def _drawn(line: Line, top: float) -> _Drawn:
    points = " ".join(f"{1000 * x:.1f},{1000 * (1 - y / top):.1f}" for x, y in line.points)
    return _Drawn(line.name, line.kind, points)
