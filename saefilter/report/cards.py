"""The card that shows one row: what its template needs, as plain values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from saefilter.report.data import Report, SampleView
from saefilter.report.wording import many_weak_signs, no_theme_words, score_words
from saefilter.rows.excerpts import Turn
from saefilter.text import clean, is_function_word, one_line, place

LONG, LINE = 9, 24
"""From so many lines on, of so few characters as a phone shows of wide ones, a card's text can scroll and so
must be reachable by keyboard."""
EXCERPT = 140
"""Characters of a row's text on paper."""


@dataclass(frozen=True)
class Message:
    """A turn; its words are marked only where they were scored."""

    role: str
    scored: bool
    stretches: list[tuple[str, bool]]
    """The text, cut where marked words begin and end."""


@dataclass(frozen=True)
class Card:
    """One row: where it stands, what it says, and what brought it close."""

    view: SampleView
    place: str
    score: str
    """The strategy's, in words; empty where it gives none."""
    messages: list[Message]
    is_long: bool
    weak: str
    """Said where no single feature matters; empty where one does."""
    no_theme: str
    """Said where no theme stands out."""
    excerpt: str
    """How the text begins that was scored, or else its last turn; for paper."""
    why: str
    """The reason in a few words; for paper."""


def cards(views: Iterable[SampleView], report: Report) -> list[Card]:
    """A card for each row."""
    return [_card(view, report) for view in views]


def _card(view: SampleView, report: Report) -> Card:
    carrying = [word for theme in view.themes for word in theme.words]
    if not carrying and view.closest is not None:
        carrying = [word for word in view.words if not is_function_word(word)]
    carrying = carrying or view.words
    shares = [evidence.share for evidence in view.features]
    return Card(
        view,
        place(view.line, view.file),
        score_words(view, report),
        [_message(turn, carrying) for turn in view.turns],
        sum(map(_lines, view.turns)) >= LONG,
        many_weak_signs(shares),
        no_theme_words(shares),
        _excerpt(view),
        _why(view),
    )


def _lines(turn: Turn) -> int:
    return 1 + len(turn.role) // LINE + sum(1 + len(line) // LINE for line in turn.text.split("\n"))


def _excerpt(view: SampleView) -> str:
    texts = [turn.text for turn in view.turns if turn.scored]
    texts = texts or [turn.text for turn in view.turns[-1:]]
    text = one_line(" ".join(texts))
    if len(text) <= EXCERPT:
        return text
    whole_words, _, _ = text[:EXCERPT].rpartition(" ")
    return (whole_words if len(whole_words) > EXCERPT // 2 else text[:EXCERPT]) + " …"


def _why(view: SampleView) -> str:
    if view.themes:
        return "; ".join(theme.theme for theme in view.themes[:2])
    if view.features and not many_weak_signs([evidence.share for evidence in view.features]):
        return view.features[0].label
    return "many weak signs" if view.features else ""


def _message(turn: Turn, words: Sequence[str]) -> Message:
    return Message(turn.role, turn.scored, _marked(turn.text, words if turn.scored else ()))


def _marked(text: str, words: Sequence[str]) -> list[tuple[str, bool]]:
    """The text in stretches, and whether each is one of the words.

    It is cut before anything is escaped, so that no word is found inside an entity (`amp` in `&amp;`).
    """
    text = clean(text)
    wanted = sorted({w for word in words if (w := clean(word).strip())}, key=len, reverse=True)
    if not wanted:
        return [(text, False)]
    # A letter or digit on either side makes it part of another word.
    pattern = rf"(?<![^\W_])({'|'.join(map(re.escape, wanted))})(?![^\W_])"
    stretches = re.split(pattern, text, flags=re.IGNORECASE)
    return [(stretch, number % 2 == 1) for number, stretch in enumerate(stretches)]


def name_parts(name: str) -> list[str]:
    """A file's name, cut where a line may break."""
    return re.split(r"(?<=[._-])(?=\w)", clean(name))
