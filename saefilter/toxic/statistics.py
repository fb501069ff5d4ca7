"""Per-feature statistics of pooled activations, toxic samples against benign ones.

Everything works on sparse matrices: at no time is there a dense `[n_samples, d_sae]`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FeatureStatistics:
    """One entry per feature, `[d_sae]` each."""

    frequency: Floats
    """Share of samples in which it is active."""
    effect_size: Floats
    """Standardised mean difference, toxic minus benign, over the pooled standard deviation."""
    correlation: Floats
    """Point-biserial correlation with the label."""
    p_value: Floats
    """Two-sided, of the correlation (t-test with n - 2 degrees of freedom)."""
    auroc: Floats
    """Chance that a toxic sample's activation exceeds a benign one's; ties count half."""


def feature_statistics(features: sparse.csr_matrix, toxic: NDArray[np.bool_]) -> FeatureStatistics:
    """Statistics of `features`, `[n_samples, d_sae]`, for labels `toxic`, `[n_samples]`."""
    n = len(toxic)
    n_toxic = int(toxic.sum())
    n_benign = n - n_toxic
    mean_toxic, variance_toxic = mean_and_variance(features[toxic])
    mean_benign, variance_benign = mean_and_variance(features[~toxic])
    pooled = np.sqrt((variance_toxic + variance_benign) / 2)
    difference = mean_toxic - mean_benign
    effect_size = np.divide(difference, pooled, out=np.zeros_like(pooled), where=pooled > 0)

    _, variance = mean_and_variance(features)
    deviation = np.sqrt(variance)
    shares = np.sqrt(n_toxic * n_benign) / n
    correlation = np.divide(
        difference * shares, deviation, out=np.zeros_like(deviation), where=deviation > 0
    ).clip(-1, 1)
    freedom = max(1, n - 2)
    with np.errstate(divide="ignore"):
        t = np.abs(correlation) * np.sqrt(freedom / np.maximum(1 - correlation**2, 0))
    return FeatureStatistics(
        frequency=np.diff(features.tocsc().indptr) / n,
        effect_size=effect_size,
        correlation=correlation,
        p_value=2 * stats.t.sf(t, freedom),
        auroc=column_auroc(features, toxic),
    )


def mean_and_variance(features: sparse.csr_matrix) -> tuple[Floats, Floats]:
    """Of each column; zeros count."""
    n = max(1, features.shape[0])
    mean = np.asarray(features.sum(axis=0), dtype=np.float64).ravel() / n
    squares = np.asarray(features.multiply(features).sum(axis=0), dtype=np.float64).ravel() / n
    return mean, np.maximum(squares - mean**2, 0)


def column_auroc(features: sparse.csr_matrix, toxic: NDArray[np.bool_]) -> Floats:
    """AUROC of each non-negative column, `[d_sae]`; one without activations has 0.5."""
    columns = features.tocsc()
    n_toxic = int(toxic.sum())
    n_benign = len(toxic) - n_toxic
    result = np.full(columns.shape[1], 0.5)
    if not n_toxic or not n_benign:
        return result
    for feature in np.flatnonzero(np.diff(columns.indptr)):
        entries = slice(columns.indptr[feature], columns.indptr[feature + 1])
        is_toxic = toxic[columns.indices[entries]]
        active_toxic = int(is_toxic.sum())
        active_benign = len(is_toxic) - active_toxic
        ranks = stats.rankdata(columns.data[entries])
        above = ranks[is_toxic].sum() - active_toxic * (active_toxic + 1) / 2
        # active beats silent; two silent samples tie
        above += active_toxic * (n_benign - active_benign)
        above += (n_toxic - active_toxic) * (n_benign - active_benign) / 2
        result[feature] = above / (n_toxic * n_benign)
    return result


def discoveries(p_values: Floats, fdr: float) -> NDArray[np.bool_]:
    """Which tests pass at that false-discovery rate (Benjamini and Hochberg 1995)."""
    if not len(p_values):
        return np.zeros(0, dtype=bool)
    passed: NDArray[np.bool_] = stats.false_discovery_control(p_values) <= fdr
    return passed
