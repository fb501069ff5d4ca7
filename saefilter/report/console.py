"""The report's console face: what a person sees when a command ends.

Row text is untrusted: it is shown as plain text without control characters, never as markup.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from saefilter.report.data import Closest, ThemeEvidence
from saefilter.report.wording import (
    closest_words,
    many_weak_signs,
    no_theme_words,
    parts_words,
    theme_words,
)
from saefilter.rows.trained import what_is_scored
from saefilter.text import (
    clean,
    one_line,
    percentile_words,
    place,
    reference_words,
    rows_of,
)
from saefilter.toxic.toxicset import DOES_NOT_TELL, is_beyond, rank_at

if TYPE_CHECKING:
    from saefilter.artifacts.provenance import Provenance
    from saefilter.scoring.summary import ScoreSummary

BAR_WIDTH = 36
HISTOGRAM_BINS = 12
PREVIEW_CHARACTERS = 220
CLOSEST_CHARACTERS = 160


class SafeConsole(Console):
    """A console that shows control characters of no text, and reads no text as markup."""

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            # rich's own sequences are control segments; colours are styles
            yield segment if segment.control else segment._replace(text=clean(segment.text))


def safe(text: str, limit: int = PREVIEW_CHARACTERS) -> Text:
    """Untrusted text on one line: no control or direction-changing characters, cut to `limit`."""
    folded = " ".join(text[: 4 * limit].split())
    shown = "".join(c for c in folded if unicodedata.category(c) not in ("Cc", "Cf", "Co", "Cs"))
    return Text(shown if len(shown) <= limit else shown[: limit - 1] + "…")


def histogram(values: Sequence[float] | np.ndarray[Any, Any], marker: float | None = None) -> Table:
    """Bars of how many values lie in each interval; `marker` colours those below it."""
    table = Table.grid(padding=(0, 1))
    edges = np.histogram_bin_edges(values, bins=HISTOGRAM_BINS)
    counts = np.histogram(values, bins=edges)[0]
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        length = round(BAR_WIDTH * count / counts.max())
        bar = "█" * length if length or not count else "▏"
        below = marker is not None and high <= marker
        style = "red" if below else "cyan"
        table.add_row(
            Text(f"{low:6.3f} – {high:5.3f}", style="dim"), Text(bar, style=style), f"{count:,}"
        )
    return table


def print_score_summary(console: Console, summary: ScoreSummary, *then: str) -> None:
    """Counts, distribution, the closest samples, where the file went, and what to type `then`."""
    made = summary.provenance
    console.print()
    console.print(
        Text.assemble(
            ("Scored ", "bold"),
            (f"{made.scored:,}", "bold"),
            *([f", estimated {made.estimated:,}"] if made.estimated else []),
            f" of {made.rows:,} rows from ",
            (one_line(made.input_path), "bold"),
            f" in {made.seconds:.1f} s "
            f"({made.tokens:,} tokens, {made.tokens_per_second():,.0f} tokens/s, {made.device}, "
            f"{made.dtype})",
        )
    )
    by = what_is_scored(made.scored_by, made.read)
    console.print(Text(f"Scored tokens: {by}", style="dim"))
    console.print(Text(f"Read as: {formats_words(made)}", style="dim"))
    console.print(_caveats(summary))
    title = "Distance to toxic features (smaller is closer)"
    if made.preference is not None:
        title = "Opposite of what training pushes towards (below 0: towards toxic features)"
    if made.estimated:
        title += f", of the {len(summary.distances):,} rows drawn at random"
    console.print(Text(f"\n{title}", style="bold"))
    console.print(Padding(histogram(summary.distances), (0, 2)))
    if summary.percentiles is not None:
        console.print(_flagged(summary.percentiles, made))
    for side, percentiles in summary.of_sides.items():
        console.print(_flagged(percentiles, made, f"{side} answers"))
    if words := parts_words(summary.own_share):
        console.print(Text(f"  {words}", style="dim"))
    worst = "Closest rows" if made.preference is None else "Rows that push most towards toxic"
    console.print(Text(f"\n{worst}", style="bold"))
    for entry in summary.closest:
        console.print(Padding(_closest(entry, made.reference_name), (0, 2)))
    console.print(Text.assemble("\nScores: ", (str(summary.output), "bold")))
    print_next(console, *then)


def not_said(notes: Iterable[str], said: Sequence[str]) -> list[str]:
    """Notes that whoever made the scores has not read then; that a set does not tell is always said."""
    return [note for note in notes if note not in said or DOES_NOT_TELL in note]


def print_next(console: Console, *commands: str) -> None:
    """The commands that come next, each on a line that no width breaks, so that it can be copied."""
    for number, command in enumerate(commands):
        word = "Then" if number else "Next"
        console.print(Text(f"{word}: {command}", style="dim"), soft_wrap=True)


def _caveats(summary: ScoreSummary) -> Group:
    made = summary.provenance
    lines: list[RenderableType] = []
    if made.note:
        worst = "bold red" if DOES_NOT_TELL in made.note else "yellow"
        lines.append(Text(f"Note: {made.note}", style=worst))
    if made.quarantined:
        lines.append(Text(f"Quarantined, not scored: {made.quarantined:,}", style="yellow"))
        for reason, count in list(summary.reasons.items())[:6]:
            whole = summary.first_reasons.get(reason, reason)
            lines.append(Padding(Text.assemble(f"{count:>6,}  ", safe(whole, len(whole))), (0, 2)))
    for note, count in list((made.told or {}).items())[:6]:
        lines.append(Text.assemble(f"{rows_of(count)} with ", safe(note)))
    if made.truncated:
        lines.append(
            Text(
                f"Cut at --max-tokens {made.max_tokens}: {made.truncated:,} rows; what lies beyond "
                "was not scored",
                style="yellow",
            )
        )
    if made.duplicates:
        lines.append(Text(f"Exact duplicates of an earlier row: {made.duplicates:,} (scored too)"))
    return Group(*lines)


def formats_words(made: Provenance) -> str:
    """As what the rows were read: `messages (120 rows), text (3)`."""
    formats = [f"{name} ({count:,})" for name, count in (made.formats or {}).items()]
    formats[:1] = [f"{name} ({rows_of(n)})" for name, n in list((made.formats or {}).items())[:1]]
    by = f" by --columns {one_line(made.columns)}" if made.columns else ""
    return (", ".join(formats) or "not kept") + by


def _flagged(percentiles: np.ndarray[Any, Any], made: Provenance, what: str = "rows") -> Text:
    """How many rows are closer than most of the reference, and how many of its like would be."""
    reference_rows, lines = made.reference_rows, list[str]()
    them = reference_words(reference_rows, made.reference_name)
    for level in (95.0, 99.0):
        if rank := rank_at(1 - level / 100, reference_rows):
            share = is_beyond(percentiles, level, reference_rows).mean()
            lines.append(
                f"  Closer than {level:g}% of {'them' if lines else them}: {share:.1%} of the {what} "
                f"({rank / (reference_rows + 1):.1%} of harmless ones would be)"
            )
    return Text("\n".join(lines) or f"  Too few to compare with: {them}", style="dim")


def _closest(entry: dict[str, Any], reference: str | None) -> Group:
    head = Text.assemble(
        (one_line(place(entry["line"], entry["file"])), "bold"),
        f"  distance {entry['distance']:.3f}",
    )
    if entry["percentile"] is not None:
        head.append(f"  {percentile_words(entry['percentile'], reference)}", style="dim")
    shown = safe(entry["preview"].replace("\n\n", " → "))
    lines: list[RenderableType] = [head, Padding(shown, (0, 2))]
    if entry.get("themes") or entry.get("closest"):
        return Group(*lines, *_why(entry))
    shown_features = entry["top_features"][:3]
    if weak := many_weak_signs([feature["share"] for feature in shown_features]):
        lines.append(Padding(Text(f"{weak} The largest:", style="dim"), (0, 4)))
    for feature in shown_features:
        lines.append(Padding(feature_line(feature), (0, 4)))
    return Group(*lines)


def _why(entry: dict[str, Any]) -> Iterator[RenderableType]:
    """The themes that stand out in a row, and the example it is most like."""
    for theme in entry["themes"]:
        words = ThemeEvidence(**theme)
        line = Text.assemble(
            (safe(words.theme, 60).plain, "magenta"), "  ", safe(theme_words(words))
        )
        yield Padding(line, (0, 4))
    if not entry["themes"]:
        said = no_theme_words([feature["share"] for feature in entry["top_features"]])
        yield Padding(Text(said, style="dim"), (0, 4))
    if entry["closest"]:
        shown = safe(closest_words(Closest(**entry["closest"])), CLOSEST_CHARACTERS)
        yield Padding(Text.assemble(("closest to: ", "dim"), shown), (0, 4))


def feature_line(feature: dict[str, Any]) -> Text:
    """An entry of the evidence, in words."""
    text = Text.assemble(
        (f"{feature['share']:4.0%} ", "magenta"),
        safe(feature["label"], 60),
        (f" (feature {feature['feature']})", "dim"),
    )
    if feature["toxic_feature"] == feature["feature"]:
        return text.append(", a feature of the toxic set")
    return text.append_text(
        Text.assemble(
            f", cosine {feature['cosine']:.2f} to ",
            safe(feature["toxic_label"], 60),
            (f" (feature {feature['toxic_feature']})", "dim"),
        )
    )
