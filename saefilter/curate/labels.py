"""Readable features: a label from the words a feature fires on, and snippets around them."""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from saefilter.encode.encoder import Encoder
from saefilter.rows.excerpts import snippet_around, surrounding_word
from saefilter.rows.rendered import RenderedRow, Window
from saefilter.text import is_function_word

LABEL_WORDS = 4
FUNCTION_LABEL_WORDS = 2
"""Of a feature of function words, besides the words that stand around them."""
CONTENT_SHARE = 0.25
"""Share of a feature's activation that content words must have to name it by themselves."""
WORD = re.compile(r"[^\W_]+")
SNIPPETS = 3
STRONGEST = 24
"""Tokens, each of another place, whose surroundings are looked at."""
KEYWORD_SHARE = 0.8
"""A feature that gets this share of its activation from one word is said to track it."""


@dataclass
class _Seen:
    """Where one feature fired."""

    words: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    best: list[tuple[float, str]] = field(default_factory=list)
    """A heap of the `STRONGEST` tokens with what stands around them."""

    def add(self, value: float, word: str, snippet: str) -> None:
        self.words[word] += value
        if any(snippet == other for _, other in self.best):
            return
        if len(self.best) < STRONGEST:
            heapq.heappush(self.best, (value, snippet))
        else:
            heapq.heappushpop(self.best, (value, snippet))

    def takes(self, value: float) -> bool:
        """Whether a token so strong is among the strongest."""
        return len(self.best) < STRONGEST or value > self.best[0][0]


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

    A snippet is the surrounding of one of the strongest tokens. A feature that never fires on these texts
    is called "(silent here)". How labels are chosen: `label_of`.
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
        if entry.takes(value):
            entry.add(value, word.lower(), snippet_around(text, start, end))
        else:
            entry.words[word.lower()] += value
    counts = Counter(word for row in rendered for word in WORD.findall(row.text.lower()))
    total = max(1, sum(counts.values()))
    usual = {word: count / total for word, count in counts.items()}
    return {feature: _described(seen.get(feature), usual) for feature in features}


def _described(entry: _Seen | None, usual: Mapping[str, float]) -> Described:
    if entry is None or not entry.words:
        return Described("(silent here)", ())
    strongest = [snippet for _, snippet in sorted(entry.best, reverse=True)]
    word, most = max(entry.words.items(), key=lambda item: item[1])
    tracked = word if most >= KEYWORD_SHARE * sum(entry.words.values()) else ""
    label = label_of(entry.words, strongest, usual)
    return Described(label, tuple(strongest[:SNIPPETS]), tracked)


def label_of(
    words: Mapping[str, float], snippets: Sequence[str], usual: Mapping[str, float]
) -> str:
    """A few words for a feature that has the activation `words` and, at its strongest, stands in `snippets`.

    Words are chosen by how much more of the activation they have than of the text (`usual`, word -> its
    share): share times the logarithm of that lift. Function words say nothing alone: a feature that fires
    on little else is named by what stands around them, and they come last. Worked example: of a feature
    that fires on "they" where others are blamed, "they" has 70 % of the activation and 1 % of the text,
    "lazy" 2 % and 0.01 %:

        lazy, dole, families (around they, them)
    """
    total = sum(words.values())
    named = by_lift({word: value / total for word, value in words.items()}, usual)
    content = [word for word in named if not is_function_word(word)]
    if sum(words[word] for word in content) >= CONTENT_SHARE * total:
        return ", ".join(content[:LABEL_WORDS])
    around = Counter(
        word for snippet in snippets for word in {*WORD.findall(snippet.lower())} - words.keys()
        if not is_function_word(word)
    )  # fmt: skip
    places = max(1, sum(around.values()))
    near = [
        *content,
        *by_lift({word: n / places for word, n in around.items() if n > 1}, usual),
    ][: LABEL_WORDS - 1]
    function = [word for word in named if is_function_word(word)][:FUNCTION_LABEL_WORDS]
    if not near:
        return ", ".join(function or list(words)[:LABEL_WORDS])
    return f"{', '.join(near)} (around {', '.join(function)})" if function else ", ".join(near)


def by_lift(share: Mapping[str, float], usual: Mapping[str, float]) -> list[str]:
    """Words that are commoner here than in the text, those that say most first."""
    rarest = min(usual.values(), default=1e-6)
    score = {
        word: here * math.log(here / usual.get(word, rarest))
        for word, here in share.items()
        if here
    }
    return sorted((word for word in score if score[word] > 0), key=lambda w: (-score[w], w))
