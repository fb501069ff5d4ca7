"""What belongs together counts once: confirmation by groups, and rates of rows that a set has not seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from toxic_sets import small

from saefilter.curate.calibrate import cross_fitted, proximities
from saefilter.curate.contrast import Contrast, GroupedContrast, Subset, confirm
from saefilter.curate.options import CurationOptions
from saefilter.settings import ScoreSettings
from saefilter.stats.auroc import auroc, clustered_share, grouped_auroc
from saefilter.stats.sparse_rows import SparseRows
from saefilter.toxic.toxicset import ToxicFeature, ToxicSet

D_SAE = 200


def variants(seed: int, n_groups: int = 60, size: int = 12) -> Contrast:
    """Groups of variants: each feature fires in the rows of some groups and hardly in others. Labels are
    drawn by group, and mean nothing."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), size)
    level = rng.exponential(size=(n_groups, D_SAE)) * (rng.random((n_groups, D_SAE)) < 0.3)
    dense = level[group] * rng.uniform(0.7, 1.3, (len(group), D_SAE))
    return Contrast(
        SparseRows.of(sparse.csr_matrix(dense.astype(np.float32))),
        rng.normal(size=(len(group), 4)).astype(np.float32),
        (rng.random(n_groups) < 0.5)[group],
        np.zeros(len(group), dtype=np.int64),
        group=group,
    )


def n_confirmed(contrast: Contrast) -> int:
    data = GroupedContrast(contrast, 0)
    return int((confirm(data, Subset(0), CurationOptions()).signs != 0).sum())


def test_labels_drawn_by_group_confirm_nothing_and_would_by_row() -> None:
    by_group = [n_confirmed(variants(seed)) for seed in range(10)]
    by_row = [n_confirmed(replace(variants(seed), group=None)) for seed in range(10)]
    assert sum(count <= 2 for count in by_group) >= 9, by_group
    assert min(by_row) > 20, by_row


@pytest.mark.parametrize("mixed", [False, True], ids=["labels by group", "labels within groups"])
def test_what_is_true_is_confirmed_however_labels_lie(mixed: bool) -> None:
    contrast = variants(0, n_groups=120)
    rng = np.random.default_rng(1)
    toxic = rng.random(len(contrast.toxic)) < 0.5 if mixed else contrast.toxic
    dense = contrast.features.tocsr().toarray()
    dense[:, :5] += toxic[:, None] * rng.exponential(size=(len(toxic), 5)) * 1.5
    planted = replace(
        contrast, toxic=toxic, features=SparseRows.of(sparse.csr_matrix(dense.astype(np.float32)))
    )
    data = GroupedContrast(planted, 0)
    signs = confirm(data, Subset(0), CurationOptions()).signs
    assert (signs[:5] == 1).all()
    assert (signs[5:] != 0).sum() <= 3


def test_copies_of_a_text_count_once_within_a_group() -> None:
    """Thirty texts, each there twelve times with a label of its own, in one group: noise."""
    rng = np.random.default_rng(0)
    texts = np.repeat(np.arange(60), 12)
    dense = (rng.exponential(size=(60, D_SAE)) * (rng.random((60, D_SAE)) < 0.4))[texts]
    contrast = Contrast(
        SparseRows.of(sparse.csr_matrix(dense.astype(np.float32))),
        np.zeros((len(texts), 4), np.float32),
        (rng.random(60) < 0.5)[texts],
        np.zeros(len(texts), dtype=np.int64),
        group=texts % 20,
        copies=texts,
    )
    assert n_confirmed(contrast) <= 2
    assert n_confirmed(replace(contrast, copies=None)) > 5


def test_a_share_of_rows_that_hit_as_one_is_as_unsure_as_its_groups() -> None:
    group = np.repeat(np.arange(10), 50)
    hits = np.isin(group, [3, 7])
    share, low, high = clustered_share(hits, group)
    assert share == 0.2
    assert (low, high) == pytest.approx((0.057, 0.52), abs=0.03)
    _, alone_low, alone_high = clustered_share(hits, np.arange(500))
    assert high - low > 4 * (alone_high - alone_low)
    assert clustered_share(np.zeros(500, bool), group)[2] == pytest.approx(0.278, abs=0.01)


def test_auroc_by_group_is_within_sources() -> None:
    rng = np.random.default_rng(0)
    source = np.repeat([0, 1], 300)
    bad = rng.random(600) < np.where(source == 0, 0.9, 0.1)
    value = 5.0 * (source == 0) + rng.normal(size=600)  # ranks sources, not rows
    area, low, high = grouped_auroc(bad, value, np.arange(600) // 3, source, draws=200, seed=0)
    assert low < 0.5 < high
    assert abs(area - 0.5) < 0.1


def overfitted(some: Contrast) -> ToxicSet:
    """A set that knows its rows by heart: of pure noise, the features in which their sides differ most."""
    rows = some.features.tocsr().toarray()
    difference = rows[some.toxic].mean(axis=0) - rows[~some.toxic].mean(axis=0)
    chosen = np.argsort(-np.abs(difference))[:60].tolist()
    return replace(
        small(),
        d_sae=D_SAE,
        d_model=D_SAE,
        scale=[1.0] * D_SAE,
        largest=[100.0] * D_SAE,
        direction=[0.0] * 4,
        direction_mean=[0.0] * 4,
        intercept=0.0,
        neighbour_labels={},
        features=[
            ToxicFeature(
                i, "toxic" if difference[i] > 0 else "benign", float(abs(difference[i])), f"f{i}",
                float(difference[i]), 0.5, 0.01,
            )
            for i in chosen
        ],
    )  # fmt: skip


def test_percentiles_are_of_rows_that_the_set_has_not_seen() -> None:
    contrast, seen = variants(0, n_groups=150, size=6), []

    def fit(some: Contrast) -> ToxicSet:
        seen.append(len(np.intersect1d(some.groups, contrast.groups)))
        return overfitted(some)

    whole, directions = overfitted(contrast), np.eye(D_SAE, dtype=np.float32)
    calibration = cross_fitted(
        fit, whole, contrast, directions, ["mine"], seed=0, made_with={"max_tokens": 7}
    )
    assert len(seen) == 5
    assert all(100 <= groups < 130 for groups in seen), "each was made without a fold of groups"
    benign = ~contrast.toxic
    assert calibration.rows == benign.sum()
    assert calibration.made_with == {"max_tokens": 7}
    assert calibration.groups == pytest.approx(len(np.unique(contrast.groups[benign])))
    for one in calibration.held_out:  # the labels are noise: of either side no more is flagged
        assert one.low <= one.level <= one.high, one
    assert calibration.auroc is not None
    assert calibration.auroc[0] < 0.55  # left-out folds of noise lean to the other side
    # while the set tells the rows that it was made of very well
    known = proximities(whole, directions, contrast, np.ones(len(benign), bool))["contrast/mean"]
    assert auroc(contrast.toxic, known) > 0.75
    conditions = ScoreSettings(max_tokens=7).conditions("plain")
    assert calibration.differences(conditions) == []
    assert calibration.differences(conditions | {"max_tokens": 8, "neighbours": 3}) == [
        "--neighbours 1, not 3", "--max-tokens 7, not 8",
    ]  # fmt: skip
