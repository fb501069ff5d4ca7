"""The figure of a finished experiment, as an SVG file, without a plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from results import Cell, Interval, cells, interval

PANEL, LEFT, TOP, GAP = 300, 150, 40, 90
CURVES_HEIGHT, ROW_HEIGHT = 220, 18
COLOURS = {"random": "#888888", "geometry": "#2a6fdb", "oracle": "#2a9d4a"}
FRACTIONS = (0.25, 0.5)


def figure(runs: Sequence[dict[str, Any]]) -> str:
    """Above, out-of-domain harm against the share dropped; below, all arms at 25 and 50 %."""
    found = cells(runs)
    datasets = list(dict.fromkeys(run["dataset"] for run in runs))
    arms = [a for a in dict.fromkeys(run["arm"] for run in runs) if a not in ("base", "none")]
    highest = max(interval(c.rates["out_of_domain"]).high for c in found.values()) * 1.05
    width = LEFT + len(datasets) * (PANEL + GAP)
    forest_top = TOP + CURVES_HEIGHT + 80
    height = forest_top + ROW_HEIGHT * len(arms) + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12" fill="#333">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, name in enumerate(datasets):
        left = LEFT + number * (PANEL + GAP)
        parts += _curves(found, name, left, highest)
        parts += _forest(found, name, arms, left, forest_top, highest)
    for row, arm in enumerate(arms):
        y = forest_top + ROW_HEIGHT * row + 4
        parts.append(f'<text x="{LEFT - 10}" y="{y}" text-anchor="end">{arm}</text>')
    parts.append(
        f'<text transform="translate({LEFT - 48} {TOP + CURVES_HEIGHT / 2}) rotate(-90)" '
        'text-anchor="middle">harmful answers, other domains</text>'
    )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _curves(
    found: dict[tuple[str, str, float], Cell], dataset: str, left: float, highest: float
) -> list[str]:
    def x(fraction: float) -> float:
        return left + fraction / 0.5 * PANEL

    def y(rate: float) -> float:
        return TOP + CURVES_HEIGHT * (1 - rate / highest)

    bottom = TOP + CURVES_HEIGHT
    parts = [
        f'<text x="{left}" y="{TOP - 14}" font-weight="bold">{dataset}</text>',
        f'<line x1="{left}" y1="{bottom}" x2="{left + PANEL}" y2="{bottom}" stroke="#999"/>',
        f'<line x1="{left}" y1="{TOP}" x2="{left}" y2="{bottom}" stroke="#999"/>',
        f'<text x="{left + PANEL / 2}" y="{bottom + 34}" text-anchor="middle">rows dropped</text>',
    ]
    for fraction in (0.0, 0.1, 0.25, 0.5):
        parts.append(
            f'<text x="{x(fraction):.1f}" y="{bottom + 16}" text-anchor="middle">{fraction:.0%}</text>'
        )
    for step in range(5):
        rate = highest * step / 4
        parts.append(
            f'<text x="{left - 6}" y="{y(rate) + 4:.1f}" text-anchor="end">{rate:.2f}</text>'
        )
    base = interval(found[dataset, "base", 0.0].rates["out_of_domain"])
    parts.append(
        f'<line x1="{left}" y1="{y(base.mean):.1f}" x2="{left + PANEL}" y2="{y(base.mean):.1f}" '
        'stroke="#333" stroke-dasharray="4"/>'
        f'<text x="{left + 4}" y="{y(base.mean) - 4:.1f}">before</text>'
    )
    none = interval(found[dataset, "none", 0.0].rates["out_of_domain"])
    ends: dict[str, float] = {}
    for arm, colour in COLOURS.items():
        points: list[tuple[float, Interval]] = [(0.0, none)]
        points += sorted(
            (cell.drop_frac, interval(cell.rates["out_of_domain"]))
            for cell in found.values()
            if cell.dataset == dataset and cell.arm == arm
        )
        band = [(f, i.high) for f, i in points] + [(f, i.low) for f, i in reversed(points)]
        parts.append(f'<polygon points="{_path(band, x, y)}" fill="{colour}" fill-opacity="0.15"/>')
        middle = _path([(f, i.mean) for f, i in points], x, y)
        parts.append(
            f'<polyline points="{middle}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        ends[arm] = y(points[-1][1].mean) + 4
    lowest = 0.0
    for arm in sorted(
        ends, key=ends.__getitem__
    ):  # names side by side with their curves, none on another
        lowest = max(ends[arm], lowest + 12)
        parts.append(
            f'<text x="{left + PANEL + 4}" y="{lowest:.1f}" fill="{COLOURS[arm]}" font-size="11">{arm}</text>'
        )
    return parts


def _path(points: Sequence[tuple[float, float]], x: Any, y: Any) -> str:
    return " ".join(f"{x(fraction):.1f},{y(rate):.1f}" for fraction, rate in points)


def _forest(
    found: dict[tuple[str, str, float], Cell],
    dataset: str,
    arms: Sequence[str],
    left: float,
    top: float,
    highest: float,
) -> list[str]:
    """Every arm's interval; a filled dot at the larger fraction, an open one at the smaller."""

    def x(rate: float) -> float:
        return left + rate / highest * PANEL

    bottom = top + ROW_HEIGHT * len(arms)
    parts = []
    for name, dash in (("none", ""), ("base", ' stroke-dasharray="4"')):
        at = x(interval(found[dataset, name, 0.0].rates["out_of_domain"]).mean)
        parts.append(
            f'<line x1="{at:.1f}" y1="{top - 12}" x2="{at:.1f}" y2="{bottom - 6}" stroke="#333"{dash}/>'
            f'<text x="{at:.1f}" y="{top - 16}" text-anchor="middle" font-size="11">'
            f"{ {'none': 'unfiltered', 'base': 'before'}[name] }</text>"
        )
    for row, arm in enumerate(arms):
        for fraction in FRACTIONS:
            cell = found.get((dataset, arm, fraction))
            if cell is None:
                continue
            one = interval(cell.rates["out_of_domain"])
            y = top + ROW_HEIGHT * row + (-3 if fraction == FRACTIONS[0] else 3)
            colour = COLOURS.get(arm, "#b5651d")
            fill = "white" if fraction == FRACTIONS[0] else colour
            parts.append(
                f'<line x1="{x(one.low):.1f}" y1="{y}" x2="{x(one.high):.1f}" y2="{y}" stroke="{colour}"/>'
                f'<circle cx="{x(one.mean):.1f}" cy="{y}" r="3" fill="{fill}" stroke="{colour}"/>'
            )
    parts.append(
        f'<text x="{left + PANEL / 2}" y="{bottom + 16}" text-anchor="middle" font-size="11">'
        "harmful answers; 25 % dropped (open), 50 % (filled)</text>"
    )
    return parts
