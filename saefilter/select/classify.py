"""What the classifier strategies share: logistic regression on contrast rows, and how well it does."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter.select.candidates import Candidates
from saefilter.select.contrast_rows import ContrastPair, train_on_of, trained_text
from saefilter.select.ranking import Ranking

FOLDS = 5
CHUNK_ROWS = 2048
"""Rows whose texts are in memory at once."""


def text_chunks(candidates: Candidates) -> Iterator[list[str]]:
    """The scored rows' trained texts, some at a time; progress is told."""
    train_on = train_on_of(candidates)
    candidates.watch.plan(len(candidates), 0)
    texts = (trained_text(conversation, train_on) for conversation in candidates.conversations())
    while chunk := list(islice(texts, CHUNK_ROWS)):
        yield chunk
        candidates.watch.advance(len(chunk), 0)


def ranking_of(
    probability: NDArray[np.float64], contrast: ContrastPair, auroc: float, what: str
) -> Ranking:
    """The ranking by a classifier's probability of toxic, `[n_rows]`."""
    return Ranking.by_score(
        probability,
        "probability of toxic",
        f"by the probability of toxic that {what} gives it",
        details={"contrast": contrast.about, "contrast_auroc": round(auroc, 4)},
    )


def cross_validated_auroc(model: Any, features: Any, toxic: NDArray[np.bool_]) -> float:
    """How well the model tells contrast rows apart that it was not fitted on.

    Folds are runs of neighbouring rows, since neighbours are often variants of one text.
    """
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    probability = cross_val_predict(
        model, features, toxic, cv=StratifiedKFold(FOLDS), method="predict_proba"
    )
    return float(roc_auc_score(toxic, probability[:, 1]))
