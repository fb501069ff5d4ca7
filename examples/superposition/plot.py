"""A scatter plot as an SVG file, without a plotting library."""

from __future__ import annotations

import numpy as np

SIZE, MARGIN = 480, 56
MOST_POINTS = 3000


def scatter(x: np.ndarray, y: np.ndarray, x_name: str, y_name: str) -> str:
    """Points of `x` and `y`, `[n]` each, with the line of equality."""
    if len(x) > MOST_POINTS:
        some = np.random.default_rng(0).choice(len(x), MOST_POINTS, replace=False)
        x, y = x[some], y[some]
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return MARGIN + (value - low) / span * (SIZE - 2 * MARGIN)

    points = "\n".join(
        f'<circle cx="{place(a):.1f}" cy="{SIZE - place(b):.1f}" r="2"/>'
        for a, b in zip(x, y, strict=True)
    )
    edge = SIZE - MARGIN
    ticks = "\n".join(
        f'<text x="{place(v):.1f}" y="{edge + 18}" text-anchor="middle">{v:.2g}</text>'
        f'<text x="{MARGIN - 8}" y="{SIZE - place(v) + 4:.1f}" text-anchor="end">{v:.2g}</text>'
        for v in np.linspace(low, high, 5)
    )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE} {SIZE}" \
font-family="sans-serif" font-size="12">
<rect width="{SIZE}" height="{SIZE}" fill="white"/>
<line x1="{MARGIN}" y1="{edge}" x2="{edge}" y2="{MARGIN}" stroke="#999" stroke-dasharray="4"/>
<g fill="#2a6fdb" fill-opacity="0.5">
{points}
</g>
<g fill="#333">
{ticks}
<text x="{SIZE / 2}" y="{SIZE - 12}" text-anchor="middle">{x_name}</text>
<text transform="translate(16 {SIZE / 2}) rotate(-90)" text-anchor="middle">{y_name}</text>
</g>
</svg>
"""
