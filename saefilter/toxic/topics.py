"""Contrast rows by topic, found without labels: whole topics are left out when weights are checked.

Rows that are scored later are about other things than the contrast data. Settings that rank rows of
the same topics best are not those that rank rows of another topic best: features that hardly fire in
the topics at hand are harmless there and noise elsewhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saefilter.toxic.contrast import Contrast

TOPICS_PER_FOLD = 2
FITTED_ROWS = 5000
"""Topics are found on so many rows at most, evenly spaced; the others go to the nearest."""


def topic_folds(contrast: Contrast, n_folds: int, seed: int = 0) -> NDArray[np.int64]:
    """A fold `0..n_folds-1` for each sample, `[n_samples]`, no topic of a source in two of them.

    A topic is a k-means cluster of mean residuals, each dimension on its own scale. The difference of
    the sides is taken out first, so that being toxic is no topic. A source that has no topics to leave
    out (its residuals are all alike, or one fold has a whole side) is cut into runs of neighbouring rows.
    """
    folds = contrast.folds(n_folds)
    for label in np.unique(contrast.source):
        rows = np.flatnonzero(contrast.source == label)
        by_topic = _dealt(_topics(contrast, rows, n_folds * TOPICS_PER_FOLD, seed), n_folds)
        if _usable(by_topic, contrast.toxic[rows], n_folds):
            folds[rows] = by_topic
    return folds


def _topics(
    contrast: Contrast, rows: NDArray[np.int64], n_topics: int, seed: int
) -> NDArray[np.int64]:
    """A cluster for each of the rows, `[len(rows)]`."""
    from sklearn.cluster import KMeans

    points = contrast.residual[rows].astype(np.float64)
    for side in (True, False):
        members = contrast.toxic[rows] == side
        if members.any():
            points[members] -= points[members].mean(axis=0)
    # a few dimensions of a large model's residual are a thousand times as large as the others
    deviation = points.std(axis=0)
    points = points[:, deviation > 0] / deviation[deviation > 0]
    if not points.size or len(np.unique(points, axis=0)) < n_topics:
        return np.zeros(len(rows), dtype=np.int64)
    some = points[:: -(-len(points) // FITTED_ROWS)]
    clusters = KMeans(n_topics, n_init=4, random_state=seed).fit(some)
    return np.asarray(clusters.predict(points), dtype=np.int64)


def _dealt(topics: NDArray[np.int64], n_folds: int) -> NDArray[np.int64]:
    """The largest topic first, each to the fold that has the fewest rows so far."""
    fold = np.zeros(len(topics), dtype=np.int64)
    held = np.zeros(n_folds, dtype=np.int64)
    sizes = np.bincount(topics)
    for topic in np.argsort(-sizes, kind="stable"):
        emptiest = int(held.argmin())
        fold[topics == topic] = emptiest
        held[emptiest] += sizes[topic]
    return fold


def _usable(fold: NDArray[np.int64], toxic: NDArray[np.bool_], n_folds: int) -> bool:
    """Whether every fold leaves both sides to learn from, and some fold has both to be ranked."""
    held = np.array([np.bincount(fold[toxic == side], minlength=n_folds) for side in (True, False)])
    left = held.sum(axis=1, keepdims=True) - held
    return bool((left > 0).all() and (held > 0).all(axis=0).any() and (held.sum(axis=0) > 0).all())
