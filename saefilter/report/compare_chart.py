"""Lines over the dropped share as inline SVG. Only numbers of ours get in, and names through `esc`.

The lines live in an inner SVG that is stretched to the plot; texts stand outside it, so that they
keep their size. A control's line is dashed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from saefilter.report.chart import ticks
from saefilter.report.fragments import esc
from saefilter.text import percent

HEIGHT, TOP, BOTTOM = 300, 26, 252
N_COLOURS = 7


class Line(NamedTuple):
    """One strategy's line."""

    name: str
    kind: str
    """Classes of the style sheet."""
    points: list[tuple[float, float]]
    """Dropped share and value, both 0 to 1."""


def kinds(controls: Sequence[bool]) -> list[str]:
    """Classes for lines, in order; controls are dashed and grey."""
    found, n_own, n_controls = [], 0, 0
    for is_control in controls:
        if is_control:
            found.append(f"control c{n_controls % 3}")
            n_controls += 1
        else:
            found.append(f"s{n_own % N_COLOURS}{' again' if n_own >= N_COLOURS else ''}")
            n_own += 1
    return found


def line_chart(name: str, title: str, unit: str, lines: Sequence[Line]) -> str:
    """Lines from 0 to 100 % of the rows dropped; `unit` names the value."""
    top = max((y for line in lines for _, y in line.points), default=1.0)
    steps = ticks(0, max(top, 0.05), 5)
    top = steps[-1] if steps[-1] >= top else min(1.0, steps[-1] + steps[1])
    shapes = []
    for step in [*steps, top] if top > steps[-1] else steps:
        y = BOTTOM - (BOTTOM - TOP) * step / top
        kind = "grid" if step else "axis"
        shapes.append(f'<line class="{kind}" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
        shapes.append(f'<text x="-8" y="{y + 4:.1f}" text-anchor="end">{percent(step)}</text>')
    shapes.append(f'<text class="name" x="-40" y="12">{unit}</text>')
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        shapes.append(
            f'<text x="{100 * share:.0f}%" y="{BOTTOM + 18}" text-anchor="{anchor}">'
            f"{percent(share)}</text>"
        )
    shapes.append(
        f'<text class="name" x="50%" y="{HEIGHT - 8}" text-anchor="middle">share of the scored rows '
        "that is dropped</text>"
    )
    # the first strategy last, so that it lies on top
    drawn = "\n".join(_drawn(line, top) for line in reversed(lines))
    return (
        f'<figure>\n{_legend(lines)}<svg class="chart" width="100%" height="{HEIGHT}" role="img" '
        f'aria-labelledby="{name}-chart">\n<title id="{name}-chart">{title}</title>\n'
        + "\n".join(shapes)
        + f'\n<svg x="0" y="{TOP}" width="100%" height="{BOTTOM - TOP}" viewBox="0 0 1000 1000" '
        f'preserveAspectRatio="none">\n{drawn}\n</svg>\n</svg>\n</figure>\n'
    )


def _drawn(line: Line, top: float) -> str:
    points = " ".join(f"{1000 * x:.1f},{1000 * (1 - y / top):.1f}" for x, y in line.points)
    return (
        f'<polyline class="line {line.kind}" points="{points}" vector-effect="non-scaling-stroke">'
        f"<title>{esc(line.name)}</title></polyline>"
    )


def _legend(lines: Sequence[Line]) -> str:
    items = "".join(
        f'<li><svg width="26" height="12" aria-hidden="true"><line class="line {line.kind}" x1="0" '
        f'x2="26" y1="6" y2="6"/></svg> {esc(line.name)}</li>\n'
        for line in lines
    )
    return f'<ul class="legend">\n{items}</ul>\n'
