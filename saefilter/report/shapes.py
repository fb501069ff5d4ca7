"""What charts are drawn of: placed shapes, which `templates/charts.html` writes as SVG.

Widths are percentages and heights pixels, without a viewBox: a chart then fills a phone's width as
well as a desk's while its text keeps its size. Colours come from the style sheet by class (`kind`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from saefilter.report.fragments import part

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class Rule:
    """A straight line."""

    tag: ClassVar = "line"
    kind: str
    x1: str
    x2: str
    y1: str
    y2: str


@dataclass(frozen=True)
class Label:
    """Words; `dx` moves them by pixels."""

    tag: ClassVar = "text"
    words: str
    x: str
    y: str
    anchor: str = ""
    kind: str = ""
    dx: str = ""


@dataclass(frozen=True)
class Bar:
    """A rectangle; with a title it says what it is when it is pointed at."""

    tag: ClassVar = "rect"
    kind: str
    x: str
    y: str
    width: str
    height: str
    title: str = ""


@dataclass(frozen=True)
class Stack:
    """Bars under one title."""

    tag: ClassVar = "g"
    title: str
    bars: list[Bar]


@dataclass(frozen=True)
class Dot:
    """A point of a map."""

    tag: ClassVar = "circle"
    kind: str
    x: str
    y: str
    r: str
    title: str


@dataclass(frozen=True)
class Key:
    """What a colour or a line means."""

    words: str
    kind: str
    shape: str = "square"
    """`square`, `dot`, `long` (a line over the whole key) or `upright`."""


Shape = Rule | Label | Bar | Stack | Dot


def figure(
    name: str, title: str, height: int, keys: Sequence[Key], shapes: Sequence[Shape], **more: Any
) -> Markup:
    """A drawing with its legend; `more` is what the template's macro takes beyond."""
    return part("charts.html", "figure")(name, title, height, keys, shapes, **more)


def small(shapes: Sequence[Shape]) -> Markup:
    """A drawing within a table's cell."""
    return part("charts.html", "small")(shapes)


def grid(step: float, y: float, words: str) -> list[Shape]:
    """A level of a chart with its number; the lowest is the axis."""
    kind = "grid" if step else "axis"
    at = f"{y:.1f}"
    return [Rule(kind, "0", "100%", at, at), Label(words, "-8", f"{y + 4:.1f}", "end")]
