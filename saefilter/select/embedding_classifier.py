"""Sentence embeddings and logistic regression, learnt from contrast rows: what meaning alone can tell.

The embedding is all-MiniLM-L6-v2's, as the preset `minilm` brings it along; no SAE is involved. What was
learnt and what it says of each row are kept, so that another `--drop-frac` costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from saefilter.rows.formats import Conversation
from saefilter.select.candidates import Candidates
from saefilter.select.classify import cross_validated_auroc, ranking_of
from saefilter.select.contrast_rows import ContrastPair, read_contrast, train_on_of, trained_text
from saefilter.select.per_row import scored_once
from saefilter.select.ranking import Ranking
from saefilter.select.row_cache import RowCache, weights_in
from saefilter.select.strategies import Selection

if TYPE_CHECKING:
    from saefilter.encode.sentences import SentenceEncoder

PENALTY = 10.0
"""Inverse strength of the L2 penalty, for unit vectors."""


def rank(candidates: Candidates, selection: Selection) -> Ranking:
    """Highest probability of toxic first, by the embedding of the trained text."""
    contrast = read_contrast(candidates, selection.options)
    embedder = _Embedder(train_on_of(candidates), selection.options.device or "auto")
    depends_on = {
        "contrast": contrast.about,
        "train_on": embedder.train_on,
        "weights": embedder.weights,
    }
    learnt = RowCache("embedding-classifier-learnt", depends_on, candidates.watch.say)
    if (classifier := _Classifier.known(learnt)) is None:
        classifier = _Classifier.fitted(contrast, embedder)
        learnt.put(classifier.numbers())

    def probability(conversations: Sequence[Conversation]) -> NDArray[np.float64]:
        return classifier.probability(embedder.embed(conversations))

    found = scored_once(candidates, "embedding-classifier", depends_on, probability)
    return ranking_of(found, contrast, classifier.auroc, "a classifier of sentence embeddings")


class _Embedder:
    """The sentence encoder, loaded when it is needed."""

    def __init__(self, train_on: str, device: str):
        self.train_on = train_on
        self.device = device

    @property
    def weights(self) -> list[list[Any]]:
        """Which weights it reads with."""
        from saefilter.encode.presets import load_preset
        from saefilter.encode.sentences import PRESET

        return weights_in(load_preset(PRESET).model_path())

    @cached_property
    def _encoder(self) -> SentenceEncoder:
        from saefilter.encode.sentences import SentenceEncoder

        return SentenceEncoder.load(self.device)

    def embed(self, conversations: Sequence[Conversation]) -> NDArray[np.float32]:
        """Unit vectors of the trained texts, `[n, d_model]`."""
        return self._encoder.embed([trained_text(one, self.train_on) for one in conversations])


class _Classifier(NamedTuple):
    auroc: float
    """Cross-validated, on the contrast rows."""
    intercept: float
    weights: NDArray[np.float64]
    """`[d_model]`"""

    @classmethod
    def fitted(cls, contrast: ContrastPair, embedder: _Embedder) -> _Classifier:
        from sklearn.linear_model import LogisticRegression

        vectors = embedder.embed(contrast.conversations)
        model = LogisticRegression(C=PENALTY, max_iter=2000, class_weight="balanced")
        auroc = cross_validated_auroc(model, vectors, contrast.toxic)
        model.fit(vectors, contrast.toxic)
        return cls(auroc, float(model.intercept_[0]), model.coef_[0].astype(np.float64))

    @classmethod
    def known(cls, kept: RowCache) -> _Classifier | None:
        """The one that was kept by `numbers`; None without all of it."""
        size = int(kept.get("weights") or 0)
        names = ["auroc", "intercept", *(f"weight-{i}" for i in range(size))]
        numbers = [value for name in names if (value := kept.get(name)) is not None]
        if not size or len(numbers) < len(names):
            return None
        return cls(numbers[0], numbers[1], np.array(numbers[2:]))

    def numbers(self) -> dict[str, float]:
        """All of it as named numbers."""
        named = {f"weight-{i}": float(value) for i, value in enumerate(self.weights)}
        return named | {"auroc": self.auroc, "intercept": self.intercept, "weights": len(named)}

    def probability(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of toxic, `[n]`."""
        from scipy.special import expit

        found: NDArray[np.float64] = expit(vectors @ self.weights + self.intercept)
        return found
