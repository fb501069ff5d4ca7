"""Contrast data in groups by source, side, fold and half, with their sums: whatever part of the data a
statistic is wanted for, the data need not be walked through again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saefilter.curate.contrast import Contrast
from saefilter.stats.moments import FeatureStatistics, GroupedMoments, feature_statistics

Mask = NDArray[np.bool_]
FOLDS = 4


@dataclass(frozen=True)
class Part:
    """A part of the data; None means all."""

    source: int | None = None
    without_fold: int | None = None
    fold: int | None = None
    first_half: bool | None = None


@dataclass(frozen=True)
class _Labels:
    """What each sample, or each group, is: `[n]` each."""

    source: NDArray[np.int64]
    toxic: Mask
    fold: NDArray[np.int64]
    first_half: Mask

    def of(self, part: Part) -> Mask:
        chosen = np.ones(len(self.toxic), dtype=bool)
        if part.source is not None:
            chosen &= self.source == part.source
        if part.fold is not None:
            chosen &= self.fold == part.fold
        if part.without_fold is not None:
            chosen &= self.fold != part.without_fold
        if part.first_half is not None:
            chosen &= self.first_half == part.first_half
        return chosen


class GroupedContrast:
    """A contrast that is split once, at random by `seed`, and summed once."""

    def __init__(self, contrast: Contrast, seed: int):
        self.contrast = contrast
        self._samples = _Labels(
            contrast.source, contrast.toxic, contrast.folds(FOLDS), contrast.first_half(seed)
        )
        self.sources = [int(label) for label in np.unique(contrast.source)]
        columns = np.stack([np.asarray(values) for values in vars(self._samples).values()])
        groups, group = np.unique(columns, axis=1, return_inverse=True)
        source, toxic, fold, half = groups
        self._groups = _Labels(source, toxic.astype(bool), fold, half.astype(bool))
        self._moments = GroupedMoments.of(
            contrast.features, group.ravel(), groups.shape[1], contrast.target
        )

    def rows(self, part: Part) -> Mask:
        """The part's samples, `[n_samples]`."""
        return self._samples.of(part)

    def statistics(self, part: Part) -> FeatureStatistics:
        """Of toxic against benign samples of the part."""
        chosen, toxic = self._groups.of(part), self._groups.toxic
        return feature_statistics(
            self._moments.over(chosen & toxic), self._moments.over(chosen & ~toxic)
        )

    def deviation(self, part: Part) -> NDArray[np.float64]:
        """Standard deviation of each feature over the part, `[d_sae]`."""
        return np.sqrt(self._moments.over(self._groups.of(part)).variance)
