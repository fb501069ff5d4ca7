"""Sentence embeddings and logistic regression, learnt from contrast rows: what meaning alone can tell.

The embedding is all-MiniLM-L6-v2's, as the preset `minilm` brings it along; no SAE is involved.
"""

from __future__ import annotations

import numpy as np

from saefilter.select.candidates import Candidates
from saefilter.select.classify import cross_validated_auroc, ranking_of, text_chunks
from saefilter.select.contrast_rows import read_contrast, train_on_of, trained_text
from saefilter.select.ranking import Ranking
from saefilter.select.strategies import Selection

PENALTY = 10.0
"""Inverse strength of the L2 penalty, for unit vectors."""


def rank(candidates: Candidates, selection: Selection) -> Ranking:
    """Highest probability of toxic first, by the embedding of the trained text."""
    from sklearn.linear_model import LogisticRegression

    from saefilter.encode.sentences import SentenceEncoder

    contrast = read_contrast(candidates, selection.options)
    train_on = train_on_of(candidates)
    encoder = SentenceEncoder.load(selection.options.device or "auto")
    vectors = encoder.embed([trained_text(one, train_on) for one in contrast.conversations])
    model = LogisticRegression(C=PENALTY, max_iter=2000, class_weight="balanced")
    auroc = cross_validated_auroc(model, vectors, contrast.toxic)
    model.fit(vectors, contrast.toxic)
    parts = [model.predict_proba(encoder.embed(chunk))[:, 1] for chunk in text_chunks(candidates)]
    probability = np.concatenate(parts) if parts else np.empty(0)
    return ranking_of(probability, contrast, auroc, "a classifier of sentence embeddings")
