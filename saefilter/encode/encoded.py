"""What encoding gives: pooled features per row, collected batch by batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saefilter.encode.batches import Batch, scored_counts
from saefilter.encode.pool import PooledBatch, stack_rows
from saefilter.rows.rendered import Window
from saefilter.stats.tally import Tally

TOP_TOKENS = 12
"""Tokens remembered per row and score as evidence; more than are shown, since many are function words."""


class TokenScore(NamedTuple):
    """A token's share in its row's score."""

    start: int
    end: int
    """Character span in the row's text."""
    score: float


@dataclass(frozen=True)
class Encoded:
    """Pooled activations of `n_rows` rows; rows without windows are all zero."""

    features: sparse.csr_matrix
    """Pooled feature activations, `[n_rows, d_sae]`."""
    residual: NDArray[np.float32]
    """Mean residual over scored tokens, `[n_rows, d_model]`."""
    n_tokens: NDArray[np.int64]
    """Scored tokens per row, `[n_rows]`."""
    top_tokens: list[list[list[TokenScore]]]
    """Per row, for each of the scores that `token_weights` stand for, the tokens that add most to it; empty
    without them."""
    tally: Tally
    """Tokens, padding, active features."""
    fired: NDArray[np.int64] | None = None
    """On how many scored tokens each feature fires, `[d_sae]`; None unless asked for."""


class CollectedRows:
    """Collects batches of windows and merges them into one entry per dataset row."""

    def __init__(self, n_rows: int, d_model: int):
        self.n_rows = n_rows
        self.batches: list[PooledBatch] = []
        self.rows: list[NDArray[np.int64]] = []
        self.residual = np.zeros((n_rows, d_model), dtype=np.float32)
        self.n_tokens = np.zeros(n_rows, dtype=np.int64)
        self.tally = Tally()
        self.top_tokens: list[list[list[TokenScore]]] = [[] for _ in range(n_rows)]

    def add(self, batch: Batch, pooled: PooledBatch) -> None:
        windows = batch.windows
        rows = np.array([window.row for window in windows], dtype=np.int64)
        counts = scored_counts(windows)
        self.batches.append(pooled)
        self.rows.append(rows)
        np.add.at(self.residual, rows, pooled.residual)
        np.add.at(self.n_tokens, rows, counts)
        self.tally += Tally(
            batch.n_tokens, batch.n_padded, batch.n_saved, int(counts.sum()), pooled.n_active
        )
        if pooled.token_scores is not None:
            scores = np.split(pooled.token_scores, np.cumsum(counts)[:-1])
            for window, values in zip(windows, scores, strict=True):
                self._remember(window, values)

    def _remember(self, window: Window, values: NDArray[np.float32]) -> None:
        """`values`: of the window's scored tokens, `[n_tokens, n_scores]`."""
        best = np.argsort(-values, axis=0, kind="stable")[:TOP_TOKENS]
        spans = window.spans[window.scored]
        by_score = [
            [
                TokenScore(start, end, value)
                for (start, end), value in zip(
                    spans[places].tolist(), values[places, score].tolist(), strict=True
                )
                if value > 0
            ]
            for score, places in enumerate(best.T)
        ]
        if before := self.top_tokens[window.row]:
            by_score = [
                sorted(old + new, key=lambda token: -token.score)[:TOP_TOKENS]
                for old, new in zip(before, by_score, strict=True)
            ]
        self.top_tokens[window.row] = by_score

    def result(self, d_sae: int, pool: str) -> Encoded:
        counts = np.maximum(self.n_tokens, 1)
        features = sparse.csr_matrix((self.n_rows, d_sae), dtype=np.float32)
        if self.batches:
            features = stack_rows(self.batches, np.concatenate(self.rows), self.n_rows, pool=pool)
        if pool == "mean":
            features.data /= np.repeat(counts, np.diff(features.indptr)).astype(np.float32)
        fired = [batch.fired for batch in self.batches if batch.fired is not None]
        return Encoded(
            features,
            (self.residual / counts[:, None]).astype(np.float32),
            self.n_tokens,
            self.top_tokens,
            self.tally,
            np.sum(fired, axis=0) if fired else None,
        )
