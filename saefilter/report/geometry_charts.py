"""The geometry report's drawings as inline SVG; percent of the width, pixels of height.

Only numbers of ours get in here, and labels through `esc`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from saefilter.report.charts import ticks
from saefilter.report.fragments import esc

if TYPE_CHECKING:
    from saefilter.diagnose.result import MapPoint
    from saefilter.geometry.spillover import Spillover

HEIGHT, TOP, BOTTOM = 240, 24, 196
MAP_HEIGHT, MAP_MARGIN = 420, 14
BINS = 30


def cosine_chart(data: Sequence[float], matched: Sequence[float], number: int) -> str:
    """Cosines to the nearest toxic feature: data features in front of matched ones, as shares."""
    everything = np.array([*data, *matched])
    low, high = float(everything.min()), float(everything.max())
    if not low < high:
        return ""
    edges = np.linspace(low, high, BINS + 1)
    shares = {
        kind: np.histogram(values, edges)[0] / max(1, len(values))
        for kind, values in (("kept", matched), ("dropped", data))
    }
    top = max(float(share.max()) for share in shares.values())

    def x(value: float) -> float:
        return 100 * (value - low) / (high - low)

    shapes = [f'<line class="axis" x1="0" x2="100%" y1="{BOTTOM}" y2="{BOTTOM}"/>']
    for kind, share in shares.items():
        name = "data features" if kind == "dropped" else "features that fire as often"
        for left, right, fraction in zip(edges[:-1], edges[1:], share, strict=True):
            if fraction:
                height = max(1.5, fraction / top * (BOTTOM - TOP))
                inset = 0.3 if kind == "dropped" else 0.0
                shapes.append(
                    f'<rect class="{kind} see-through" x="{x(left) + inset:.2f}%" '
                    f'y="{BOTTOM - height:.1f}" width="{x(right) - x(left) - 2 * inset:.2f}%" '
                    f'height="{height:.1f}"><title>{left:.2f} to {right:.2f}: {fraction:.1%} of '
                    f"{name}</title></rect>"
                )
    for value in ticks(low, high, 6):
        shapes.append(
            f'<text x="{x(value):.2f}%" y="{BOTTOM + 18}" text-anchor="middle">{value:.2f}</text>'
        )
    shapes.append(
        f'<text class="name" x="50%" y="{HEIGHT - 6}" text-anchor="middle">cosine to the nearest '
        "toxic feature</text>"
    )
    legend = _legend([("dropped", "data features"), ("kept", "features that fire as often")])
    return (
        f'<figure>\n{legend}<svg class="chart" width="100%" height="{HEIGHT}" role="img" '
        f'aria-labelledby="cosines-{number}">\n<title id="cosines-{number}">How near data features '
        "and matched features lie to toxic ones</title>\n"
        + "\n".join(shapes)
        + "</svg>\n</figure>\n"
    )


def map_chart(points: Sequence[MapPoint], number: int) -> str:
    """Features in two dimensions; others first, so that they lie below."""
    xs, ys = np.array([p.x for p in points]), np.array([p.y for p in points])
    x_span, y_span = float(np.ptp(xs)) or 1.0, float(np.ptp(ys)) or 1.0
    order = {"other": 0, "toxic": 1, "data": 2, "both": 3}
    shapes = []
    for point in sorted(points, key=lambda point: order[point.kind]):
        x = 2 + 96 * (point.x - xs.min()) / x_span
        y = MAP_MARGIN + (MAP_HEIGHT - 2 * MAP_MARGIN) * (ys.max() - point.y) / y_span
        radius = 2 if point.kind == "other" else 4
        shapes.append(
            f'<circle class="dot {point.kind}" cx="{x:.2f}%" cy="{y:.1f}" r="{radius}">'
            f"<title>{point.feature}: {esc(point.label)}</title></circle>"
        )
    legend = _legend(
        [("toxic", "toxic"), ("data", "data"), ("both", "both"), ("other", "some others")], "dot "
    )
    return (
        f'<figure>\n{legend}<svg class="chart" width="100%" height="{MAP_HEIGHT}" role="img" '
        f'aria-labelledby="map-{number}">\n<title id="map-{number}">Directions of toxic and data '
        "features in two dimensions</title>\n" + "\n".join(shapes) + "</svg>\n</figure>\n"
    )


def interval_bar(one: Spillover, largest: float) -> str:
    """A push with its interval, around zero in the middle."""

    def x(value: float) -> float:
        return 50 + 49 * min(1.0, max(-1.0, value / largest if largest else 0.0))

    left, right = sorted((50.0, x(one.push)))
    kind = "dropped" if one.low > 0 else "kept" if one.high < 0 else "track"
    return (
        '<svg class="bar" width="100%" height="10" aria-hidden="true">'
        f'<rect class="{kind}" x="{left:.1f}%" width="{right - left:.1f}%" y="2" height="6"/>'
        f'<line class="whisker" x1="{x(one.low):.1f}%" x2="{x(one.high):.1f}%" y1="5" y2="5"/>'
        '<line class="axis" x1="50%" x2="50%" y1="0" y2="10"/></svg>'
    )


def _legend(entries: Sequence[tuple[str, str]], prefix: str = "") -> str:
    items = "".join(
        f'<li><svg width="12" height="12" aria-hidden="true"><circle class="{prefix}{kind}" cx="6" '
        f'cy="6" r="5"/></svg> {text}</li>\n'
        if prefix
        else f'<li><svg width="12" height="12" aria-hidden="true"><rect class="{kind}" width="12" '
        f'height="12" rx="2"/></svg> {text}</li>\n'
        for kind, text in entries
    )
    return f'<ul class="legend">\n{items}</ul>\n'
