"""The table of a finished experiment, and what it says of the claims, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from results import Cell, Interval, cells, cut, interval, resampled, spread

COMPARED = (0.25, 0.5)
"""Fractions at which all arms stand side by side."""
PAPER_CUT = 0.345
"""What the paper reports for its own setting (arXiv 2605.00842)."""


def table(runs: Sequence[dict[str, Any]]) -> str:
    """One section for each dataset, one for what the methods cost, one for the claims."""
    found = cells(runs)
    datasets = list(dict.fromkeys(run["dataset"] for run in runs))
    seeds = len({run["seed"] for run in runs})
    parts = [
        "Rates with 95 % intervals (bootstrap over seeds and questions), means of "
        f"{seeds} seeds. *Cut*: by how much out-of-domain harm is lower than without filtering. "
        "*Precision*, *recall*: of the dropped rows on the bad ones.\n"
    ]
    for name in datasets:
        parts += [f"## {name}\n", _rates(found, name)]
    parts += ["## Cost\n", _costs(runs), "## Claims\n", _claims(found, datasets)]
    return "\n".join(parts)


def _rates(found: dict[tuple[str, str, float], Cell], dataset: str) -> str:
    head = "| arm | dropped | out of domain | cut | in domain | coherence | utility | precision | recall |"
    lines = [head, "| --- |" + " --- |" * 8]
    none = found[dataset, "none", 0.0]
    own = [cell for cell in found.values() if cell.dataset == dataset]
    order = {"base": 0, "none": 1, "random": 2, "geometry": 3, "oracle": 4, "matched-random": 5}
    for cell in sorted(own, key=lambda c: (order.get(c.arm, 9), c.arm, c.drop_frac)):
        rates = {name: interval(each).text() for name, each in cell.rates.items()}
        filtered = cell.arm not in ("base", "none")
        lost = _percent(cut(cell.rates["out_of_domain"], none.rates["out_of_domain"]))
        lines.append(
            f"| {cell.arm} | {f'{cell.drop_frac:.0%}' if filtered else ''} "
            f"| {rates['out_of_domain']} | {lost if filtered else ''} | {rates['in_domain']} "
            f"| {rates['coherence']} | {rates['utility']} "
            f"| {_number(cell.precision)} | {_number(cell.recall) if filtered else ''} |"
        )
    return "\n".join(lines) + "\n"


def _percent(value: Interval) -> str:
    return f"{value.mean:.0%} ({value.low:.0%}–{value.high:.0%})"


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}"


def _costs(runs: Sequence[dict[str, Any]]) -> str:
    """Fastest over datasets (of the first draw), so that imports do not count."""
    lines = ["| method | seconds per 1,000 rows |", "| --- | --- |"]
    for arm in dict.fromkeys(run["arm"] for run in runs):
        known = [r["seconds"] for r in runs if r["arm"] == arm and r["seconds"] is not None]
        if known:
            lines.append(f"| {arm} | {min(known):.1f} |")
    return "\n".join(lines) + "\n"


def _claims(found: dict[tuple[str, str, float], Cell], datasets: Sequence[str]) -> str:
    """What the experiment was made to find out, and whether it is so."""
    lines = []
    for name in datasets:
        base, none = (found[name, arm, 0.0].rates["out_of_domain"] for arm in ("base", "none"))
        times = spread(
            float(none.mean() / base.mean()),
            resampled(none) / np.maximum(resampled(base), 1e-9),
        )
        lines.append(
            f"- **{name}**, emergent misalignment: {times.mean:.1f} times the base model's "
            f"({times.low:.1f}–{times.high:.1f}); {_holds(times.mean >= 3 and times.low > 1)}."
        )
        for fraction in COMPARED:
            geometry = found[name, "geometry", fraction]
            random = found[name, "random", fraction]
            lost = cut(geometry.rates["out_of_domain"], none)
            ours, theirs = (interval(c.rates["out_of_domain"]) for c in (geometry, random))
            lines.append(
                f"- {name}, {fraction:.0%} dropped by geometry: {_percent(lost)} less, more than "
                f"{PAPER_CUT:.1%}: {_holds(lost.mean > PAPER_CUT)}; {ours.text()} against random's "
                f"{theirs.text()}, intervals apart: {_holds(ours.high < theirs.low)}."
            )
            utility = geometry.rates["utility"] - random.rates["utility"]
            lines.append(f"  Utility against random's: {_signed(interval(utility))}.")
            better = [
                other.arm
                for other in found.values()
                if other.dataset == name
                and other.drop_frac == fraction
                and other.arm not in ("geometry", "oracle")
                and interval(
                    geometry.rates["out_of_domain"] - other.rates["out_of_domain"]
                ).low > 0
            ]  # fmt: skip
            lines.append(f"  Better than geometry (paired interval excludes 0): {_list(better)}.")
    return "\n".join(lines) + "\n"


def _signed(value: Interval) -> str:
    return f"{value.mean:+.3f} ({value.low:+.3f} to {value.high:+.3f})"


def _holds(true: bool) -> str:
    return "yes" if true else "**no**"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
