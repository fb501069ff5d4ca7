from __future__ import annotations

import numpy as np
from scipy import sparse

from saefilter.toxic.contrast import Contrast
from saefilter.toxic.groups import GroupedContrast
from saefilter.toxic.regularise import SCALE_FLOORS, choose_regularisation
from saefilter.toxic.select import CurationOptions
from saefilter.toxic.sparserows import SparseRows
from saefilter.toxic.weights import Penalty

N, TOPICS, OWN = 1600, 8, 12
OPTIONS = CurationOptions()


def chosen_floor(dense: np.ndarray, toxic: np.ndarray, topic: np.ndarray) -> float:
    centres = np.random.default_rng(5).normal(size=(TOPICS, 16)) * 5
    contrast = Contrast(
        SparseRows.of(sparse.csr_matrix(dense.astype(np.float32))),
        centres[topic].astype(np.float32)
        + np.random.default_rng(6).normal(size=(N, 16)).astype(np.float32) * 0.1,
        toxic,
        np.zeros(N, dtype=np.int64),
    )
    return choose_regularisation(GroupedContrast(contrast, 0), OPTIONS).floor


def drawn(seed: int) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng, rng.random(N) < 0.5, rng.integers(0, TOPICS, N)


def test_faint_features_that_are_another_topics_words_want_one_scale() -> None:
    """Each topic has words that are used faintly elsewhere, a little more in toxic rows, and in the topic
    itself loudly, in benign ones."""
    rng, toxic, topic = drawn(0)
    everywhere = rng.exponential(size=(N, 3)) * (1 + 1.0 * toxic[:, None])
    said = rng.random((N, TOPICS, OWN))
    faint = 0.02 * (said < np.where(toxic, 0.3, 0.2)[:, None, None])
    loud = 3.0 * (said < np.where(toxic, 0.05, 0.95)[:, None, None])
    at_home = topic[:, None] == np.arange(TOPICS)
    words = np.where(at_home[..., None], loud, faint)
    dense = np.hstack([everywhere, words.reshape(N, -1), rng.exponential(size=(N, 40))])
    assert chosen_floor(dense, toxic, topic) >= SCALE_FLOORS[2]


def test_faint_features_that_are_telling_everywhere_want_their_own_scale() -> None:
    rng, toxic, topic = drawn(1)
    telling = 0.3 * rng.exponential(size=(N, 5)) * (1 + 1.0 * toxic[:, None])
    loud = rng.exponential(size=(N, 60)) * 5 * (1 + 0.12 * toxic[:, None])
    assert chosen_floor(np.hstack([telling, loud]), toxic, topic) == SCALE_FLOORS[0]


def test_a_given_penalty_is_kept_for_every_source() -> None:
    rng, toxic, topic = drawn(2)
    dense = rng.exponential(size=(N, 20)) * (1 + toxic[:, None])
    contrast = Contrast(
        SparseRows.of(sparse.csr_matrix(dense.astype(np.float32))),
        rng.normal(size=(N, 8)).astype(np.float32),
        toxic,
        topic % 2,
    )
    wanted = Penalty(0.001, 0.2)
    found = choose_regularisation(GroupedContrast(contrast, 0), CurationOptions(penalty=wanted))
    assert found.penalties == {0: wanted, 1: wanted}
    assert found.floor in SCALE_FLOORS


def test_pure_noise_still_has_a_choice() -> None:
    rng, toxic, topic = drawn(3)
    assert chosen_floor(rng.exponential(size=(N, 30)), toxic, topic) == SCALE_FLOORS[0]
