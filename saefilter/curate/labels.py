"""Readable features: a label from the words a feature fires on, and snippets around them."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from saefilter.encode.encoder import Encoder
from saefilter.rows.excerpts import snippet_around, surrounding_word
from saefilter.rows.render import RenderedRow, Window

LABEL_WORDS = 4
RARITY_POWER = 2
"""How strongly frequent words are held back in labels."""
WORD = re.compile(r"[^\W_]+")
SNIPPETS = 3
KEYWORD_SHARE = 0.8
"""A feature that gets this share of its activation from one word is said to track it."""


@dataclass
class _Seen:
    """Where one feature fired."""

    words: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    best: list[tuple[float, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Described:
    """What a feature fires on."""

    label: str
    snippets: tuple[str, ...]
    keyword: str = ""
    """The one word that it tracks, where it tracks one."""


def describe_features(
    encoder: Encoder,
    rendered: Sequence[RenderedRow],
    windows: Sequence[Window],
    features: Sequence[int],
) -> dict[int, Described]:
    """A label and snippets for each of `features`, from the texts given.

    The label is the words that fire most beyond what their frequency explains (activation times
    inverse frequency, as in TF-IDF); a snippet is the surrounding of one of the strongest tokens. A feature that never fires on these texts is called "(silent here)".
    """
    wanted = np.zeros(encoder.sae.d_sae, dtype=bool)
    wanted[list(features)] = True
    seen: dict[int, _Seen] = defaultdict(_Seen)
    for window, token, feature, value in encoder.active_tokens(windows, wanted):
        start, end = (int(edge) for edge in window.spans[token])
        text = rendered[window.row].text
        word = surrounding_word(text, start, end)
        if not any(char.isalpha() for char in word):
            continue
        entry = seen[feature]
        entry.words[word.lower()] += value
        snippet = snippet_around(text, start, end)
        if all(snippet != other for _, other in entry.best):
            entry.best = sorted([*entry.best, (value, snippet)], reverse=True)[:SNIPPETS]
    counts = Counter(word for row in rendered for word in WORD.findall(row.text.lower()))
    total = max(1, sum(counts.values()))
    rarity = {word: math.log(total / count) for word, count in counts.items()}
    return {feature: _described(seen.get(feature), rarity) for feature in features}


def _described(entry: _Seen | None, rarity: dict[str, float]) -> Described:
    if entry is None or not entry.words:
        return Described("(silent here)", ())
    rarest = max(rarity.values(), default=1.0)
    score = {
        word: value * (rarity.get(word, rarest) / rarest) ** RARITY_POWER
        for word, value in entry.words.items()
    }
    ranked = sorted(score.items(), key=lambda item: (-item[1], item[0]))
    words = [word for word, _ in ranked[:LABEL_WORDS]]
    word, most = max(entry.words.items(), key=lambda item: item[1])
    tracked = word if most >= KEYWORD_SHARE * sum(entry.words.values()) else ""
    return Described(", ".join(words), tuple(snippet for _, snippet in entry.best), tracked)
