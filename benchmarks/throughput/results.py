"""What a run leaves: entries of a JSON file, one per shape, and tables made of them."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.common import put_between
from benchmarks.throughput.machine import in_words
from benchmarks.throughput.ours import Run
from benchmarks.throughput.prepare import Prepared
from benchmarks.throughput.rounds import BARE, FLOOR, INSIDE, OURS, Outcome, Timed
from benchmarks.throughput.shapes import CPU_SHAPES

MARKER = "<!-- {name}: written by python -m benchmarks.throughput -->"
ALTERNATIVES = ("tutorial", "stop", "hidden", "interp", "interp-cut")
NOT_RUN: dict[str, Any] = {"tokens_per_second": None, "problem": None}
"""Of an alternative that was not asked for."""
ORDER = (OURS, INSIDE, *ALTERNATIVES, BARE, FLOOR)


def entry(prepared: Prepared, machine: dict[str, Any], peer_tokens: int | None) -> dict[str, Any]:
    """A shape's entry, before anything is measured. `peer_tokens`: about how many the alternatives
    read; None for all."""
    return {
        "title": prepared.shape.title,
        "machine": machine,
        "rows": prepared.n_rows,
        "tokens": prepared.tokens,
        "scored_tokens": prepared.scored,
        "longest": len(prepared.windows[0].ids),
        "parameters_to_hook": prepared.parameters,
        "whole_on_disk": prepared.shape.whole_on_disk,
        "peer_tokens": peer_tokens,
        "dtypes": {},
    }


def outcome_fields(outcome: Outcome, prepared: Prepared) -> dict[str, Any]:
    """One precision's part of an entry."""
    last = outcome.last
    return {
        "contenders": {key: _timed(key, outcome) for key in ORDER if key in outcome.timed},
        "floor": outcome.floor,
        "ours": {
            "seconds": outcome.ours_seconds,
            "scoring_seconds": _seconds(prepared, outcome.timed[INSIDE]),
            "shared": last.summary.get("shared"),
            "l0": last.summary["l0"],
            "tokens": last.summary["tokens"],
            "padding": last.summary.get("padding"),
            "timings": last.summary.get("timings"),
            "geometry_share": last.geometry_share(),
        },
        "same_tokens": last.summary["tokens"] == prepared.tokens,
    }


def _seconds(prepared: Prepared, timed: Timed) -> float | None:
    """Of all rows, at the median rate; None where it was not measured."""
    rate = timed.median()
    return prepared.tokens / rate if rate else None


def _timed(key: str, outcome: Outcome) -> dict[str, Any]:
    timed = outcome.timed[key]
    return {
        "title": timed.title,
        "batch": timed.batch,
        "tokens_per_second": timed.median(),
        "rounds": timed.tokens_per_second,
        "ours_over_it": _ratio(outcome.timed[OURS], timed),
        "agreement": timed.agreement,
        "problem": timed.problem,
    }


def _ratio(ours: Timed, other: Timed) -> float | None:
    """Median over rounds of ours over the other; None where the other does not run."""
    if not other.tokens_per_second:
        return None
    pairs = zip(ours.tokens_per_second, other.tokens_per_second, strict=True)
    return statistics.median(a / b for a, b in pairs)


def add_ranking(fields: dict[str, Any], correlation: float, fp32: Run, bf16: Run) -> None:
    """How the two precisions of ours compare."""
    fields["spearman_bf16_fp32"] = correlation
    fields["l0_fp32_bf16"] = [fp32.summary["l0"], bf16.summary["l0"]]


def table(name: str, fields: dict[str, Any]) -> str:
    """A shape's part of the page."""
    mean = fields["tokens"] / fields["rows"]
    lines = [
        f"#### {name}: {fields['title']}",
        "",
        f"{fields['rows']:,} rows, {fields['tokens']:,} tokens (mean {mean:.0f}, longest "
        f"{fields['longest']:,}), {fields['scored_tokens']:,} of them scored; "
        f"{fields['parameters_to_hook'] / 1e6:,.1f} M parameters per token up to the hook. "
        f"{in_words(fields['machine'])}",
        "",
        *_columns(fields),
        "",
        *(f"- {line}" for line in _remarks(fields)),
    ]
    return "\n".join(lines)


def _columns(fields: dict[str, Any]) -> list[str]:
    names = list(fields["dtypes"])
    head = " | ".join(f"{name}: tokens/s | ours is | batch" for name in names)
    lines = [f"| contender | {head} |", "| --- |" + " --- | --- | --- |" * len(names)]
    for key in (key for key in ORDER if key in fields["dtypes"][names[0]]["contenders"]):
        cells = []
        for name in names:
            one = fields["dtypes"][name]["contenders"].get(key, NOT_RUN)
            if one["tokens_per_second"] is None:
                cells.append("does not run | | " if one["problem"] else "not measured | | ")
                continue
            ratio = "" if key == OURS else f"{one['ours_over_it']:.2f} x"
            cells.append(f"{one['tokens_per_second']:,.0f} | {ratio} | {one['batch']}")
        title = fields["dtypes"][names[0]]["contenders"][key]["title"]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def _remarks(fields: dict[str, Any]) -> list[str]:
    found = []
    for name, part in fields["dtypes"].items():
        rounds = len(part["contenders"][OURS]["rounds"])
        strongest = max(
            (part["contenders"].get(key, NOT_RUN) for key in ALTERNATIVES),
            key=lambda one: one["tokens_per_second"] or 0.0,
        )
        if strongest["tokens_per_second"]:
            found.append(
                f"{name}, medians of {rounds}: {strongest['ours_over_it']:.2f} times the strongest "
                f"alternative, {part['contenders'][BARE]['ours_over_it']:.2f} of the bare forward "
                f"pass, {part['contenders'][FLOOR]['ours_over_it']:.0%} of the matrix-product rate "
                f"({part['floor']['model_rate'] / 1e9:,.0f} GFLOP/s, in the SAE's shape "
                f"{part['floor']['sae_rate'] / 1e9:,.0f}). {_own(part['ours'])}"
            )
        for key in ALTERNATIVES:
            if problem := part["contenders"].get(key, NOT_RUN)["problem"]:
                found.append(f"{name}, {part['contenders'][key]['title']}: {problem}")
        if not part["same_tokens"]:
            found.append(
                f"{name}: ours reports {part['ours']['tokens']:,} tokens read; rates are of the "
                f"rendered {fields['tokens']:,}"
            )
    if (correlation := fields.get("spearman_bf16_fp32")) is not None:
        found.append(f"Spearman of our distances, bf16 against fp32: {correlation:.5f}")
    if fields.get("processor_time"):
        found.append(
            "Tokens per second of processor time, one thread each, on a machine with other work; the "
            "bare forward pass reads the alternatives' sample."
        )
    if sampled := fields.get("peer_tokens"):
        found.append(
            f"The alternatives read an even sample of about {sampled:,} tokens; rates are per token."
        )
    if not fields["whole_on_disk"]:
        found.append(
            "The checkpoint ends at the hook; contenders that run the whole model have the layers "
            "after it made up in memory."
        )
    return found


def _own(ours: dict[str, Any]) -> str:
    """What the summary says of itself."""
    parts = [
        f"Whole process {statistics.median(ours['seconds']):.1f} s",
        f"{ours['l0']:.0f} features a token",
    ]
    if ours["scoring_seconds"] is not None:
        parts[0] += f", of which {ours['scoring_seconds']:.1f} s after start-up; {parts.pop()}"
    if ours.get("shared"):
        parts.append(f"prefixes computed for another row {ours['shared']:.1%} of the tokens")
    if isinstance(ours["padding"], (int, float)):
        parts.append(f"padding {ours['padding']:.1%}")
    if ours["geometry_share"] is not None:
        parts.append(f"geometry {ours['geometry_share']:.1%} of the run")
    return ", ".join(parts) + "."


def save_entries(path: Path, entries: dict[str, Any]) -> dict[str, Any]:
    """Put entries into the JSON file beside those that are there; returns all."""
    everything: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    everything |= entries
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(everything, indent=1) + "\n")
    return everything


def pages(entries: dict[str, Any]) -> dict[str, str]:
    """Marker -> the text that belongs between two of it."""
    return {
        "throughput on a CPU": "\n\n".join(
            table(shape.name, entries[shape.name])
            if shape.name in entries
            else f"#### {shape.name}: {shape.title}\n\nNot measured."
            for shape in CPU_SHAPES
        )
    }


def write_pages(path: Path, entries: dict[str, Any]) -> None:
    """Replace what stands between the markers of a document."""
    for name, page in pages(entries).items():
        put_between(path, MARKER.format(name=name), page)
