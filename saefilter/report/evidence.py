"""What a scores file says of why rows are close, read a number of rows at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from saefilter.report.data import FeatureTotal

if TYPE_CHECKING:
    import pyarrow as pa

    from saefilter.artifacts.scores import Scores

N_FEATURES = 25


@dataclass(frozen=True)
class Evidence:
    """The evidence that a report shows."""

    details: dict[int, dict[str, Any]]
    """`truncated`, `top_features` and `top_words` of the wanted rows, by row id."""
    features: list[FeatureTotal]
    """How often each feature is among a row's top ones, in dropped beside kept rows."""

    @classmethod
    def read(
        cls,
        scores: Scores,
        wanted: Iterable[int],
        *,
        kept: NDArray[np.int64],
        dropped: NDArray[np.int64],
    ) -> Evidence:
        """`wanted`, `kept` and `dropped` are row ids."""
        ids = np.array(sorted({int(i) for i in wanted}), dtype=np.int64)
        totals = _FeatureTotals(scores.provenance.rows, kept, dropped)
        details: dict[int, dict[str, Any]] = {}
        first = 0
        for batch in scores.batches(["row_id", "truncated", "top_features", "top_words"]):
            here = ids[(ids >= first) & (ids < first + batch.num_rows)]
            if len(here):
                entries = batch.take(here - first).to_pylist()
                details |= {entry["row_id"]: entry for entry in entries}
            totals.add(first, batch["top_features"])
            first += batch.num_rows
        return cls(details, totals.most_common())


class _FeatureTotals:
    """Counts of features over the rows of a scores file."""

    def __init__(self, n_rows: int, kept: NDArray[np.int64], dropped: NDArray[np.int64]):
        self._n_kept, self._n_dropped = len(kept), len(dropped)
        self._is_kept, self._is_dropped = np.zeros((2, n_rows), dtype=np.bool_)
        self._is_kept[kept] = True
        self._is_dropped[dropped] = True
        self._in_kept: Counter[int] = Counter()
        self._in_dropped: Counter[int] = Counter()
        self._first_seen: dict[int, dict[str, Any]] = {}

    def add(self, first: int, top_features: pa.ListArray) -> None:
        """The top features of the rows from `first` on."""
        flat = pc.list_flatten(top_features)
        if not len(flat):
            return
        rows = first + pc.list_parent_indices(top_features).to_numpy(zero_copy_only=False)
        features = flat.field("feature").to_numpy(zero_copy_only=False)
        self._in_dropped.update(features[self._is_dropped[rows]].tolist())
        self._in_kept.update(features[self._is_kept[rows]].tolist())
        for feature, place in zip(*np.unique(features, return_index=True), strict=True):
            if int(feature) not in self._first_seen:
                self._first_seen[int(feature)] = flat[int(place)].as_py()

    def most_common(self) -> list[FeatureTotal]:
        """The features that are in most dropped rows."""
        totals = []
        for feature, count in self._in_dropped.most_common(N_FEATURES):
            example = self._first_seen[feature]
            totals.append(
                FeatureTotal(
                    feature,
                    example["label"],
                    example["toxic_feature"],
                    example["toxic_label"],
                    example["cosine"],
                    count / max(1, self._n_dropped),
                    self._in_kept[feature] / max(1, self._n_kept),
                )
            )
        return totals
