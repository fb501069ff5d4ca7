"""Pairs of toxic and benign rows that resemble each other in length and vocabulary, so that what separates the
two sides is neither. Nothing is encoded here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter.curate.sources import ContrastRows
from saefilter.errors import SaefilterError
from saefilter.rows.formats import ASSISTANT, TEXT, Conversation

CANDIDATES = 50
"""Benign rows considered for each toxic one, those with the most similar words."""


LENGTH_WEIGHT = 0.5
"""What a length ratio of e costs, against 1 for having no word in common."""


BLOCK_ROWS = 512


MAX_WORDS = 50_000


@dataclass(frozen=True)
class Matching:
    """What matching did, as medians over rows: lengths in words, similarity of the pairs' words."""

    pairs: int
    toxic_rows: int
    benign_rows: int
    toxic_words: float
    benign_words_before: float
    benign_words: float
    similarity_before: float
    similarity: float

    def __str__(self) -> str:
        return (
            f"Matched {self.pairs:,} pairs of {self.toxic_rows:,} toxic and {self.benign_rows:,} "
            f"benign rows: benign median length {self.benign_words_before:.0f} -> "
            f"{self.benign_words:.0f} words (toxic {self.toxic_words:.0f}), shared vocabulary "
            f"{self.similarity_before:.2f} -> {self.similarity:.2f} (cosine of TF-IDF)"
        )


def match(rows: ContrastRows) -> tuple[ContrastRows, Matching]:
    """The pairs of toxic and benign rows that are most alike in words and length, each used once.

    Raises SaefilterError when a side is empty.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not rows.toxic or not rows.benign:
        raise SaefilterError("both sides need rows before they can be matched")
    toxic_texts, benign_texts = ([_trained_text(c) for c in side] for side in
                                 (rows.toxic, rows.benign))  # fmt: skip
    words = TfidfVectorizer(sublinear_tf=True, max_features=MAX_WORDS)
    words.fit([*toxic_texts, *benign_texts])
    toxic_matrix, benign_matrix = words.transform(toxic_texts), words.transform(benign_texts)
    toxic_length, benign_length = _lengths(toxic_texts), _lengths(benign_texts)
    columns: list[tuple[NDArray[Any], ...]] = []
    for start in range(0, len(toxic_texts), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        similarity = (toxic_matrix[block] @ benign_matrix.T).toarray()
        ratio = np.abs(np.log(toxic_length[block][:, None] / benign_length[None, :]))
        cost = 1 - similarity + LENGTH_WEIGHT * ratio
        count = min(CANDIDATES, cost.shape[1])
        near = np.argpartition(cost, count - 1, axis=1)[:, :count]
        row = np.repeat(np.arange(block.start, block.start + len(cost)), count)
        taken = np.arange(len(cost))[:, None], near
        columns.append((cost[taken].ravel(), row, near.ravel(), similarity[taken].ravel()))
    cost, toxic_index, benign_index, similarity = (
        np.concatenate(column) for column in zip(*columns, strict=True)
    )
    pairs = _greedy(cost, toxic_index.astype(int), benign_index.astype(int))
    chosen_toxic, chosen_benign = toxic_index[pairs].astype(int), benign_index[pairs].astype(int)
    order = np.argsort(chosen_toxic)
    chosen_toxic, chosen_benign = chosen_toxic[order], chosen_benign[order]
    rng = np.random.default_rng(0)
    some = rng.integers(0, len(benign_texts), len(toxic_texts))
    by_chance = np.asarray(toxic_matrix.multiply(benign_matrix[some]).sum(axis=1)).ravel()
    made = Matching(
        pairs=len(pairs),
        toxic_rows=len(toxic_texts),
        benign_rows=len(benign_texts),
        toxic_words=float(np.median(toxic_length[chosen_toxic])),
        benign_words_before=float(np.median(benign_length)),
        benign_words=float(np.median(benign_length[chosen_benign])),
        similarity_before=float(np.median(by_chance)),
        similarity=float(np.median(similarity[pairs])),
    )
    return _chosen(rows, chosen_toxic, chosen_benign), made


def _greedy(
    cost: NDArray[np.float64], toxic: NDArray[np.int64], benign: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Positions of the cheapest pairs, each row used once."""
    used_toxic, used_benign = set(), set()
    pairs = []
    for position in np.argsort(cost, kind="stable"):
        one, other = int(toxic[position]), int(benign[position])
        if one not in used_toxic and other not in used_benign:
            used_toxic.add(one)
            used_benign.add(other)
            pairs.append(position)
    return np.array(pairs, dtype=np.int64)


def _chosen(
    rows: ContrastRows, toxic: NDArray[np.int64], benign: NDArray[np.int64]
) -> ContrastRows:
    def pick(values: Sequence[float] | None, indices: NDArray[np.int64]) -> list[float] | None:
        return None if values is None else [values[i] for i in indices]

    return replace(
        rows,
        toxic=[rows.toxic[i] for i in toxic],
        benign=[rows.benign[i] for i in benign],
        about=[
            entry | {"rows": len(toxic), "matched": "length and vocabulary"} for entry in rows.about
        ],
        toxic_score=pick(rows.toxic_score, toxic),
        benign_score=pick(rows.benign_score, benign),
        group=None
        if rows.group is None
        else [rows.group[i] for i in (*toxic, *(len(rows.toxic) + benign))],
    )


def _trained_text(conversation: Conversation) -> str:
    return "\n".join(turn.content for turn in conversation if turn.role in (ASSISTANT, TEXT))


def _lengths(texts: Sequence[str]) -> NDArray[np.float64]:
    return np.array([max(1, len(text.split())) for text in texts], dtype=np.float64)
