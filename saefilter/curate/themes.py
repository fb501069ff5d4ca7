"""Themes of a toxic set: its toxic features put in a handful of clusters, named by the words and shown by the
texts that carry them. What a theme is: toxic/themes.py.

How features are put together was decided by looking, on the bundled pairs by preset `minilm` (393 toxic
features), with the topics of the pairs to look by. By decoder cosine alone clusters are meaningless: the
median cosine is 0.01, nine of ten are below 0.10, one in a thousand is above 0.23, and a cluster's strongest
texts were of all topics. By cosine and co-activation over the toxic rows together, a cluster is of a kind of
badness: harm to the body, lies among people close by, power over people, money. Average linkage on that sum left
two clusters with two thirds of the weight, and one of four features; the 20 largest principal components of
both, Ward's linkage on their directions and a reassignment to the nearest cluster (spherical k-means) gave
clusters of like weight. Co-activation counts for more than cosine (0.7 to 0.3), as it is what a reader of the
texts sees.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from saefilter.curate.labels import by_lift
from saefilter.geometry.reasons import contributions, shares_of, telling, unit_contributions, units
from saefilter.rows.excerpts import surrounding_word
from saefilter.rows.formats import ASSISTANT, TEXT, Conversation
from saefilter.rows.rendered import RenderOptions
from saefilter.text import is_function_word
from saefilter.toxic.themes import Theme, ThemeExample, Themes, masses, names_kept

if TYPE_CHECKING:
    from saefilter.curate.contrast import Contrast
    from saefilter.encode.encoder import Encoder
    from saefilter.toxic.toxicset import ToxicSet

Array = NDArray[np.float64]
MOST_THEMES = 7
FEATURES_PER_THEME = 3
"""A set of fewer features has fewer themes."""
LEAST_MASS = 0.04
"""Of the toxic weight; the features of a smaller cluster go to the cluster nearest to each."""
COACTIVATION = 0.7
"""Part of co-activation in the likeness of two features; the rest is of their decoder cosine."""
COMPONENTS = 20
ROUNDS = 50
"""Of reassigning features to the nearest cluster, at most; ten were enough."""
LED_BY = 2048
"""Features of most weight that make the clusters; the others join them."""
ROWS = 1000
"""Rows of a side that are looked at, evenly spaced."""
EXAMPLES = 24
"""Of a theme; so many, because what a row is most like is sought among them. With 6 of each the closest one
to another misaligned answer has a cosine of 0.32 by `minilm`, with 20 of 0.37, with all 749 pairs of 0.42."""
VALUES = 48
"""Kept of an example's contributions. By `minilm` the misaligned answer closest to a sound one is then the
same as with all of them for 74 % of the pairs, and on average of a cosine 0.01 smaller."""
WORDS = 8
NAME_WORDS = 3
ROWS_OF_A_WORD = 3
"""A word of fewer texts names no theme, where there are many texts."""
EXCERPT, PROMPT = 200, 100
"""Characters of an example's answer and of what it answers."""


def clusters(directions: NDArray[np.float32], activity: Array, mass: Array) -> NDArray[np.int64]:
    """Which cluster each feature is in, `[n]`, numbered by their mass, the largest first.

    `directions`: unit decoder directions `[n, d_model]`; `activity`: of the features in the toxic rows,
    `[n_rows, n]`; `mass`: what each counts, `[n]`, 0 or more.
    """
    count = min(MOST_THEMES, max(1, len(mass) // FEATURES_PER_THEME))
    if count == 1:
        return np.zeros(len(mass), dtype=np.int64)
    from scipy.cluster.hierarchy import fcluster, linkage

    counted = np.maximum(mass, 1e-6 * max(float(mass.max()), 1e-9))
    firing = units((activity - activity.mean(axis=0)).T)
    both = np.hstack([
        np.sqrt(1 - COACTIVATION) * directions.astype(np.float64), np.sqrt(COACTIVATION) * firing
    ])  # fmt: skip
    leaders = np.sort(np.argsort(-counted, kind="stable")[:LED_BY])
    both -= both[leaders].mean(axis=0)
    _, _, axes = np.linalg.svd(both[leaders], full_matrices=False)
    likeness = units(both @ axes[:COMPONENTS].T)
    of_leaders = fcluster(linkage(likeness[leaders], "ward"), count, "maxclust")
    centres = _centres(likeness[leaders], counted[leaders], of_leaders)
    label = (likeness @ centres.T).argmax(axis=1)
    for _ in range(ROUNDS):
        again = (likeness @ _centres(likeness, counted, label).T).argmax(axis=1)
        if (again == label).all():
            break
        label = again
    label = _without_small(likeness, counted, label)
    weight = np.bincount(label, counted)
    order = sorted(np.unique(label).tolist(), key=lambda one: (-weight[one], one))
    place = np.zeros(label.max() + 1, dtype=np.int64)
    place[order] = np.arange(len(order))
    return place[label]


def _centres(likeness: Array, mass: Array, label: NDArray[np.int64]) -> Array:
    """Mean directions of the clusters that have any member, `[n_heaps, n_components]`."""
    return units(
        np.stack([mass[label == one] @ likeness[label == one] for one in np.unique(label)])
    )


def _without_small(likeness: Array, mass: Array, label: NDArray[np.int64]) -> NDArray[np.int64]:
    """The features of clusters too small to be a theme, put with the nearest of the others."""
    _, label = np.unique(label, return_inverse=True)
    large = np.bincount(label, mass) >= LEAST_MASS * mass.sum()
    if large.all() or not large.any():
        return label
    closeness = likeness @ _centres(likeness, mass, label).T
    closeness[:, ~large] = -np.inf
    return np.where(large[label], label, closeness.argmax(axis=1))


@dataclass
class _Texts:
    """What the toxic features do in some toxic texts."""

    conversations: list[Conversation]
    evidence: Array
    """`[n_texts, n_toxic]`"""
    words: list[dict[str, float]]
    """Of each theme, word -> what it adds over all texts."""
    texts_of: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Which texts a word is in."""
    strongest: dict[tuple[int, int], tuple[float, str]] = field(default_factory=dict)
    """Text and theme -> the word that adds most, and how much."""


def themed(
    toxic_set: ToxicSet,
    encoder: Encoder,
    contrast: Contrast,
    shown: Sequence[Conversation],
    *,
    measured_on: str,
    examples_of: str,
    rendering: str = "auto",
) -> ToxicSet:
    """The set with its themes, found on the rows of `contrast`; words and examples are from `shown`, toxic
    conversations that may be others, so that a set can be shared without the text it was made from.

    Names that a person gave stay where a theme has largely the same features.
    """
    mass = masses(toxic_set.features)
    indices = np.array(sorted(mass), dtype=np.int64)
    toxic, benign = (
        contrast.features.columns(np.arange(toxic_set.d_sae), _spread(contrast.toxic == side))
        for side in (True, False)
    )
    weight = np.array([mass[index] for index in indices.tolist()])
    unit = unit_contributions(toxic_set, indices)
    evidence, harmless = (contributions(toxic_set, indices, side) for side in (toxic, benign))
    # firing together is a matter of activations, whatever the weights
    label = clusters(
        encoder.sae.directions()[indices], evidence / np.where(unit > 0, unit, 1), weight
    )
    member = np.eye(label.max() + 1)[label]
    middle, usual = harmless.mean(axis=0), shares_of(harmless, member).mean(axis=0)
    read = list(shown)[:: -(-len(shown) // ROWS) or 1]
    texts = _read(toxic_set, encoder, read, indices, member, rendering)
    said = _words(texts)
    heaviest = [indices[label == one][weight[label == one].argmax()] for one in range(len(said))]
    names = _names(said, [toxic_set.labels()[int(feature)] for feature in heaviest])
    examples = _examples(texts, indices, member, middle, usual)
    total = max(float(weight.sum()), 1e-12)
    themes = Themes(
        tuple(
            Theme(
                name=names[one],
                features=tuple(indices[label == one].tolist()),
                share=_short(weight[label == one].sum() / total),
                usual=_short(usual[one]),
                words=tuple(said[one][:WORDS]),
                examples=tuple(examples[one]),
            )
            for one in range(member.shape[1])
        ),
        tuple(indices.tolist()),
        tuple(_short(value) for value in middle),
        measured_on,
        examples_of,
    )
    return replace(toxic_set, themes=names_kept(toxic_set.themes, themes, mass))


def _spread(rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """At most `ROWS` of the rows that are true, evenly spaced."""
    chosen = np.flatnonzero(rows)
    result = np.zeros(len(rows), dtype=bool)
    result[chosen[:: -(-len(chosen) // ROWS) or 1]] = True
    return result


def _read(
    toxic_set: ToxicSet,
    encoder: Encoder,
    conversations: list[Conversation],
    indices: NDArray[np.int64],
    member: Array,
    rendering: str,
) -> _Texts:
    """One walk over the tokens of the texts."""
    rendered, windows = encoder.renderer(RenderOptions(), rendering).render(conversations)
    wanted = np.zeros(encoder.sae.d_sae, dtype=bool)
    wanted[indices] = True
    scored = np.zeros(len(conversations))
    for window in windows:
        scored[window.row] += window.scored.sum()
    at = {int(index): place for place, index in enumerate(indices)}
    unit, theme = unit_contributions(toxic_set, indices), member.argmax(axis=1)
    active = np.zeros((len(conversations), len(indices)))
    texts = _Texts(conversations, active, [defaultdict(float) for _ in range(member.shape[1])])
    by_token: dict[tuple[int, int, int], float] = defaultdict(float)
    for window, token, feature, value in encoder.active_tokens(windows, wanted):
        row, place = window.row, at[feature]
        start, end = (int(edge) for edge in window.spans[token])
        word = surrounding_word(rendered[row].text, start, end).lower()
        added = value / max(scored[row], 1)
        if toxic_set.pool == "max":
            active[row, place] = max(active[row, place], value)
        else:
            active[row, place] += added
        if not any(char.isalpha() for char in word) or is_function_word(word):
            continue
        one = int(theme[place])
        texts.words[one][word] += unit[place] * added
        texts.texts_of[word].add(row)
        key = row, one, start
        by_token[key] += unit[place] * value
        if by_token[key] > texts.strongest.get((row, one), (0.0, ""))[0]:
            texts.strongest[row, one] = by_token[key], word
    largest = np.asarray(toxic_set.largest)[indices]
    texts.evidence = np.minimum(active, largest) * unit
    return texts


def _words(texts: _Texts) -> list[list[str]]:
    """Of each theme, the content words that have more of its evidence than of all themes', those that say
    most first."""
    total: Counter[str] = Counter()
    for words in texts.words:
        total.update(words)
    everything = max(sum(total.values()), 1e-12)
    usual = {word: value / everything for word, value in total.items()}
    least = ROWS_OF_A_WORD if len(texts.conversations) >= 10 * ROWS_OF_A_WORD else 1
    return [
        [
            word
            for word in by_lift(
                {word: value / max(sum(words.values()), 1e-12) for word, value in words.items()},
                usual,
            )
            if len(texts.texts_of[word]) >= least
        ]
        for words in texts.words
    ]


def _names(said: Sequence[Sequence[str]], otherwise: Sequence[str]) -> list[str]:
    """A name of each theme: its first words that name no other; the label of its weightiest feature where
    it has none; `otherwise` has these."""
    taken: set[str] = set()
    names: list[str] = []
    for words, label in zip(said, otherwise, strict=True):
        own = [word for word in words if word not in taken][:NAME_WORDS]
        taken.update(own)
        name = ", ".join(own) or label
        names.append(name if name not in names else f"{name} ({len(names) + 1})")
    return names


def _examples(
    texts: _Texts, indices: NDArray[np.int64], member: Array, middle: Array, usual: Array
) -> list[list[ThemeExample]]:
    """Of each theme, the texts on which it is strongest; a text is an example of one theme."""
    rank = telling(shares_of(texts.evidence, member), usual)
    vectors = units(texts.evidence - middle)
    best = rank.argmax(axis=1) if len(rank) else np.zeros(0, dtype=np.int64)
    result: list[list[ThemeExample]] = []
    seen: set[str] = set()
    for one in range(member.shape[1]):
        examples: list[ThemeExample] = []
        for row in np.argsort(-rank[:, one], kind="stable").tolist():
            if len(examples) == EXAMPLES:
                break
            if best[row] != one or rank[row, one] <= 0:
                continue
            text, prompt = _shown(texts.conversations[row], texts.strongest.get((row, one)))
            if text and text not in seen:
                seen.add(text)
                examples.append(_example(text, prompt, indices, vectors[row]))
        result.append(examples)
    return result


def _example(text: str, prompt: str, indices: NDArray[np.int64], vector: Array) -> ThemeExample:
    largest = np.sort(np.argsort(-np.abs(vector), kind="stable")[:VALUES])
    largest = largest[vector[largest] != 0]
    return ThemeExample(
        text, prompt, tuple(indices[largest].tolist()),
        tuple(float(f"{value:.3g}") for value in vector[largest]),
    )  # fmt: skip


def _shown(conversation: Conversation, strongest: tuple[float, str] | None) -> tuple[str, str]:
    """The last trained answer, cut to what stands around its weightiest word where it is long, and what it
    answers."""
    place = max(
        (n for n, turn in enumerate(conversation) if turn.role in (ASSISTANT, TEXT)),
        default=len(conversation) - 1,
    )
    before = [turn.content for turn in conversation[:place] if turn.role == "user"]
    text = " ".join(conversation[place].content.split())
    prompt = " ".join(before[-1].split()) if before else ""
    around = text.lower().find(strongest[1]) if strongest else 0
    return _cut(text, EXCERPT, max(around, 0)), _cut(prompt, PROMPT)


def _cut(text: str, characters: int, around: int = 0) -> str:
    """A text on one line, or as many characters of it around a place, cut at words."""
    if len(text) <= characters:
        return text
    start = min(max(0, around - characters // 2), len(text) - characters)
    piece = text[start : start + characters]
    if start:
        piece = "…" + piece.partition(" ")[2]
    return piece if start + characters >= len(text) else piece.rpartition(" ")[0] + "…"


def _short(value: float) -> float:
    return float(f"{value:.4g}")
