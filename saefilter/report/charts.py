"""Drawings as inline SVG: the histogram of distances, and lines over the dropped share.

Widths are percentages and heights pixels, without a viewBox: a chart then fills a phone's width as
well as a desk's while its text keeps its size. Lines live in an inner SVG that is stretched to the
plot; texts stand outside it. Only numbers of ours get in, and names through `esc`. Colours come from
the style sheet by class.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from saefilter.report.data import Histogram
from saefilter.report.fragments import esc
from saefilter.text import percent, rows_of

HEIGHT = 256
PLOT_TOP, PLOT_BOTTOM = 30, 208
"""Where the bars stand, in pixels from the chart's top."""
LINES_HEIGHT, LINES_TOP, LINES_BOTTOM = 300, 26, 252
N_COLOURS = 7


def histogram(counts: Histogram, threshold: float | None, gone: str = "dropped") -> str:
    """Dropped and kept rows stacked by distance, with a line at the threshold if there is one. `gone`: what
    was done to the former, in a word."""
    totals = [kept + dropped for kept, dropped in zip(counts.kept, counts.dropped, strict=True)]
    low, high = counts.edges[0], counts.edges[-1]
    if not any(totals) or not (math.isfinite(low) and math.isfinite(high) and low < high):
        return '<p class="empty">No row was scored, so there is nothing to plot.</p>\n'
    if threshold is not None and not low <= threshold <= high:
        threshold = None
    steps = [step for step in ticks(0, max(totals), 4) if step == int(step)]
    axes = _Axes(low, high, (PLOT_BOTTOM - PLOT_TOP) / max(totals))
    shapes = [*_grid(steps, axes), *_bars(counts, axes, gone), *_labels(axes)]
    if threshold is not None:
        shapes += _threshold(threshold, axes, gone)
    text = (
        f"{sum(counts.dropped):,} {gone} and {sum(counts.kept):,} kept rows at distances from "
        f"{low:.3f} to {high:.3f}; the fullest bar holds {rows_of(max(totals))}."
    )
    return (
        f'<figure>\n{_legend(threshold, gone)}<svg class="chart" width="100%" height="{HEIGHT}" '
        'role="img" aria-labelledby="chart-title chart-text">\n'
        '<title id="chart-title">Rows by their distance to toxic features</title>\n'
        f'<desc id="chart-text">{text}</desc>\n' + "\n".join(shapes) + "\n</svg>\n</figure>\n"
    )


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


def _grid(steps: list[float], axes: _Axes) -> Iterator[str]:
    for step in steps:
        y = PLOT_BOTTOM - step * axes.pixels_per_row
        kind = "grid" if step else "axis"
        yield f'<line class="{kind}" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="-8" y="{y + 4:.1f}" text-anchor="end">{step:,.0f}</text>'
    yield '<text class="name" x="-44" y="12">rows</text>'


def _bars(counts: Histogram, axes: _Axes, gone: str) -> Iterator[str]:
    bins = zip(counts.edges[:-1], counts.edges[1:], counts.dropped, counts.kept, strict=True)
    for low, high, dropped, kept in bins:
        if not dropped and not kept:
            continue
        bars, top = "", float(PLOT_BOTTOM)
        for kind, count in (("dropped", dropped), ("kept", kept)):
            if count:
                height = max(1.5, count * axes.pixels_per_row)  # one row must stay visible
                top -= height
                bars += (
                    f'<rect class="{kind}" x="{axes.x(low):.2f}%" y="{top:.1f}" '
                    f'width="{0.94 * (axes.x(high) - axes.x(low)):.2f}%" height="{height:.1f}"/>'
                )
        said = f"{low:.3f} to {high:.3f}: {dropped:,} {gone}, {kept:,} kept"
        yield f"<g><title>{said}</title>{bars}</g>"


def _labels(axes: _Axes) -> Iterator[str]:
    places = ticks(axes.low, axes.high, 7)
    digits = max(0, -math.floor(math.log10(places[1] - places[0]) + 1e-9))
    for place in places:
        x = axes.x(place)
        anchor = "start" if x < 4 else "end" if x > 96 else "middle"
        yield (
            f'<text x="{x:.2f}%" y="{PLOT_BOTTOM + 18}" text-anchor="{anchor}">'
            f"{place:.{digits}f}</text>"
        )
    yield (
        f'<text class="name" x="50%" y="{HEIGHT - 8}" text-anchor="middle">'
        "distance to toxic features</text>"
    )


def _threshold(threshold: float, axes: _Axes, gone: str) -> Iterator[str]:
    x = axes.x(threshold)
    anchor, shift = ("start", 6) if x < 50 else ("end", -6)
    yield f'<line class="threshold" x1="{x:.2f}%" x2="{x:.2f}%" y1="6" y2="{PLOT_BOTTOM}"/>'
    yield (
        f'<text class="mark" x="{x:.2f}%" dx="{shift}" y="15" text-anchor="{anchor}">'
        f"{gone} up to {threshold:.3f}</text>"
    )


def _legend(threshold: float | None, gone: str) -> str:
    square = '<rect class="{}" width="12" height="12" rx="2"/>'
    keys = [(gone, square.format("dropped")), ("kept", square.format("kept"))]
    if threshold is not None:
        line = '<line class="threshold" x1="6" x2="6" y1="0" y2="12"/>'
        keys.append((f"threshold: the farthest row {gone}", line))
    items = "".join(
        f'<li><svg width="12" height="12" aria-hidden="true">{shape}</svg> {text}</li>\n'
        for text, shape in keys
    )
    return f'<ul class="legend">\n{items}</ul>\n'


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


def line_chart(name: str, title: str, unit: str, lines: Sequence[Line]) -> str:
    """Lines from 0 to 100 % of the rows dropped; `unit` names the value."""
    top = max((y for line in lines for _, y in line.points), default=1.0)
    steps = ticks(0, max(top, 0.05), 5)
    top = steps[-1] if steps[-1] >= top else min(1.0, steps[-1] + steps[1])
    shapes = []
    for step in [*steps, top] if top > steps[-1] else steps:
        y = LINES_BOTTOM - (LINES_BOTTOM - LINES_TOP) * step / top
        kind = "grid" if step else "axis"
        shapes.append(f'<line class="{kind}" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
        shapes.append(f'<text x="-8" y="{y + 4:.1f}" text-anchor="end">{percent(step)}</text>')
    shapes.append(f'<text class="name" x="-40" y="12">{unit}</text>')
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        shapes.append(
            f'<text x="{100 * share:.0f}%" y="{LINES_BOTTOM + 18}" text-anchor="{anchor}">'
            f"{percent(share)}</text>"
        )
    shapes.append(
        f'<text class="name" x="50%" y="{LINES_HEIGHT - 8}" text-anchor="middle">share of the scored rows '
        "that is dropped</text>"
    )
    # the first strategy last, so that it lies on top
    drawn = "\n".join(_drawn(line, top) for line in reversed(lines))
    return (
        f'<figure>\n{_line_legend(lines)}<svg class="chart" width="100%" height="{LINES_HEIGHT}" role="img" '
        f'aria-labelledby="{name}-chart">\n<title id="{name}-chart">{title}</title>\n'
        + "\n".join(shapes)
        + f'\n<svg x="0" y="{LINES_TOP}" width="100%" height="{LINES_BOTTOM - LINES_TOP}" viewBox="0 0 1000 1000" '
        f'preserveAspectRatio="none">\n{drawn}\n</svg>\n</svg>\n</figure>\n'
    )


def _drawn(line: Line, top: float) -> str:
    points = " ".join(f"{1000 * x:.1f},{1000 * (1 - y / top):.1f}" for x, y in line.points)
    return (
        f'<polyline class="line {line.kind}" points="{points}" vector-effect="non-scaling-stroke">'
        f"<title>{esc(line.name)}</title></polyline>"
    )


def _line_legend(lines: Sequence[Line]) -> str:
    items = "".join(
        f'<li><svg width="26" height="12" aria-hidden="true"><line class="line {line.kind}" x1="0" '
        f'x2="26" y1="6" y2="6"/></svg> {esc(line.name)}</li>\n'
        for line in lines
    )
    return f'<ul class="legend">\n{items}</ul>\n'
