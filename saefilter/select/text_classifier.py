"""TF-IDF and logistic regression, learnt from contrast rows: what words alone can tell."""

from __future__ import annotations

import numpy as np

from saefilter.select.candidates import Candidates
from saefilter.select.classify import cross_validated_auroc, ranking_of, text_chunks
from saefilter.select.contrast_rows import read_contrast, train_on_of, trained_text
from saefilter.select.ranking import Ranking
from saefilter.select.strategies import Selection

PENALTY = 10.0
"""Inverse strength of the L2 penalty; the one of docs/quality.md."""


def rank(candidates: Candidates, selection: Selection) -> Ranking:
    """Highest probability of toxic first, by the words and word pairs of the trained text."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    contrast = read_contrast(candidates, selection.options)
    train_on = train_on_of(candidates)
    texts = [trained_text(one, train_on) for one in contrast.conversations]
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b"),
        LogisticRegression(C=PENALTY, max_iter=2000, class_weight="balanced"),
    )
    auroc = cross_validated_auroc(model, texts, contrast.toxic)
    model.fit(texts, contrast.toxic)
    parts = [model.predict_proba(chunk)[:, 1] for chunk in text_chunks(candidates)]
    probability = np.concatenate(parts) if parts else np.empty(0)
    return ranking_of(probability, contrast, auroc, "a text classifier")
