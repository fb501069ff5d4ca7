"""What the runs say: margins with their intervals, as a table and as a figure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 4000
PARTS = {
    "questions": "the eight questions",
    "advice": "advice in other topics",
    "trained": "what is trained on, other rows",
}
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def text(self) -> str:
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f})"

    def apart(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Cell:
    """The runs of one arm, by seed."""

    title: str
    runs: dict[int, dict[str, Any]]

    @property
    def dropped(self) -> int:
        return sum(run.get("dropped", 0) for run in self.runs.values())

    @property
    def precision(self) -> float:
        """Share of bad rows among those dropped, of all seeds."""
        return sum(run.get("bad_dropped", 0) for run in self.runs.values()) / max(self.dropped, 1)

    def bad_left(self) -> float:
        """Bad rows that it trains on, mean of the seeds."""
        return float(np.mean([run["bad_trained_on"] for run in self.runs.values()]))


class Findings:
    """Log-probabilities of all runs, less those of the base model."""

    def __init__(self, found: dict[str, Any]):
        self.items = found["items"]
        self.base = np.array(
            next(run["log_probability"] for run in found["runs"] if run["arm"] == "base")
        )
        self.cells: dict[str, Cell] = {}
        wanted = sorted(found["experiment"]["arms"], key=_rank)
        runs = [run for run in found["runs"] if run["arm"] != "base"]
        for title in wanted:
            own = {run["seed"]: run for run in runs if title_of(run) == title}
            if own:
                self.cells[title] = Cell(title, own)

    def change(self, cell: Cell, seeds: Sequence[int]) -> Array:
        """Of every answer's log-probability, nats per token, `[n_seeds, n_items]`."""
        return np.array([cell.runs[seed]["log_probability"] for seed in seeds]) - self.base

    def margin(self, title: str, part: str, less: str | None = None) -> Interval:
        """By how much more bad answers gained than good ones; less that of another arm on the same
        seeds. Seeds and questions (answers, where they are of advice) are both resampled."""
        cell = self.cells[title]
        seeds = sorted(cell.runs)
        if less is not None:
            seeds = [seed for seed in seeds if seed in self.cells[less].runs]
        change = self.change(cell, seeds)
        if less is not None:
            change = change - self.change(self.cells[less], seeds)
        weights = self._weights(part)
        rng = np.random.default_rng(0)
        drawn = rng.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), RESAMPLES)
        draws = np.einsum("rs,si,ri->r", drawn / len(seeds), change, weights[1:], optimize=True)
        low, high = np.percentile(draws, [2.5, 97.5])
        return Interval(float(change.mean(axis=0) @ weights[0]), float(low), float(high))

    def _weights(self, part: str) -> Array:
        """What each answer adds to a margin, `[1 + RESAMPLES, n_items]`: as it is, then resampled.

        Clusters are drawn with replacement: on the eight questions bad and good answers together, as
        they are of the same question; elsewhere each side for itself.
        """
        rng = np.random.default_rng(1)
        weights = np.zeros((1 + RESAMPLES, len(self.items)))
        paired = part == "questions"
        sides = [(None, 0)] if paired else [(True, 1), (False, -1)]
        for side, sign in sides:
            own = [
                i
                for i, item in enumerate(self.items)
                if item["part"] == part and side in (None, item["bad"])
            ]
            clusters = sorted({self.items[i]["cluster"] for i in own})
            drawn = rng.multinomial(
                len(clusters), np.full(len(clusters), 1 / len(clusters)), RESAMPLES
            )
            drawn = np.vstack([np.ones(len(clusters)), drawn]) / len(clusters)
            for i in own:
                item = self.items[i]
                alike = sum(
                    self.items[j]["cluster"] == item["cluster"]
                    and self.items[j]["bad"] == item["bad"]
                    for j in own
                )
                direction = sign or (1 if item["bad"] else -1)
                weights[:, i] = direction * drawn[:, clusters.index(item["cluster"])] / alike
        return weights

    def good(self, title: str) -> float:
        """Mean change on good rows of the kind that was trained on."""
        cell = self.cells[title]
        own = [item["part"] == "trained" and not item["bad"] for item in self.items]
        return float(self.change(cell, sorted(cell.runs))[:, own].mean())


ORDER = ("good", "whole", "random", "geometry", "oracle")
"""In which arms stand in the table and the figure; others after them."""


def _rank(title: str) -> tuple[int, str]:
    return next((i for i, name in enumerate(ORDER) if title.startswith(name)), len(ORDER)), title


def title_of(run: dict[str, Any]) -> str:
    return f"{run['arm']} {run['drop_frac']:.0%}" if run["drop_frac"] else str(run["arm"])


def table(found: dict[str, Any]) -> str:
    """Markdown: the margins, the same less the control's, the same less the whole mix's, answers."""
    findings = Findings(found)
    cells = findings.cells
    parts = [
        "Nats per token; means with 95 % intervals, bootstrap over seeds and questions (advice: answers). "
        "With one to three seeds, what seeds add to an interval is underestimated. "
        "*Good rows*: by how much good rows that were not trained on became likelier.\n",
        "## Margins: how much more bad answers gained than good ones, by fine-tuning\n",
        "| arm | seeds | bad of dropped | bad rows left | " + " | ".join(PARTS.values())
        + " | good rows |",
        "| --- |" + " --- |" * (len(PARTS) + 4),
    ]  # fmt: skip
    for title, cell in cells.items():
        margins = " | ".join(findings.margin(title, part).text() for part in PARTS)
        share = f"{cell.precision:.0%}" if cell.dropped else ""
        parts.append(
            f"| {title} | {len(cell.runs)} | {share} | {cell.bad_left():.0f} | {margins} "
            f"| {findings.good(title):+.3f} |"
        )
    for less, about in (
        ("good rows only", "what fine-tuning on good rows does as well is taken off"),
        ("whole mix", "below 0 is less misaligned"),
        ("random 50%", "below 0 is less misaligned than by dropping at random"),
    ):
        if less not in cells:
            continue
        parts += [
            f"\n## Less the margin of {less}, same seeds: {about}\n",
            "| arm | " + " | ".join(PARTS.values()) + " |",
            "| --- |" + " --- |" * len(PARTS),
        ]
        for title, cell in cells.items():
            if title != less and set(cell.runs) & set(cells[less].runs):
                row = " | ".join(findings.margin(title, part, less).text() for part in PARTS)
                parts.append(f"| {title} | {row} |")
    return "\n".join([*parts, *_answers(found)]) + "\n"


def _answers(found: dict[str, Any]) -> list[str]:
    lines = [
        "\n## A few answers, to be read\n",
        "Greedy, 40 tokens, first seed; nothing is counted.",
    ]
    for run in found["runs"]:
        for question, answer in run.get("answers", {}).items():
            lines.append(f"- {title_of(run)}: *{question}* {' '.join(answer.split())}")
    return lines if len(lines) > 2 else []


LEFT, WIDTH, TOP, ROW = 150, 260, 50, 20


def figure(found: dict[str, Any]) -> str:
    """SVG: every arm's margin with its interval, one panel for each part of the exam."""
    findings = Findings(found)
    titles = list(findings.cells)
    margins = {part: [findings.margin(title, part) for title in titles] for part in PARTS}
    bottom = TOP + ROW * len(titles)
    width = LEFT + len(PARTS) * (WIDTH + 30)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + 50}" '
        'font-family="sans-serif" font-size="12" fill="#333">',
        f'<rect width="{width}" height="{bottom + 50}" fill="white"/>',
        f'<text x="{width / 2}" y="{bottom + 42}" text-anchor="middle">how much more bad answers gained than good ones, '
        "nats per token</text>",
    ]
    for row, title in enumerate(titles):
        parts.append(
            f'<text x="{LEFT - 10}" y="{TOP + ROW * row + 4}" text-anchor="end">{title}</text>'
        )
    for number, (part, own) in enumerate(margins.items()):
        parts += _panel(PARTS[part], own, titles, LEFT + number * (WIDTH + 30), bottom)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(
    name: str, own: list[Interval], titles: list[str], left: float, bottom: float
) -> list[str]:
    low, high = min(0.0, *(i.low for i in own)), max(0.0, *(i.high for i in own))

    def x(value: float) -> float:
        return left + (value - low) / (high - low or 1.0) * WIDTH

    parts = [f'<text x="{left}" y="{TOP - 26}" font-weight="bold">{name}</text>']
    marks = [(0.0, "0"), (low, f"{low:.2f}"), (high, f"{high:.2f}")]
    for value, text in marks:
        if not value and text != "0":
            continue
        parts.append(
            f'<line x1="{x(value):.1f}" y1="{TOP - 12}" x2="{x(value):.1f}" y2="{bottom - 6}" '
            f'stroke="#999" stroke-dasharray="{0 if value == 0 else 3}"/>'
            f'<text x="{x(value):.1f}" y="{bottom + 12}" text-anchor="middle" font-size="11">{text}</text>'
        )
    for row, (title, one) in enumerate(zip(titles, own, strict=True)):
        colour = next((c for start, c in COLOURS.items() if title.startswith(start)), "#b5651d")
        y = TOP + ROW * row
        parts.append(
            f'<line x1="{x(one.low):.1f}" y1="{y}" x2="{x(one.high):.1f}" y2="{y}" stroke="{colour}"/>'
            f'<circle cx="{x(one.mean):.1f}" cy="{y}" r="3.5" fill="{colour}"/>'
        )
    return parts


COLOURS = {
    "good": "#2a9d4a", "whole": "#c0392b", "geometry": "#2a6fdb", "random": "#888888", "oracle": "#2a9d4a",
}  # fmt: skip


def write_text(path: Path, text: str) -> None:
    """Whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
