"""From token spans to the words and snippets that a person reads."""

from __future__ import annotations

from collections.abc import Sequence

SNIPPET_CHARACTERS = 60


def surrounding_word(text: str, start: int, end: int) -> str:
    """The whole word that a span of characters lies in."""
    while start > 0 and text[start - 1].isalnum() and text[start].isalnum():
        start -= 1
    while end < len(text) and text[end].isalnum() and text[end - 1].isalnum():
        end += 1
    return text[start:end].strip()


def snippet_around(text: str, start: int, end: int) -> str:
    """A span with its surroundings, on one line, cut at words."""
    before = text[max(0, start - SNIPPET_CHARACTERS) : start]
    after = text[end : end + SNIPPET_CHARACTERS]
    if start > SNIPPET_CHARACTERS:
        before = "…" + before.partition(" ")[2]
    if end + SNIPPET_CHARACTERS < len(text):
        after = after.rpartition(" ")[0] + "…"
    return " ".join(f"{before}{text[start:end]}{after}".split())


def word_evidence(text: str, spans: Sequence[tuple[int, int]]) -> list[str]:
    """The words around some token spans, in the order given, each once."""
    words = (surrounding_word(text, start, end) for start, end in spans)
    return list(dict.fromkeys(w.lower() for w in words if any(char.isalnum() for char in w)))
