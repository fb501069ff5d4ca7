"""Where training on some rows would push the model: the push of each row on each toxic feature.

The diagnosis of a dataset, the calibration of a set and every run of scoring take it from here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Spillover:
    """Predicted push on one toxic feature, data minus reference, with its bootstrap interval."""

    feature: int
    label: str
    push: float
    low: float
    high: float


def spillover_rows(features: sparse.csr_matrix, cosines: NDArray[np.float32]) -> Floats:
    """`sum_i a_i cos(d_i, d_j) / sum_i a_i` for each row and toxic feature j, `[n, n_toxic]`.

    `cosines`: of every feature with the toxic ones, `[d_sae, n_toxic]`.
    """
    total = np.asarray(features.sum(axis=1)).ravel()
    pushes: Floats = np.asarray(features @ cosines) / np.maximum(total, 1e-12)[:, None]
    return pushes


def spillover(
    data: Floats,
    reference: Floats,
    toxic: Indices,
    labels: dict[int, str],
    *,
    groups: tuple[Indices, Indices],
    draws: int,
    seed: int,
) -> list[Spillover]:
    """Predicted push on each toxic feature, largest first, with 95 % bootstrap intervals over `groups`,
    `[n]` of either; `data` and `reference` are their `spillover_rows`, `[n, n_toxic]`."""
    rng = np.random.default_rng(seed)
    push = data.mean(axis=0) - reference.mean(axis=0)
    of_data, of_reference = (
        _means_of_draws(rows, group, draws, rng)
        for rows, group in zip((data, reference), groups, strict=True)
    )
    drawn = of_data - of_reference
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return [
        Spillover(
            int(toxic[j]), labels.get(int(toxic[j]), f"feature {toxic[j]}"), float(push[j]),
            float(low[j]), float(high[j]),
        )
        for j in np.argsort(-push)
    ]  # fmt: skip


def _means_of_draws(rows: Floats, group: Indices, draws: int, rng: np.random.Generator) -> Floats:
    """Mean rows of bootstrap draws of groups, `[draws, n_toxic]`."""
    _, group, size = np.unique(group, return_inverse=True, return_counts=True)
    totals = np.zeros((len(size), rows.shape[1]))
    np.add.at(totals, group.ravel(), rows)
    picked = rng.integers(0, len(size), (draws, len(size)))
    times = np.stack([np.bincount(one, minlength=len(size)) for one in picked])
    means: Floats = times @ totals / (times @ size)[:, None]
    return means
