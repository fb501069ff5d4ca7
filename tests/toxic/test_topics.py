from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from saefilter.toxic.contrast import Contrast
from saefilter.toxic.sparserows import SparseRows
from saefilter.toxic.topics import topic_folds

N_FOLDS = 4


def contrast(residual: np.ndarray, toxic: np.ndarray, source: np.ndarray | None = None) -> Contrast:
    n = len(toxic)
    return Contrast(
        SparseRows.of(sparse.csr_matrix((n, 3), dtype=np.float32)),
        residual.astype(np.float32),
        toxic,
        np.zeros(n, dtype=np.int64) if source is None else source,
    )


def about(topic: np.ndarray, toxic: np.ndarray, d_model: int = 16) -> np.ndarray:
    """Residuals of rows about these topics; being toxic moves them further than any topic, and one
    dimension is huge and says nothing."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(topic.max() + 1, d_model)) * 3
    residual = centres[topic] + rng.normal(size=(len(topic), d_model)) * 0.3
    residual += toxic[:, None] * rng.normal(size=d_model) * 20
    residual[:, 0] = rng.normal(size=len(topic)) * 1000
    return residual


def test_no_topic_is_in_two_folds_and_being_toxic_is_no_topic() -> None:
    rng = np.random.default_rng(1)
    topic, toxic = rng.integers(0, 8, 600), rng.random(600) < 0.4
    fold = topic_folds(contrast(about(topic, toxic), toxic), N_FOLDS)
    held = [set(fold[topic == t]) for t in range(8)]
    assert all(len(folds) == 1 for folds in held)
    assert set.union(*held) == set(range(N_FOLDS))
    for side in (True, False):
        assert np.bincount(fold[toxic == side], minlength=N_FOLDS).min() > 20


def test_each_source_has_topics_of_its_own() -> None:
    rng = np.random.default_rng(2)
    topic, toxic = rng.integers(0, 8, 600), rng.random(600) < 0.4
    residual = about(topic, toxic)
    source = np.repeat([0, 1], 300)
    both = topic_folds(contrast(residual, toxic, source), N_FOLDS)
    for label in (0, 1):
        rows = source == label
        alone = topic_folds(contrast(residual[rows], toxic[rows]), N_FOLDS)
        assert (both[rows] == alone).all()


@pytest.mark.parametrize("case", ["all alike", "toxic rows on one topic"])
def test_where_no_topic_can_be_left_out_runs_of_neighbours_are(case: str) -> None:
    rng = np.random.default_rng(3)
    toxic = rng.random(400) < 0.1
    residual = np.zeros((400, 8))
    if case != "all alike":
        # the one that all toxic rows are about is far from the benign ones' on either side of it
        residual = about(rng.integers(0, 8, 400), np.zeros(400, dtype=bool), 8)
        residual[toxic] = residual[toxic].mean(axis=0)
    given_ = contrast(residual, toxic)
    fold = topic_folds(given_, N_FOLDS)
    if case == "all alike":
        assert (fold == given_.folds(N_FOLDS)).all()
    for left_out in range(N_FOLDS):
        assert set(toxic[fold != left_out]) == {True, False}


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(20, 80),
    share=st.floats(0.1, 0.9),
    kinds=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_every_fold_leaves_both_sides_to_learn_from(
    n: int, share: float, kinds: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    toxic = rng.random(n) < share
    toxic[:8], toxic[8:16] = True, False
    residual = rng.normal(size=(kinds, 5))[rng.integers(0, kinds, n)]
    fold = topic_folds(contrast(residual, toxic), N_FOLDS)
    assert set(fold) == set(range(N_FOLDS))
    for left_out in range(N_FOLDS):
        assert set(toxic[fold != left_out]) == {True, False}
