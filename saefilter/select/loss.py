"""Rows that surprise a causal model most first: a ranking by perplexity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from saefilter.rows.formats import Conversation
from saefilter.select.candidates import Candidates
from saefilter.select.causal_reader import CausalReader
from saefilter.select.per_row import scored_once
from saefilter.select.ranking import Ranking
from saefilter.select.strategies import Selection


def rank(candidates: Candidates, selection: Selection) -> Ranking:
    """Highest mean loss over the trained tokens first, in nats per token; perplexity is its `exp`."""
    reader = CausalReader.load(candidates, selection, None)
    loss = scored_once(
        candidates,
        "loss",
        reader.identity,
        lambda conversations: mean_losses(reader, conversations),
    )
    return Ranking.by_score(
        loss,
        "loss in nats per token",
        "its trained tokens surprise the model",
        details=reader.about,
    )


def mean_losses(reader: CausalReader, conversations: Sequence[Conversation]) -> NDArray[np.float64]:
    """Mean loss of each conversation's trained tokens, `[n]`; NaN where there is none to predict.

    A window's first token follows nothing and is not counted.
    """
    _, windows = reader.renderer.render(conversations)
    total, count = np.zeros(len(conversations)), np.zeros(len(conversations))
    if windows:
        mean = reader.model.log_likelihood(windows, reader.predicted_tokens).double().numpy()
        predicted = np.array([window.scored[1:].sum() for window in windows])
        rows = np.array([window.row for window in windows])
        np.add.at(total, rows, -mean * predicted)
        np.add.at(count, rows, predicted)
    loss: NDArray[np.float64] = np.full(len(count), np.nan)
    return np.divide(total, count, out=loss, where=count > 0)
