"""The report's Markdown face, and the sentences that it shares with the HTML one.

Both faces say the same thing in the same words, so the words and the number formats are made here
once. Row text is untrusted: in Markdown it appears in code spans only, the one place where GitHub
looks for no link, image, HTML, mention or issue number.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saefilter.report.data import Report, SampleView

N_SAMPLES = 10
N_FEATURES = 10
PREVIEW_CHARACTERS = 160

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# Embeddings, overrides and isolates reorder what a reader sees, so they are shown, not obeyed.
_REORDERING = re.compile("[\u202a-\u202e\u2066-\u2069]")
_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>()#!|~@&$^]|:(?=\S)|(?<=www)\.|^[-+=]|^\d+(?=[.)])", re.I)

_SCORING_TERMS = {
    "preset": "Preset",
    "model": "Model",
    "sae": "SAE",
    "hook": "Read at",
    "toxic_set": "Toxic set",
    "metric": "Metric",
    "pool": "Pooling over tokens",
    "train_on": "Tokens scored",
    "max_tokens": "Token limit per row",
    "dtype": "Number type",
    "device": "Device",
    "tokens": "Tokens read",
    "seconds": "Seconds",
    "tokens_per_second": "Tokens per second",
}


@dataclass(frozen=True)
class Tile:
    """One count with what it means."""

    key: str
    name: str
    count: int
    meaning: str


@dataclass(frozen=True)
class Flagged:
    """How many scored rows are closer than `level` % of the harmless reference samples."""

    level: float
    count: int
    share: float
    expected_share: float
    """By chance, if the rows were like the reference."""
    expected_count: float


def clean(text: str) -> str:
    """Untrusted text without control characters; tabs and line ends stay, bidi controls show."""
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _REORDERING.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


def rows_of(count: int) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} row" if count == 1 else f"{count:,} rows"


def decimal(value: float | None, digits: int) -> str:
    """A number with fixed digits, or a dash: JSON has null for what is not finite."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def percent(share: float) -> str:
    """A share of 1 in percent. Only everything is 100%, and only nothing is 0%."""
    value = share * 100
    if not math.isfinite(value):
        return "–"
    if 0 < value < 0.01:
        return "<0.01%"
    if value < 10:
        return f"{value:.2g}%" if value > 0 else "0%"
    if value < 90:
        return f"{value:.0f}%"
    return f"{math.floor(value * 10 + 1e-6) / 10:g}%"


def percentile_words(percentile: float | None) -> str:
    """What a percentile says, or nothing when there is none."""
    if percentile is None or not math.isfinite(percentile):
        return ""
    if percentile >= 100:
        return "closer than every harmless reference sample"
    if percentile <= 0:
        return "not closer than any harmless reference sample"
    return f"closer than {percent(percentile / 100)} of harmless reference samples"


def headline(report: Report) -> str:
    """The first sentence, up to the name of the input file."""
    dropped = f"{report.counts['dropped']:,}" if report.counts["dropped"] else "no row"
    return f"Dropped {dropped} of the {rows_of(report.counts['rows'])} in"


def lead(report: Report) -> str:
    """Where the other rows went, and how the dropped ones were chosen."""
    kept, quarantined = report.counts["kept"], report.counts["quarantined"]
    places = f"{rows_of(kept)} kept"
    if quarantined:
        places += f", {quarantined:,} quarantined because they could not be scored"
    return f"{places}. {selection_words(report)}"


def selection_words(report: Report) -> str:
    """What was asked for and what it came to."""
    asked, threshold = report.selection, report.selection.get("threshold")
    if asked.get("strategy") == "random":
        return (
            f"The dropped rows were drawn at random (seed {asked.get('seed')}), whatever their "
            "distance: a baseline to compare with."
        )
    if asked.get("drop_frac") is not None:
        request = f"the closest {percent(asked['drop_frac'])} of the scored rows"
    elif asked.get("drop_count") is not None:
        request = f"the closest {rows_of(asked['drop_count'])}"
    else:
        request = f"every row at a distance below {decimal(asked.get('min_distance'), 3)}"
    if threshold is None:
        return f"To be dropped: {request}; there was none."
    return (
        f"Dropped: {request} to the model's toxic features, which means distances up to "
        f"{decimal(threshold, 3)}."
    )


def tiles(report: Report) -> list[Tile]:
    """The counts worth showing, in the order of a reader's questions."""
    counts, total = report.counts, max(1, report.counts["rows"])

    def share(key: str) -> str:
        return f"{percent(counts[key] / total)} of all rows"

    found = [
        Tile("rows", "Rows read", counts["rows"], "kept + dropped + quarantined"),
        Tile("dropped", "Dropped", counts["dropped"], share("dropped")),
        Tile("kept", "Kept", counts["kept"], share("kept")),
        Tile("quarantined", "Quarantined", counts["quarantined"], "could not be scored"),
        Tile("truncated", "Cut", counts["truncated"], "longer than the token limit"),
        Tile("duplicates", "Duplicates", counts["duplicates"], "copies of an earlier row"),
    ]
    always = ("rows", "dropped", "kept", "quarantined")
    return [tile for tile in found if tile.count or tile.key in always]


def flagged(report: Report) -> list[Flagged]:
    """Rows beyond each level of the reference, or nothing without a reference."""
    scored = report.counts["kept"] + report.counts["dropped"]
    if not report.reference_rows or not scored:
        return []
    result = []
    for level, count in sorted(report.flagged.items(), key=lambda item: float(item[0])):
        chance = (100 - float(level)) / 100
        result.append(Flagged(float(level), count, count / scored, chance, chance * scored))
    return result


def made(report: Report) -> list[tuple[str, str]]:
    """How the result came about, as terms and untrusted values; what is not known is left out."""
    asked = report.selection
    terms: list[tuple[str, Any]] = [("Input", report.input), ("Input SHA-256", report.input_sha256)]
    terms += [(f"{key.capitalize()} rows", name) for key, name in report.outputs.items()]
    terms += [(term, report.scoring.get(key)) for key, term in _SCORING_TERMS.items()]
    terms += [
        ("Harmless reference samples", report.reference_rows or "none"),
        ("Strategy", asked.get("strategy")),
        ("Share to drop", None if (f := asked.get("drop_frac")) is None else percent(f)),
        ("Rows to drop", asked.get("drop_count")),
        ("Smallest distance to keep", asked.get("min_distance")),
        ("Seed", asked.get("seed")),
        ("Largest distance dropped", asked.get("threshold")),
        ("Made by", f"saefilter {report.version}"),
        ("Made at", report.created),
    ]
    return [(term, _value(value)) for term, value in terms if value is not None]


def _value(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def code(text: str, limit: int | None = None) -> str:
    """Untrusted text on one line as a code span, with a fence longer than any backticks in it.

    A pipe would end a table's cell even there, and escaping it is read in two ways, so it becomes
    its broken twin.
    """
    line = " ".join(clean(text).split()).replace("|", "¦")
    if limit is not None and len(line) > limit:
        line = line[: limit - 1].rstrip() + "…"
    if not line:
        return "(empty)"
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    space = " " if "`" in (line[0], line[-1]) else ""
    return f"{fence}{space}{line}{space}{fence}"


def prose(text: str) -> str:
    """Untrusted sentences on one line as plain Markdown text.

    GitHub looks for mentions and issue numbers after Markdown is done with escapes, so an
    invisible word joiner parts the sign from what follows.
    """
    line = " ".join(clean(text).split())
    escaped = _MARKDOWN.sub(
        lambda found: f"{found[0]}\\" if found[0][0].isdigit() else f"\\{found[0]}", line
    )
    return re.sub(r"(?<=[@#])(?=\w)", "\u2060", escaped)


def to_markdown(report: Report) -> str:
    """A summary for a pull request or a log: the most telling parts of the report."""
    parts = [f"## {headline(report)} {code(report.input)}", lead(report)]
    parts += [f"> **Note:** {prose(note)}" for note in report.notes]
    parts.append(
        _table(["", "Rows", ""], [[t.name, f"{t.count:,}", t.meaning] for t in tiles(report)])
    )
    if levels := flagged(report):
        parts.append(f"Against {report.reference_rows:,} harmless reference samples:")
        parts.append(
            _table(
                ["Closer than", "Rows", "Share of scored", "Expected by chance"],
                [
                    [
                        f"{at.level:g}%",
                        f"{at.count:,}",
                        percent(at.share),
                        percent(at.expected_share),
                    ]
                    for at in levels
                ],
            )
        )
    if report.dropped:
        parts.append("### Closest dropped rows")
        parts.append("\n".join(f"1. {_sample(view)}" for view in report.dropped[:N_SAMPLES]))
    if report.features:
        parts.append("### Features of the dropped rows")
        parts.append(_features(report))
    if report.quarantine_reasons:
        parts.append("### Quarantined")
        parts.append(
            "\n".join(
                f"- {rows_of(count)}: {prose(reason)}"
                for reason, count in report.quarantine_reasons.items()
            )
        )
    parts.append("### How this was made")
    parts.append("\n".join(f"- {term}: {code(value)}" for term, value in made(report)))
    return "\n\n".join(parts) + "\n"


def _table(head: list[str], body: list[list[str]]) -> str:
    """A table with its first column to the left; the cells must hold no pipe."""
    rule = [":--", *["--:" if name else ":--" for name in head[1:]]]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *body])


def _sample(view: SampleView) -> str:
    said = percentile_words(view.percentile)
    about = f"**line {view.line}**, distance {decimal(view.distance, 3)}" + (
        f", {said}" if said else ""
    )
    answers = [turn for turn in view.turns if turn.role in ("assistant", "text")] or view.turns
    preview = code(answers[-1].text, PREVIEW_CHARACTERS) if answers else "(no text)"
    return f"{about}: {preview}"


def _features(report: Report) -> str:
    rows = []
    for total in report.features[:N_FEATURES]:
        same = total.feature == total.toxic_feature
        rows.append(
            [
                f"{code(total.label, 80)} ({total.feature})",
                "itself" if same else f"{code(total.toxic_label, 80)} ({total.toxic_feature})",
                decimal(total.cosine, 2),
                percent(total.dropped_share),
                percent(total.kept_share),
            ]
        )
    head = ["Feature", "Next to toxic feature", "Cosine", "In dropped rows", "In kept rows"]
    return _table(head, rows)
