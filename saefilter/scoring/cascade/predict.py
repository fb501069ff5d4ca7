"""What the model would say of a row, guessed from what a cheap reader saw of it.

A ridge regression, fitted on rows that were drawn at random and read by both. How much it shrinks is chosen by
leaving each of these rows out in turn, and so are its errors on rows that it was not fitted to known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PENALTIES = tuple(10.0**power for power in range(-2, 7))
"""Of the squares of standardised weights, among which is chosen."""


@dataclass(frozen=True)
class Prediction:
    """A fitted guess of distances."""

    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    """Of the vectors, `[d]`."""
    weights: NDArray[np.float64]
    intercept: float
    errors: NDArray[np.float64]
    """Distance minus guess of each row that it was fitted to, guessed without it, `[n_fitted]`."""

    @classmethod
    def fit(cls, vectors: NDArray[np.float32], distance: NDArray[np.float64]) -> Prediction:
        """`vectors`, `[n, d]`, and what the model said of the same rows, `[n]`, of at least three rows.

        By one singular value decomposition for all penalties: scikit-learn's RidgeCV keeps the squares of the
        errors alone, and an interval needs to know on which side they are.
        """
        wide = vectors.astype(np.float64)
        center, scale = wide.mean(axis=0), wide.std(axis=0)
        scale[scale < 1e-9] = 1.0
        mean = float(distance.mean())
        left, sizes, right = np.linalg.svd((wide - center) / scale, full_matrices=False)
        turned = left.T @ (distance - mean)
        best: tuple[float, NDArray[np.float64], NDArray[np.float64]] | None = None
        for penalty in PENALTIES:
            kept = sizes**2 / (sizes**2 + penalty)
            leverage = (left**2) @ kept + 1 / len(distance)
            errors = (distance - mean - left @ (kept * turned)) / np.maximum(1 - leverage, 1e-6)
            square = float(np.mean(errors**2))
            if best is None or square < best[0]:
                shrunk = sizes / (sizes**2 + penalty)
                best = square, errors, right.T @ (shrunk * turned)
        assert best is not None
        _, errors, weights = best
        return cls(center, scale, weights, mean, errors)

    def distance(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """The guesses, `[n]`."""
        wide = (vectors.astype(np.float64) - self.center) / self.scale
        return np.asarray(wide @ self.weights + self.intercept)
