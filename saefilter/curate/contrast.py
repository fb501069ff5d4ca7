"""Encoded contrast data, its subsets with their sums, and the features that a subset confirms.

Rows of one group (rows/groups.py) stay together in every split, and p-values count groups. Sums are
taken once by source and group: whatever subset of the data a statistic is wanted for, the data need
not be walked through again. Features are screened on one half and confirmed on the other. Both halves
take both roles, each at half the false-discovery rate, so that few rows are wasted and the rate holds
for the union.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter.curate.options import CurationOptions
from saefilter.rows.groups import effective_groups
from saefilter.stats.moments import (
    FeatureStatistics,
    GroupedMoments,
    GroupSums,
    discoveries,
    feature_statistics,
)
from saefilter.stats.sparse_rows import SparseRows

Mask = NDArray[np.bool_]
FOLDS = 4
Floats = NDArray[np.float64]
BLOCK_ROWS = 512


@dataclass(frozen=True)
class Contrast:
    """Encoded contrast data, possibly of several sources."""

    features: SparseRows
    """Pooled activations, `[n_samples, d_sae]`."""
    residual: NDArray[np.float32]
    """Mean residuals, `[n_samples, d_model]`."""
    toxic: NDArray[np.bool_]
    """`[n_samples]`"""
    source: NDArray[np.int64]
    """Which source each sample is from, `[n_samples]`."""
    score: NDArray[np.float64] | None = None
    """How toxic each sample is, `[n_samples]`, where the data say; correlations are taken with it."""
    density: NDArray[np.float64] | None = None
    """Share of scored tokens on which each feature fires, `[d_sae]`."""
    group: NDArray[np.int64] | None = None
    """Which samples belong together, `[n_samples]`; None where each is by itself."""
    copies: NDArray[np.int64] | None = None
    """Which samples are one text, nearly, `[n_samples]`; None where none are."""
    tokens: NDArray[np.int64] | None = None
    """Scored tokens of each sample, `[n_samples]`; None where they were not counted."""

    @property
    def target(self) -> NDArray[np.float64]:
        """What correlations are taken with: the score, or 1 and 0 for the sides."""
        return self.toxic.astype(np.float64) if self.score is None else self.score

    @property
    def groups(self) -> NDArray[np.int64]:
        """The group of each sample, `[n_samples]`."""
        return np.arange(len(self.toxic)) if self.group is None else self.group

    @property
    def texts(self) -> NDArray[np.int64]:
        """The text of each sample, `[n_samples]`."""
        return np.arange(len(self.toxic)) if self.copies is None else self.copies

    @classmethod
    def joined(cls, contrasts: Sequence[Contrast]) -> Contrast:
        """Several as one, as they say which source they are."""
        features = SparseRows(contrasts[0].features.n_columns)
        for one in contrasts:
            for _, slab in one.features.slabs():
                features.append(slab)
        return cls(
            features,
            np.concatenate([one.residual for one in contrasts]),
            np.concatenate([one.toxic for one in contrasts]),
            np.concatenate([one.source for one in contrasts]),
            density=np.mean([one.density for one in contrasts if one.density is not None], axis=0),
            group=apart([one.groups for one in contrasts]),
            copies=apart([one.texts for one in contrasts]),
        )

    def subset(self, rows: NDArray[np.bool_]) -> Contrast:
        """Some of the samples."""
        return Contrast(
            self.features.subset(rows),
            self.residual[rows],
            self.toxic[rows],
            self.source[rows],
            None if self.score is None else self.score[rows],
            self.density,
            self.groups[rows],
            self.texts[rows],
            None if self.tokens is None else self.tokens[rows],
        )

    def folds(self, n: int, seed: int = 0) -> NDArray[np.int64]:
        """A fold `0..n-1` for each sample, `[n_samples]`, groups whole.

        Groups are dealt out by size, largest first, each to the fold that has the fewest rows; those
        of equal size in an order drawn by `seed`. Groups of the same sources and sides are dealt out
        by themselves, so that each fold has of all. Groups of 5, 3, 2, 2 rows in two folds: 5 + 2
        and 3 + 2.
        """
        of_row = np.unique(self.groups, return_inverse=True)[1].ravel()
        size = np.bincount(of_row)
        holds = np.zeros((len(size), 2 * (int(self.source.max(initial=0)) + 1)), dtype=bool)
        holds[of_row, 2 * self.source + self.toxic] = True
        stratum = np.unique(holds, axis=0, return_inverse=True)[1].ravel()
        order = np.lexsort((np.random.default_rng(seed).random(len(size)), -size, stratum))
        fold_of_group = np.zeros(len(size), dtype=np.int64)
        filled, before = np.zeros(n), -1
        for group in order.tolist():
            if stratum[group] != before:
                filled, before = np.zeros(n), stratum[group]
            fold_of_group[group] = lightest = int(filled.argmin())
            filled[lightest] += size[group]
        return fold_of_group[of_row]

    def first_half(self, seed: int) -> NDArray[np.bool_]:
        """A random half of every source and side, groups whole, `[n_samples]`."""
        return np.asarray(self.folds(2, seed) == 0)


def apart(labels: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Groups of several data sets as labels of all their samples; those of different ones differ."""
    numbered, start = [np.zeros(0, dtype=np.int64)], 0
    for one in labels:
        own = np.unique(one, return_inverse=True)[1].ravel() + start
        numbered.append(own)
        start = int(own.max(initial=start - 1)) + 1
    return np.concatenate(numbered)


@dataclass(frozen=True)
class Subset:
    """A subset of the data; None means all."""

    source: int | None = None
    without_fold: int | None = None
    fold: int | None = None
    first_half: bool | None = None


@dataclass(frozen=True)
class _Labels:
    """What each sample is, or each of the cells that sums are taken by: `[n]` each."""

    source: NDArray[np.int64]
    toxic: Mask
    fold: NDArray[np.int64]
    first_half: Mask

    def of(self, subset: Subset) -> Mask:
        chosen = np.ones(len(self.source), dtype=bool)
        if subset.source is not None:
            chosen &= self.source == subset.source
        if subset.fold is not None:
            chosen &= self.fold == subset.fold
        if subset.without_fold is not None:
            chosen &= self.fold != subset.without_fold
        if subset.first_half is not None:
            chosen &= self.first_half == subset.first_half
        return chosen


class GroupedContrast:
    """A contrast that is split once, at random by `seed`, groups whole, and summed once."""

    def __init__(self, contrast: Contrast, seed: int):
        self.contrast = contrast
        self._samples = _Labels(
            contrast.source, contrast.toxic, contrast.folds(FOLDS, seed + 1),
            contrast.first_half(seed),
        )  # fmt: skip
        self.sources = [int(label) for label in np.unique(contrast.source)]
        self._cells, cell = self._distinct(*vars(self._samples).values())
        self._moments = GroupedMoments.of(
            contrast.features, cell, len(self._cells.source), contrast.target
        )
        # folds and halves keep groups whole, so a group of a source is in a subset or it is not
        own = (contrast.source, contrast.groups, self._samples.fold, self._samples.first_half)
        (source, _, fold, half), group = np.unique(np.stack(own), axis=1, return_inverse=True)
        self._groups = _Labels(source, np.zeros(len(source), bool), fold, half.astype(bool))
        self._sums = GroupSums.of(contrast.features, group.ravel(), contrast.texts, contrast.target)

    @staticmethod
    def _distinct(*columns: NDArray[Any]) -> tuple[_Labels, NDArray[np.int64]]:
        """The combinations that occur, and which of them each sample is."""
        stacked = np.stack([np.asarray(values) for values in columns])
        (source, toxic, fold, half), cell = np.unique(stacked, axis=1, return_inverse=True)
        return _Labels(source, toxic.astype(bool), fold, half.astype(bool)), cell.ravel()

    def rows(self, subset: Subset) -> Mask:
        """The subset's samples, `[n_samples]`."""
        return self._samples.of(subset)

    def statistics(self, subset: Subset) -> FeatureStatistics:
        """Of toxic against benign samples of the subset."""
        chosen, toxic = self._cells.of(subset), self._cells.toxic
        return feature_statistics(
            self._moments.over(chosen & toxic), self._moments.over(chosen & ~toxic),
            self._sums.t_statistic(self._groups.of(subset)),
        )  # fmt: skip

    def effective_groups(self, subset: Subset) -> float:
        """How many groups of equal size the subset is as good as."""
        return effective_groups(self.contrast.groups[self.rows(subset)])

    def deviation(self, subset: Subset) -> NDArray[np.float64]:
        """Standard deviation of each feature over the subset, `[d_sae]`."""
        return np.sqrt(self._moments.over(self._cells.of(subset)).variance)


@dataclass(frozen=True)
class Confirmed:
    """What a subset of the data confirms, `[d_sae]` each."""

    p_value: Floats
    """On the half that confirmed it, the smaller where both did; 1 for what is not confirmed."""
    signs: Floats
    """+1 toxic, -1 benign, 0 not confirmed."""
    on_first_half: Mask
    """Whether the first half is the one that confirmed it."""


def confirm(
    data: GroupedContrast,
    subset: Subset,
    options: CurationOptions,
    directions: NDArray[np.float32] | None = None,
) -> Confirmed:
    """The features that pass on both halves of a subset, without dense and redundant ones.

    `directions`, unit decoder directions `[d_sae, d_model]`, are what redundancy is judged by.
    """
    first, second = (data.statistics(replace(subset, first_half=one)) for one in (True, False))
    halves = (first, second)
    best = np.ones(len(halves[0].p_value))
    usable, on_first = np.ones(len(best), dtype=bool), np.zeros(len(best), dtype=bool)
    if data.contrast.density is not None:
        usable = data.contrast.density <= options.max_density
    for is_first, (screening, confirming) in ((False, halves), (True, halves[::-1])):
        candidates = (
            usable
            & (screening.p_value < options.screen_p)
            & (screening.frequency >= options.min_frequency)
        )
        same_sign = np.sign(screening.t) == np.sign(confirming.t)
        tested = np.flatnonzero(candidates)
        # one-sided: the sign was predicted by the screening half
        p = np.where(same_sign, confirming.p_value / 2, 1 - confirming.p_value / 2)[tested]
        passed = tested[discoveries(p, options.fdr / 2)]
        on_first[passed[confirming.p_value[passed] < best[passed]]] = is_first
        best[passed] = np.minimum(best[passed], confirming.p_value[passed])
    whole = data.statistics(subset)
    correlation = whole.correlation
    # one that goes one way within groups and another way over all of them means neither
    agrees = np.sign(whole.t) == np.sign(correlation)
    signs = np.where((best < 1) & agrees, np.sign(correlation), 0.0)
    for side in (1, -1):
        members = np.flatnonzero(signs == side)
        ranked = members[np.argsort(-np.abs(correlation[members]), kind="stable")]
        keep = ranked[: options.max_candidates]
        if directions is not None and options.prune_cosine < 1:
            keep = keep[unlike_stronger(directions[keep], options.prune_cosine)]
        signs[np.setdiff1d(members, keep)] = 0
    return Confirmed(np.where(signs != 0, best, 1.0), signs, on_first)


def confirmed_signs(
    data: GroupedContrast,
    subset: Subset,
    options: CurationOptions,
    directions: NDArray[np.float32] | None = None,
) -> Floats:
    """Side of every confirmed feature, +1 or -1, and 0 for the others, `[d_sae]`."""
    return confirm(data, subset, options, directions).signs


def unlike_stronger(directions: NDArray[np.float32], cosine: float) -> NDArray[np.bool_]:
    """Which of these unit directions, strongest first, `[n, d_model]`, to keep so that no two that
    are kept have a larger cosine."""
    keep = np.ones(len(directions), dtype=bool)
    for start in range(0, len(directions), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        like = directions[rows] @ directions[: rows.stop].T > cosine
        for number, position in enumerate(range(*rows.indices(len(directions)))):
            keep[position] = not (like[number, :position] & keep[:position]).any()
    return keep


def strongest(correlation: Floats, top: int) -> NDArray[np.bool_]:
    """The `top` of each side by correlation."""
    keep = np.zeros(len(correlation), dtype=bool)
    for sign in (1, -1):
        side = np.flatnonzero(np.sign(correlation) == sign)
        keep[side[np.argsort(-np.abs(correlation[side]), kind="stable")[:top]]] = True
    return keep
