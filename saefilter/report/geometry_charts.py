"""The geometry report's drawings; percent of the width, pixels of height. Labels are untrusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from saefilter.report.charts import ticks
from saefilter.report.shapes import Bar, Dot, Key, Label, Rule, Shape, figure, small

if TYPE_CHECKING:
    from markupsafe import Markup

    from saefilter.diagnose.result import MapPoint
    from saefilter.geometry.spillover import Spillover

HEIGHT, TOP, BOTTOM = 240, 24, 196
MAP_HEIGHT, MAP_MARGIN = 420, 14
BINS = 30


def cosine_chart(data: Sequence[float], matched: Sequence[float], number: int) -> Markup | str:
    """Cosines to the nearest toxic feature: data features in front of matched ones, as shares. Nothing where
    all are the same."""
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

    shapes: list[Shape] = [Rule("axis", "0", "100%", str(BOTTOM), str(BOTTOM))]
    for kind, share in shares.items():
        name = "data features" if kind == "dropped" else "features that fire as often"
        for left, right, fraction in zip(edges[:-1], edges[1:], share, strict=True):
            if fraction:
                height = max(1.5, fraction / top * (BOTTOM - TOP))
                inset = 0.3 if kind == "dropped" else 0.0
                shapes.append(
                    Bar(
                        f"{kind} see-through",
                        f"{x(left) + inset:.2f}%",
                        f"{BOTTOM - height:.1f}",
                        f"{x(right) - x(left) - 2 * inset:.2f}%",
                        f"{height:.1f}",
                        f"{left:.2f} to {right:.2f}: {fraction:.1%} of {name}",
                    )
                )
    for value in ticks(low, high, 6):
        shapes.append(Label(f"{value:.2f}", f"{x(value):.2f}%", str(BOTTOM + 18), "middle"))
    below = "cosine to the nearest toxic feature"
    shapes.append(Label(below, "50%", str(HEIGHT - 6), "middle", "name"))
    keys = [Key("data features", "dropped"), Key("features that fire as often", "kept")]
    title = "How near data features and matched features lie to toxic ones"
    return figure(f"cosines-{number}", title, HEIGHT, keys, shapes)


def map_chart(points: Sequence[MapPoint], number: int) -> Markup:
    """Features in two dimensions; others first, so that they lie below."""
    xs, ys = np.array([p.x for p in points]), np.array([p.y for p in points])
    x_span, y_span = float(np.ptp(xs)) or 1.0, float(np.ptp(ys)) or 1.0
    order = {"other": 0, "toxic": 1, "data": 2, "both": 3}
    shapes = []
    for point in sorted(points, key=lambda point: order[point.kind]):
        x = 2 + 96 * (point.x - xs.min()) / x_span
        y = MAP_MARGIN + (MAP_HEIGHT - 2 * MAP_MARGIN) * (ys.max() - point.y) / y_span
        radius = "2" if point.kind == "other" else "4"
        said = f"{point.feature}: {point.label}"
        shapes.append(Dot(f"dot {point.kind}", f"{x:.2f}%", f"{y:.1f}", radius, said))
    keys = [
        Key(words, f"dot {kind}", "dot")
        for kind, words in (
            ("toxic", "toxic"), ("data", "data"), ("both", "both"), ("other", "some others"),
        )
    ]  # fmt: skip
    title = "Directions of toxic and data features in two dimensions"
    return figure(f"map-{number}", title, MAP_HEIGHT, keys, shapes)


def interval_bar(one: Spillover, largest: float) -> Markup:
    """A push with its interval, around zero in the middle."""

    def x(value: float) -> float:
        return 50 + 49 * min(1.0, max(-1.0, value / largest if largest else 0.0))

    left, right = sorted((50.0, x(one.push)))
    kind = "dropped" if one.low > 0 else "kept" if one.high < 0 else "track"
    return small(
        [
            Bar(kind, f"{left:.1f}%", "2", f"{right - left:.1f}%", "6"),
            Rule("whisker", f"{x(one.low):.1f}%", f"{x(one.high):.1f}%", "5", "5"),
            Rule("axis", "50%", "50%", "0", "10"),
        ]
    )
