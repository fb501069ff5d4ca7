"""Pieces of the HTML report: escaping, sections, and the card that shows one row.

Everything in the report's data is untrusted and reaches a page through `esc` or `bdi` only.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from saefilter.report.chart import share_bar
from saefilter.report.data import (
    FeatureEvidence,
    FeatureTotal,
    QuarantinedView,
    Report,
    SampleView,
)
from saefilter.report.wording import score_words
from saefilter.rows.excerpts import Turn
from saefilter.text import clean, decimal, percent, percentile_words, place

LONG_TEXT = 600
"""From this many characters on, a card's text can scroll and so must be reachable by keyboard."""


def esc(text: str) -> str:
    """Untrusted text as markup that shows it."""
    return html.escape(clean(text), quote=True)


def bdi(text: str) -> str:
    """Untrusted text whose direction cannot reach its surroundings."""
    return f"<bdi>{esc(text)}</bdi>"


def file_name(name: str) -> str:
    """A file's name, which may break after its dots."""
    pieces = (esc(piece) for piece in re.split(r"(?<=[._-])(?=\w)", clean(name)))
    return f"<bdi>{'<wbr>'.join(pieces)}</bdi>"


def section(name: str, title: str, *content: str) -> str:
    """A part of the page with its heading; title and content are markup."""
    return (
        f'<section id="{name}" aria-labelledby="{name}-title">\n'
        f'<h2 id="{name}-title">{title}</h2>\n{"".join(content)}</section>\n'
    )


def fold(summary: str, content: str) -> str:
    """Markup that opens on a click, without a script."""
    return f"<details>\n<summary>{summary}</summary>\n{content}</details>\n"


def cards(views: Iterable[SampleView], report: Report) -> str:
    """A card for each row."""
    everything_scored = report.scoring.get("train_on") == "all"
    return "".join(_card(view, report, everything_scored) for view in views)


def place_of(view: SampleView | QuarantinedView) -> str:
    """Where a row stands, as a heading."""
    words = place(view.line, view.file)
    return bdi(words[0].upper() + words[1:])


def _card(view: SampleView, report: Report, everything_scored: bool) -> str:
    """One row: where it stands, what it says, and what brought it close."""
    facts = [f"distance <b>{decimal(view.distance, 3)}</b>", percentile_words(view.percentile)]
    if said := score_words(view, report):
        facts.insert(0, f"<b>{esc(said)}</b>")
        if view.reason:
            facts.append(esc(view.reason))
    if view.truncated:
        facts.append("cut at the token limit")
    told = "".join(f"<span>{fact}</span>" for fact in facts if fact)
    turns = "".join(_turn(turn, view.words, everything_scored) for turn in view.turns)
    is_long = sum(len(turn.text) for turn in view.turns) >= LONG_TEXT
    empty = '<p class="empty">No text to show.</p>\n'
    reach = f' tabindex="0" role="group" aria-label="Text of line {view.line:d}"' if is_long else ""
    return (
        f'<article class="card">\n<header><h3>{place_of(view)}</h3>{told}</header>\n'
        f'<div class="text"{reach}>\n{turns or empty}</div>\n{_evidence(view)}</article>\n'
    )


def _turn(turn: Turn, words: Sequence[str], everything_scored: bool) -> str:
    """A message; words are marked only where they were scored."""
    scored = everything_scored or turn.role in ("assistant", "text")
    text = _marked(turn.text, words) if scored else esc(turn.text)
    kind = "turn scored" if scored else "turn"
    return (
        f'<div class="{kind}"><p class="role">{esc(turn.role)}</p><p><bdi>{text}</bdi></p></div>\n'
    )


def _marked(text: str, words: Sequence[str]) -> str:
    """Escaped text with the words marked.

    The text is cut first and each piece escaped after, so that no word is found inside an entity
    (`amp` in `&amp;`).
    """
    text = clean(text)
    wanted = sorted({w for word in words if (w := clean(word).strip())}, key=len, reverse=True)
    if not wanted:
        return esc(text)
    # A letter or digit on either side makes it part of another word.
    pattern = rf"(?<![^\W_])({'|'.join(map(re.escape, wanted))})(?![^\W_])"
    pieces = re.split(pattern, text, flags=re.IGNORECASE)
    return "".join(
        f"<mark>{esc(piece)}</mark>" if place % 2 else esc(piece)
        for place, piece in enumerate(pieces)
    )


def _evidence(view: SampleView) -> str:
    items = "".join(
        f"<li><div><b>{percent(found.share)}</b>{share_bar(found.share, 'dropped')}</div>"
        f"<div>{feature_words(found)}</div></li>\n"
        for found in view.features
    )
    features = f"<ul>\n{items}</ul>\n" if items else '<p class="empty">No single feature.</p>\n'
    words = ", ".join(bdi(word) for word in view.words)
    weighty = f'<p class="words">Weightiest words: {words}</p>\n' if words else ""
    return f'<div class="evidence">\n{features}{weighty}</div>\n'


def feature_words(found: FeatureEvidence | FeatureTotal) -> str:
    """A feature and the toxic feature it lies next to."""
    if found.feature == found.toxic_feature:
        near = "itself in the toxic set"
    else:
        near = (
            f"next to toxic feature “{bdi(found.toxic_label)}” "
            f'<span class="id">#{found.toxic_feature:d}</span>, cosine {decimal(found.cosine, 2)}'
        )
    return (
        f'{bdi(found.label)} <span class="id">#{found.feature:d}</span> '
        f'<span class="near">{near}</span>'
    )
