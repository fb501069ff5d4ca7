"""Why a row is close, in words a person can follow: the themes that stand out in it, and which of the set's
examples it is most like. Read off the pooled activations of the set's own toxic features, so that it is
the same by every metric; what lies next to them, a hundredth of the scores by the shipped sets, plays no
part.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saefilter.toxic.themes import Theme, ThemeExample, Themes, masses
from saefilter.toxic.toxicset import ToxicSet

Array = NDArray[np.float64]
MATTERS = 0.1
"""Of a row's toxic evidence; a theme that has less is no reason."""
STANDS_OUT = 1.5
"""Times the share that a theme has in harmless rows. A theme with less says nothing of this row: one that has
a third of the weight has about a third of everything. Of the bundled pairs by `minilm`, two of three rows
have a theme that stands out, sound answers as often as misaligned ones: it says what a row is like."""
MOST_THEMES = 2
"""Named for a row."""
SECOND = 0.5
"""Of the first theme's rank; a second theme with less is left out."""


class Reason(NamedTuple):
    """Why one row is close."""

    themes: tuple[int, ...]
    """Those that stand out, as places in `Themes.themes`, the most telling first; empty where none does."""
    example: int
    """The most similar of `ThemeReader.examples`; -1 where the row has nothing of any."""
    cosine: float
    """To that example, between contributions less what harmless rows have."""


class Reasons(NamedTuple):
    """Why some rows are close."""

    shares: Array
    """Of each row's toxic evidence that each theme has, `[n, n_themes]`; 0 where there is none."""
    rows: list[Reason]


def unit_contributions(toxic_set: ToxicSet, indices: NDArray[np.int64]) -> Array:
    """What a unit of activation of these toxic features adds to the evidence: weight over spread, `[n]`."""
    mass = masses(toxic_set.features)
    weight = np.array([mass.get(index, 0.0) for index in indices.tolist()])
    scale = np.asarray(toxic_set.scale, dtype=np.float64)[indices]
    unit: Array = np.divide(weight, scale, out=np.zeros_like(weight), where=scale > 0)
    return unit


def contributions(
    toxic_set: ToxicSet, indices: NDArray[np.int64], features: sparse.csr_matrix
) -> Array:
    """Toxic evidence of pooled activations `[n, d_sae]` by toxic feature, `[n, len(indices)]`: weight times
    activation, no larger than on the contrast data, over spread."""
    largest = np.asarray(toxic_set.largest, dtype=np.float64)[indices]
    active = features[:, indices].toarray().astype(np.float64)
    evidence: Array = np.minimum(active, largest) * unit_contributions(toxic_set, indices)
    return evidence


def shares_of(evidence: Array, member: Array) -> Array:
    """Share of each row's evidence `[n, n_toxic]` that each theme has, `[n, n_themes]`; `member`, of ones
    and zeros, `[n_toxic, n_themes]`. Rows without evidence have zeros."""
    by_theme = evidence @ member
    total = by_theme.sum(axis=1, keepdims=True)
    shares: Array = np.divide(by_theme, total, out=np.zeros_like(by_theme), where=total > 0)
    return shares


def telling(shares: Array, usual: Array) -> Array:
    """How much a theme says of a row: its share times the logarithm of how many times the usual one that
    is, as words are chosen for labels. `[n, n_themes]`; negative below the usual."""
    lift = np.maximum(shares, 1e-12) / np.maximum(usual, 1e-3)
    result: Array = shares * np.log(lift)
    return result


def units(rows: Array) -> Array:
    """Rows of length 1, `[n, d]`; zero rows stay zero."""
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Array = np.divide(rows, norm, out=np.zeros_like(rows), where=norm > 0)
    return unit


class ThemeReader:
    """Reads rows by the themes of a set."""

    def __init__(self, toxic_set: ToxicSet, themes: Themes):
        self.themes: tuple[Theme, ...] = themes.themes
        self.examples: list[tuple[int, ThemeExample]] = [
            (place, example)
            for place, theme in enumerate(self.themes)
            for example in theme.examples
        ]
        """Each with the place of its theme."""
        self._set = toxic_set
        self._indices = np.asarray(themes.features, dtype=np.int64)
        self._middle = np.asarray(themes.usual)
        at = {index: place for place, index in enumerate(themes.features)}
        self._member = np.zeros((len(at), len(self.themes)))
        for place, theme in enumerate(self.themes):
            self._member[[at[index] for index in theme.features if index in at], place] = 1
        self._usual = np.array([theme.usual for theme in self.themes])
        vectors = np.zeros((len(self.examples), len(at)))
        for row, (_, example) in enumerate(self.examples):
            for index, value in zip(example.features, example.values, strict=True):
                if index in at:
                    vectors[row, at[index]] = value
        self._vectors = units(vectors)

    @classmethod
    def of(cls, toxic_set: ToxicSet) -> ThemeReader | None:
        """None for a set without themes."""
        themes = toxic_set.themes
        return cls(toxic_set, themes) if themes and themes.themes and themes.features else None

    def token_weights(self) -> NDArray[np.float32]:
        """What a unit of each feature adds to each theme, `[d_sae, n_themes]`."""
        weights = np.zeros((self._set.d_sae, len(self.themes)), dtype=np.float32)
        weights[self._indices] = (
            unit_contributions(self._set, self._indices)[:, None] * self._member
        )
        return weights

    def read(self, features: sparse.csr_matrix) -> Reasons:
        """Why rows with these pooled activations, `[n, d_sae]`, are close."""
        evidence = contributions(self._set, self._indices, features)
        shares = shares_of(evidence, self._member)
        rank = telling(shares, self._usual)
        rank[(shares < MATTERS) | (shares < STANDS_OUT * self._usual)] = 0
        cosine = units(evidence - self._middle) @ self._vectors.T
        has_any = evidence.sum(axis=1) > 0
        rows = []
        for row in range(len(evidence)):
            order = np.argsort(-rank[row], kind="stable")[:MOST_THEMES]
            least = max(SECOND * rank[row, order[0]], 1e-12)
            themes = tuple(int(place) for place in order if rank[row, place] >= least)
            example = int(cosine[row].argmax()) if self.examples and has_any[row] else -1
            likeness = float(cosine[row, example]) if example >= 0 else 0.0
            rows.append(Reason(themes, example if likeness > 0 else -1, likeness))
        return Reasons(shares, rows)
