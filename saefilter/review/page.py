"""A row as a reviewer sees it in the terminal. Its text is untrusted: plain text, and never markup."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from saefilter.report.console import CLOSEST_CHARACTERS, safe
from saefilter.report.wording import closest_words, many_weak_signs, no_theme_words, theme_words
from saefilter.text import clean, one_line, percentile_words, place

if TYPE_CHECKING:
    from saefilter.report.data import FeatureEvidence, SampleView
    from saefilter.review.session import Session

N_FEATURES = 3


def show_row(console: Console, session: Session, reference: str | None) -> None:
    """The row that is to be decided on: where it stands, what it says, and why it is close. `reference`: name
    of the user's own reference rows."""
    row, queued = session.view, session.current
    head = Text.assemble(
        (f"{session.at + 1} of {len(session.queue)}", "bold"),
        f"   {one_line(place(row.line, row.file))}   distance {row.distance:.3f}",
    )
    if words := percentile_words(row.percentile, reference):
        head.append(f", {words}", style="dim")
    if queued.copies > 1:
        head.append(f"   {queued.copies:,} equal rows", style="yellow")
    console.print(Rule(style="dim"))
    console.print(head)
    for turn in row.turns:
        console.print(Text(f"\n{one_line(turn.role)}", style="bold cyan"))
        console.print(Padding(Text(clean(turn.text)), (0, 2)))
    console.print()
    for line in _why(row):
        console.print(Padding(line, (0, 2)))
    if (decided := session.decided) is not None:
        said = f": {decided.reason}" if decided.reason else ""
        console.print(Text(f"Decided before: {decided.decision}{said}", style="yellow"))


def _why(row: SampleView) -> Iterator[RenderableType]:
    """What brings a row close: themes or features, words, and the example it is most like."""
    for theme in row.themes:
        yield Text.assemble(
            (safe(theme.theme, 60).plain, "magenta"), "  ", safe(theme_words(theme))
        )
    if not row.themes:
        yield from _features(row)
    if row.words:
        words = safe(", ".join(row.words), CLOSEST_CHARACTERS)
        yield Text.assemble(("weigh most: ", "dim"), words)
    if row.closest is not None:
        shown = safe(closest_words(row.closest), CLOSEST_CHARACTERS)
        yield Text.assemble(("closest to: ", "dim"), shown)
    if row.truncated:
        yield Text("cut at the token limit; what lies beyond was not scored", style="dim")


def _features(row: SampleView) -> Iterator[RenderableType]:
    shares = [feature.share for feature in row.features]
    if row.closest is not None:
        yield Text(no_theme_words(shares), style="dim")
        return
    if weak := many_weak_signs(shares):
        yield Text(f"{weak} The largest:", style="dim")
    for feature in row.features[:N_FEATURES]:
        yield _feature(feature)


def _feature(feature: FeatureEvidence) -> Text:
    text = Text.assemble((f"{feature.share:4.0%} ", "magenta"), safe(feature.label, 60))
    if feature.feature == feature.toxic_feature:
        return text
    near = safe(feature.toxic_label, 60)
    return text.append_text(Text.assemble(f", cosine {feature.cosine:.2f} to ", near))
