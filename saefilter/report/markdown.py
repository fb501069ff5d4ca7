"""The report's Markdown face: a summary for a pull request, a model card or a log.

Everything in the report's data is untrusted. Row text appears in code spans only, the one place
where GitHub looks for no link, image, HTML, mention or issue number.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from saefilter.report.cut import cut_words, loss_head, loss_rows, loss_title, more_values
from saefilter.report.done import dropped_title, headline, lead
from saefilter.report.wording import (
    closest_words,
    flagged,
    made,
    parts_words,
    reason_words,
    rough_levels,
    score_words,
    tiles,
)
from saefilter.text import (
    clean,
    decimal,
    percent,
    percentile_words,
    place,
    reference_words,
    rows_of,
)

if TYPE_CHECKING:
    from saefilter.report.data import Report, SampleView

N_SAMPLES = 10
N_FEATURES = 10
PREVIEW_CHARACTERS = 160
LABEL_CHARACTERS = 80

_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>()#!|~@&$]|:(?=\S)|(?<=www)\.|^[-+=]|^\d+(?=[.)])", re.I)


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
        lambda match: f"{match[0]}\\" if match[0][0].isdigit() else f"\\{match[0]}", line
    )
    return re.sub(r"(?<=[@#])(?=\S)", "\u2060", escaped)


def to_markdown(report: Report) -> str:
    """A summary for a pull request or a log: the most telling parts of the report."""
    paragraphs = [f"## {headline(report)} {code(report.input)}", lead(report)]
    paragraphs += [f"> **Note:** {prose(note)}" for note in report.notes]
    paragraphs.append(
        table(
            ["Rows", "Meaning", "Count"],
            [[t.name, t.meaning, f"{t.count:,}"] for t in tiles(report)],
            text=2,
        )
    )
    if levels := flagged(report):
        against = reference_words(report.reference_rows, report.reference_name)
        paragraphs.append(f"Against {prose(against)}:")
        paragraphs.append(
            table(
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
        paragraphs += [words] if (words := rough_levels(report)) else []
    paragraphs += [words] if (words := parts_words(report.scoring.get("own_share"))) else []
    if report.cut is not None:
        paragraphs += ["### Why so many", *map(prose, cut_words(report.cut))]
    for entry in report.per:
        paragraphs.append(f"### {loss_title(entry, code)}")
        body = [[code(name, LABEL_CHARACTERS), *cells] for name, *cells in loss_rows(entry)]
        paragraphs.append(table(loss_head(entry), body))
        paragraphs += [words] if (words := more_values(entry)) else []
    if report.dropped:
        paragraphs.append(f"### {dropped_title(report)}")
        paragraphs.append(
            "\n".join(
                f"{number}. {_sample(view, report)}"
                for number, view in enumerate(report.dropped[:N_SAMPLES], start=1)
            )
        )
    if report.themes:
        paragraphs += ["### Themes of the dropped rows", _themes(report)]
    if report.features:
        paragraphs += ["### Features of the dropped rows", _features(report)]
    if report.quarantine_reasons:
        paragraphs.append("### Quarantined")
        paragraphs.append(
            "\n".join(
                f"- {rows_of(count)}: {prose(reason)}"
                for reason, count in report.quarantine_reasons.items()
            )
        )
    paragraphs.append("### How this was made")
    paragraphs.append("\n".join(f"- {term}: {code(value)}" for term, value in made(report)))
    return "\n\n".join(paragraphs) + "\n"


def table(head: list[str], body: list[list[str]], text: int = 1) -> str:
    """A table whose first `text` columns are words and the others numbers; no cell has a pipe."""
    rule = [":--" if place < text else "--:" for place in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *body])


def _sample(view: SampleView, report: Report) -> str:
    said = prose(score_words(view, report)) or prose(
        percentile_words(view.percentile, report.reference_name)
    )
    about = f"**{prose(place(view.line, view.file))}**, distance {decimal(view.distance, 3)}" + (
        f", {said}" if said else ""
    )
    answers = [turn for turn in view.turns if turn.scored] or view.turns
    preview = code(answers[-1].text, PREVIEW_CHARACTERS) if answers else "(no text)"
    why = f"\n   Why: {code(words, PREVIEW_CHARACTERS)}" if (words := reason_words(view)) else ""
    if view.closest is not None:
        why += f"\n   Closest to: {code(closest_words(view.closest), PREVIEW_CHARACTERS)}"
    return f"{about}: {preview}{why}"


def _themes(report: Report) -> str:
    rows = [
        [
            code(total.theme, LABEL_CHARACTERS),
            percent(total.dropped_share),
            percent(total.kept_share),
        ]
        for total in report.themes
    ]
    return table(["Theme", "In dropped rows", "In kept rows"], rows)


def _features(report: Report) -> str:
    rows = []
    for total in report.features[:N_FEATURES]:
        same = total.feature == total.toxic_feature
        rows.append(
            [
                f"{code(total.label, LABEL_CHARACTERS)} ({total.feature:d})",
                "itself"
                if same
                else f"{code(total.toxic_label, LABEL_CHARACTERS)} ({total.toxic_feature:d})",
                decimal(total.cosine, 2),
                percent(total.dropped_share),
                percent(total.kept_share),
            ]
        )
    head = ["Feature", "Next to toxic feature", "Cosine", "In dropped rows", "In kept rows"]
    return table(head, rows, text=2)
