"""The control of the quality table: directions dealt out anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import sparse

from benchmarks.common import put_between
from benchmarks.labelled import HeldOutRows
from benchmarks.quality import (
    CONTROL_MARKER,
    READ_DIRECTIONS,
    SHUFFLES,
    against_shuffled,
    controls_markdown,
    own_share,
    scores_by,
    shuffled,
    with_interval,
)
from saefilter.curate.contrast import Contrast
from saefilter.geometry.space import unit_rows
from saefilter.stats.sparse_rows import SparseRows
from saefilter.toxic.toxicset import ToxicFeature, ToxicSet

D_MODEL, D_SAE, ROWS = 32, 60, 80


def made(fires: int) -> tuple[ToxicSet, np.ndarray, Contrast]:
    """A set of features 0 (toxic) and 2 (benign), whose neighbours are 1 and 3, and rows that are toxic
    where `fires` fires and otherwise noise of other features."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(D_SAE, D_MODEL))
    for own, near in ((0, 1), (2, 3)):
        directions[near] = directions[own] + 0.05 * rng.normal(size=D_MODEL)
    directions = unit_rows(directions.astype(np.float32))
    toxic_set = ToxicSet(
        "t", "m", "s", "h", D_MODEL, D_SAE, "f" * 64, "mean", {}, [],
        [ToxicFeature(0, "toxic", 1.0, "", 1.0, 0.9, 0.01),
         ToxicFeature(2, "benign", 1.0, "", -1.0, 0.9, 0.01)],
        [1.0] * D_SAE, 0.0, [1.0] + [0.0] * (D_MODEL - 1), [0.0] * D_MODEL, [10.0] * D_SAE,
    )  # fmt: skip
    toxic = np.arange(ROWS) % 2 == 0
    dense = rng.exponential(size=(ROWS, D_SAE)) * (rng.random((ROWS, D_SAE)) < 0.3)
    dense[:, :4] = 0
    dense[:, fires] = 3.0 * toxic
    test = Contrast(
        SparseRows.of(sparse.csr_matrix(dense.astype(np.float32))),
        np.zeros((ROWS, D_MODEL), np.float32), toxic, np.zeros(ROWS, dtype=np.int64),
    )  # fmt: skip
    return toxic_set, directions, test


def test_what_ranks_by_geometry_loses_by_a_shuffle_and_what_does_not_stays() -> None:
    for fires, loses in ((1, True), (0, False)):
        toxic_set, directions, test = made(fires)
        real = scores_by(toxic_set, directions, test, READ_DIRECTIONS)
        drawn = shuffled(toxic_set, directions, test)
        assert set(drawn) == set(READ_DIRECTIONS)
        assert len(drawn["contrast"]) == SHUFFLES
        found = against_shuffled(HeldOutRows(test, None), real["contrast"], drawn["contrast"])
        assert found["auroc"] > 0.95
        assert (found["shuffled"] < 0.8) is loses
        assert (found["low"] > 0.1) is loses
        assert (own_share(toxic_set, directions, test) < 0.5) is loses
    assert np.array_equal(shuffled(toxic_set, directions, test)["contrast"], drawn["contrast"])


def test_the_control_table_goes_between_its_markers(tmp_path: Path) -> None:
    found = {"auroc": 0.8, "shuffled": 0.81, "difference": -0.01, "low": -0.02, "high": 0.001}
    path = tmp_path / "quality.md"
    path.write_text(f"before\n{CONTROL_MARKER}\nold\n{CONTROL_MARKER}\nafter\n")
    put_between(path, CONTROL_MARKER, controls_markdown({"contrast": {"xstest": found}}))
    text = path.read_text()
    assert "| contrast | xstest | 0.800 | 0.810 | −0.010 (−0.020 to +0.001) |" in text
    assert "old" not in text
    assert text.startswith("before")
    assert text.endswith("after\n")


def test_an_interval_over_groups_is_wider_where_their_rows_rank_alike() -> None:
    _, _, test = made(0)
    score = test.toxic + np.repeat(np.random.default_rng(0).normal(size=ROWS // 8), 8)
    rows = HeldOutRows(test, np.repeat(["a", "b"], ROWS // 2))
    grouped = HeldOutRows(replace(test, group=np.arange(ROWS) // 8), rows.question)
    alone, together = with_interval(rows, score), with_interval(grouped, score)
    assert alone["auroc"] == together["auroc"]
    assert together["high"] - together["low"] > 1.2 * (alone["high"] - alone["low"])
    assert with_interval(rows, score, within=True)["auroc"] != alone["auroc"]
