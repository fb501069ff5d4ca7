"""The scorer: one toxic set and one metric, applied to encoded samples, with the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saefilter.geometry.diagnose import spillover_rows
from saefilter.geometry.metrics import Metric, Sample, choose_metric
from saefilter.geometry.space import FeatureSpace
from saefilter.toxic.toxicset import ToxicSet

N_TOP_FEATURES = 5


@dataclass(frozen=True)
class Scored:
    """Scores of some samples and what they are made of."""

    proximity: NDArray[np.float64]
    """`[n]`"""
    contributions: sparse.csr_matrix
    """Each feature's part in its sample's proximity, up to a factor per sample, `[n, d_sae]`."""
    scorer: Scorer
    features: sparse.csr_matrix

    def top_features(self, row: int) -> list[dict[str, Any]]:
        """The features that bring a sample closest, as entries of a scores file."""
        entries = slice(self.contributions.indptr[row], self.contributions.indptr[row + 1])
        indices, values = self.contributions.indices[entries], self.contributions.data[entries]
        positive = values > 0
        indices, values = indices[positive], values[positive]
        if not len(values):
            return []
        order = np.lexsort((indices, -values))[:N_TOP_FEATURES]
        total = float(values.sum())
        return [
            self.scorer.evidence(int(indices[i]), float(values[i]) / total)
            | {"activation": float(self.features[row, indices[i]])}
            for i in order
        ]


class Scorer:
    """Scores samples of one SAE. FAISS is asked once, when it is made."""

    def __init__(
        self,
        toxic_set: ToxicSet,
        directions: NDArray[np.float32],
        *,
        metric: str | None = None,
        neighbours: int | None = None,
    ):
        """`directions`: unit decoder directions, `[d_sae, d_model]`. Raises SaefilterError for a
        metric that is unknown or that the set cannot serve."""
        self.toxic_set = toxic_set
        self.space = FeatureSpace.of(toxic_set, directions, neighbours or 1)
        self.metric: Metric = choose_metric(metric, self.space)
        self.token_weights: NDArray[np.float32] = self.metric.push(self.space).astype(np.float32)
        self._labels = toxic_set.labels()
        reference = toxic_set.calibration.push if toxic_set.calibration else None
        self.push_reference = reference
        """What spillover is measured against; None when the set's calibration does not hold it."""
        self._cosines = None
        if reference is not None:
            self._cosines = directions @ directions[list(reference.features)].T

    def score(self, features: sparse.csr_matrix, residual: NDArray[np.float32]) -> Scored:
        """Proximity and evidence of pooled activations `[n, d_sae]` and residuals `[n, d_model]`."""
        proximity = self.metric.proximity(self.space, Sample(features, residual))
        contributions = features.multiply(self.token_weights[None, :]).tocsr()
        return Scored(proximity.astype(np.float64), contributions, self, features)

    def pushes(self, features: sparse.csr_matrix) -> NDArray[np.float64] | None:
        """The push of each sample on the reference's toxic features, `[n, n_toxic]`."""
        return None if self._cosines is None else spillover_rows(features, self._cosines)

    def label(self, feature: int) -> str:
        """What a feature fires on, in a few words."""
        return self._labels.get(feature, f"feature {feature}")

    def percentile(self, proximity: NDArray[np.float64], pool: str) -> NDArray[np.float64] | None:
        """Share of the harmless reference that is less close, 0 to 100; None without calibration."""
        if self.toxic_set.calibration is None:
            return None
        return self.toxic_set.calibration.percentile(proximity, f"{self.metric.name}/{pool}")

    def reference_rows(self, pool: str) -> int:
        """Harmless samples behind the percentiles; 0 when there are none."""
        calibration = self.toxic_set.calibration
        if calibration is None or f"{self.metric.name}/{pool}" not in calibration.quantiles:
            return 0
        return calibration.rows

    def evidence(self, feature: int, share: float) -> dict[str, Any]:
        """A feature, what it fires on, and the toxic feature it lies next to."""
        side = self.space.toxic
        if self.metric.needs_weights and self.space.weighted_toxic is not None:
            side = self.space.weighted_toxic
        toxic = side.features[int(side.nearest.position[feature, 0])]
        return {
            "feature": feature,
            "label": self.label(feature),
            "share": share,
            "toxic_feature": toxic.index,
            "toxic_label": toxic.label,
            "cosine": float(side.nearest.cosine[feature, 0]),
        }
