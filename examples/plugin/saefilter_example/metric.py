"""A metric: rows with a few features very near toxic ones before rows with many that are rather near."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saefilter.geometry.metrics import Metric, Sample, weighted_mean
from saefilter.geometry.space import FeatureSpace

WIDTH = 0.2
"""Cosine by which a feature counts e times less."""


def push(space: FeatureSpace) -> NDArray[np.float32]:
    """`exp((cos(d_i, nearest toxic d_j) - 1) / WIDTH)` of every feature of the SAE, `[d_sae]`: 1 for a toxic one."""
    return np.exp((space.toxic.proximity() - 1) / WIDTH).astype(np.float32)


def proximity(space: FeatureSpace, sample: Sample) -> NDArray[np.float32]:
    """The mean of these over a row's activations, `[n]`; larger is closer, and no two rows tie by rounding."""
    return weighted_mean(sample.features, push(space))


sharp_nearest = Metric(
    "sharp-nearest",
    f"sum_i a_i exp((max_T cos(d_i, d_j) - 1) / {WIDTH}) / sum_i a_i",
    proximity,
    push,
)
