"""A page that works offline, and its fragments: escaping, sections, and the card that shows one row.

Everything in the report's data is untrusted and reaches a page through `esc` or `bdi` only. The content
security policy allows nothing but the inlined style sheet and, by their hashes, our own scripts, so that
even a mistake in escaping could neither run nor load anything. It forbids style attributes too: whatever
has a size or a place is SVG with presentation attributes.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

from saefilter.report.data import (
    FeatureEvidence,
    FeatureTotal,
    QuarantinedView,
    Report,
    SampleView,
    ThemeEvidence,
)
from saefilter.report.wording import many_weak_signs, no_theme_words, score_words
from saefilter.rows.excerpts import Turn
from saefilter.text import clean, decimal, is_function_word, percent, percentile_words, place

LONG_TEXT = 600
"""From this many characters on, a card's text can scroll and so must be reachable by keyboard."""


def page(
    title: str, *body: str, scripts: Sequence[str] = (), data: Mapping[str, str] | None = None
) -> str:
    """A whole page; `title` is plain text, `body` markup. `scripts` are inlined at its end, each allowed by its
    hash; `data` is JSON for them to read, by the id of its element."""
    style = style_sheet()
    allowed = [f"style-src '{_digest(style)}'"]
    if scripts:
        allowed.append(f"script-src {' '.join(repr(_digest(script)) for script in scripts)}")
    policy = "; ".join(["default-src 'none'", *allowed, "base-uri 'none'", "form-action 'none'"])
    blocks = "".join(
        f'<script type="application/json" id="{esc(name)}">{in_script(text)}</script>\n'
        for name, text in (data or {}).items()
    )
    inlined = "".join(f"<script>{script}</script>\n" for script in scripts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{esc(title)}</title>
<style>{style}</style>
</head>
<body>
<main>
{"".join(body)}</main>
{blocks}{inlined}</body>
</html>
"""


def _digest(text: str) -> str:
    """A source of a content security policy that allows exactly this text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def in_script(text: str) -> str:
    """JSON text that no markup within it can end: `<`, `>` and `&`, which only stand in its strings, as escapes."""
    return text.translate({ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"})


@functools.cache
def style_sheet() -> str:
    """The style sheet as it is inlined; its hash in the policy is of exactly this text."""
    return "".join(own_text(name) for name in ("report.css", "explore.css"))


def own_text(name: str) -> str:
    """A file beside this one."""
    file = resources.files("saefilter.report").joinpath(name)
    return file.read_text(encoding="utf-8").replace("\r\n", "\n")


def header(brand: str, title: str, lead: str) -> str:
    """The page's head; `title` is markup, the others plain text."""
    return (
        f'<header class="top">\n<p class="brand">{esc(brand)}</p>\n<h1>{title}</h1>\n'
        f'<p class="lead">{esc(lead)}</p>\n</header>\n'
    )


def notes(texts: Sequence[str]) -> str:
    """What a reader must know first."""
    if not texts:
        return ""
    items = "".join(f"<li>{bdi(text)}</li>\n" for text in texts)
    return (
        '<aside class="notes" aria-labelledby="notes-title">\n'
        f'<h2 id="notes-title">Before you rely on this</h2>\n<ul>\n{items}</ul>\n</aside>\n'
    )


def esc(text: str) -> str:
    """Untrusted text as markup that shows it."""
    return html.escape(clean(text), quote=True)


def bdi(text: str) -> str:
    """Untrusted text whose direction cannot reach its surroundings."""
    return f"<bdi>{esc(text)}</bdi>"


def file_name(name: str) -> str:
    """A file's name, which may break after its dots."""
    words = (esc(word) for word in re.split(r"(?<=[._-])(?=\w)", clean(name)))
    return f"<bdi>{'<wbr>'.join(words)}</bdi>"


def section(name: str, title: str, *content: str) -> str:
    """A part of the page with its heading; title and content are markup."""
    return (
        f'<section id="{name}" aria-labelledby="{name}-title">\n'
        f'<h2 id="{name}-title">{title}</h2>\n{"".join(content)}</section>\n'
    )


def fold(summary: str, content: str) -> str:
    """Markup that opens on a click, without a script."""
    return f"<details>\n<summary>{summary}</summary>\n{content}</details>\n"


def share_bar(share: float, kind: str) -> str:
    """A share of 1 as a bar; the number stands beside it, so screen readers skip it."""
    width = 100 * min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0
    return (
        '<svg class="bar" width="100%" height="6" aria-hidden="true">'
        '<rect class="track" width="100%" height="6" rx="3"/>'
        f'<rect class="{kind}" width="{width:.1f}%" height="6" rx="3"/></svg>'
    )


def cards(views: Iterable[SampleView], report: Report) -> str:
    """A card for each row."""
    by = report.scoring.get("trainer") or report.scoring.get("train_on")
    everything_scored = by in ("all", "trl")
    return "".join(_card(view, report, everything_scored) for view in views)


def place_of(view: SampleView | QuarantinedView) -> str:
    """Where a row stands, as a heading."""
    words = place(view.line, view.file)
    return bdi(words[0].upper() + words[1:])


def _card(view: SampleView, report: Report, everything_scored: bool) -> str:
    """One row: where it stands, what it says, and what brought it close."""
    facts = [
        f"distance <b>{decimal(view.distance, 3)}</b>",
        esc(percentile_words(view.percentile, report.reference_name)),
    ]
    if said := score_words(view, report):
        facts.insert(0, f"<b>{esc(said)}</b>")
        if view.reason:
            facts.append(esc(view.reason))
    if view.truncated:
        facts.append("cut at the token limit")
    told = "".join(f"<span>{fact}</span>" for fact in facts if fact)
    carrying = [word for theme in view.themes for word in theme.words]
    if not carrying and view.closest is not None:
        carrying = [word for word in view.words if not is_function_word(word)]
    carrying = carrying or view.words
    turns = "".join(_turn(turn, carrying, everything_scored) for turn in view.turns)
    is_long = sum(len(turn.text) for turn in view.turns) >= LONG_TEXT
    empty = '<p class="empty">No text to show.</p>\n'
    reach = f' tabindex="0" role="group" aria-label="Text of line {view.line:d}"' if is_long else ""
    return (
        f'<article class="card">\n<header><h3>{place_of(view)}</h3>{told}</header>\n'
        f'<div class="text"{reach}>\n{turns or empty}</div>\n{_evidence(view)}</article>\n'
    )


def _turn(turn: Turn, words: Sequence[str], everything_scored: bool) -> str:
    """A message; words are marked only where they were scored."""
    scored = everything_scored or turn.role.startswith(("assistant", "text"))
    text = _marked(turn.text, words) if scored else esc(turn.text)
    kind = "turn scored" if scored else "turn"
    return (
        f'<div class="{kind}"><p class="role">{esc(turn.role)}</p><p><bdi>{text}</bdi></p></div>\n'
    )


def _marked(text: str, words: Sequence[str]) -> str:
    """Escaped text with the words marked.

    The text is cut first and each stretch escaped after, so that no word is found inside an entity
    (`amp` in `&amp;`).
    """
    text = clean(text)
    wanted = sorted({w for word in words if (w := clean(word).strip())}, key=len, reverse=True)
    if not wanted:
        return esc(text)
    # A letter or digit on either side makes it part of another word.
    pattern = rf"(?<![^\W_])({'|'.join(map(re.escape, wanted))})(?![^\W_])"
    stretches = re.split(pattern, text, flags=re.IGNORECASE)
    return "".join(
        f"<mark>{esc(stretch)}</mark>" if place % 2 else esc(stretch)
        for place, stretch in enumerate(stretches)
    )


def _evidence(view: SampleView) -> str:
    """Why a row is close: themes and the closest example where the scores have them, then features."""
    shares = [evidence.share for evidence in view.features]
    weak = many_weak_signs(shares)
    features = _feature_list(view)
    words = ", ".join(bdi(word) for word in view.words)
    weighty = f'<p class="words">Weightiest words: {words}</p>\n' if words else ""
    if not view.themes and view.closest is None:
        said = f'<p class="empty">{esc(weak)} The largest:</p>\n' if weak else ""
        return f'<div class="evidence">\n{said}{features}{weighty}</div>\n'
    themes = "".join(_theme(theme) for theme in view.themes)
    why = f"<ul>\n{themes}</ul>\n"
    if not themes:
        why = f'<p class="empty">{esc(no_theme_words(shares))}</p>\n'
    more = fold("Single features", features + weighty)
    return f'<div class="evidence">\n{why}{_closest(view)}{more}</div>\n'


def _feature_list(view: SampleView) -> str:
    items = "".join(
        f"<li><div><b>{percent(evidence.share)}</b>{share_bar(evidence.share, 'dropped')}</div>"
        f"<div>{feature_words(evidence)}</div></li>\n"
        for evidence in view.features
    )
    return f"<ul>\n{items}</ul>\n" if items else '<p class="empty">No single feature.</p>\n'


def _theme(theme: ThemeEvidence) -> str:
    words = ", ".join(f"<mark>{bdi(word)}</mark>" for word in theme.words)
    return (
        f"<li><div><b>{percent(theme.share)}</b>{share_bar(theme.share, 'dropped')}</div>"
        f'<div><b class="theme">{bdi(theme.theme)}</b> '
        f'<span class="near">{percent(theme.usual)} in harmless rows</span>'
        f"{f'<div>{words}</div>' if words else ''}</div></li>\n"
    )


def _closest(view: SampleView) -> str:
    """The example that it is most like."""
    if view.closest is None:
        return ""
    asked = f'<span class="near">{bdi(view.closest.prompt)}</span> ' if view.closest.prompt else ""
    return (
        f'<p class="closest">Closest to: {asked}“{bdi(view.closest.text)}” '
        f'<span class="id">cosine {decimal(view.closest.cosine, 2)}</span></p>\n'
    )


def feature_words(evidence: FeatureEvidence | FeatureTotal) -> str:
    """A feature and the toxic feature it lies next to."""
    if evidence.feature == evidence.toxic_feature:
        near = "a feature of the toxic set"
    else:
        near = (
            f"next to toxic feature “{bdi(evidence.toxic_label)}” "
            f'<span class="id">#{evidence.toxic_feature:d}</span>, cosine {decimal(evidence.cosine, 2)}'
        )
    return (
        f'{bdi(evidence.label)} <span class="id">#{evidence.feature:d}</span> '
        f'<span class="near">{near}</span>'
    )
