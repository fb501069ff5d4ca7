"""What scored rows are held against: the harmless reference rows of the toxic set, or the user's own, and
whether they were read as the rows are."""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from saefilter.geometry.likeness import measures, sums_of
from saefilter.geometry.metrics import DEFAULT_METRIC
from saefilter.scoring.reference import PUSH, Reference

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy import sparse

    from saefilter.geometry.scorer import Scorer
    from saefilter.settings import ScoreSettings
    from saefilter.toxic.toxicset import Calibration, Likeness, PushReference


class Yardstick:
    """Percentiles, likeness and spillover of rows, for one metric and one way to read."""

    def __init__(
        self, scorer: Scorer, settings: ScoreSettings, rendering: str, reference: Reference | None
    ):
        """`rendering`: what rows are rendered by. `reference`: the user's own rows; None where the toxic
        set's serve."""
        self._scorer, self._settings = scorer, settings
        self._rendering, self._reference = rendering, reference

    @property
    def _calibration(self) -> Calibration | None:
        """What percentiles rest on: the user's reference rows, else the toxic set's."""
        if self._reference is not None:
            return self._reference.calibration
        return self._scorer.toxic_set.calibration

    @property
    def _key(self) -> str:
        """Of the calibration's quantiles."""
        return f"{self._scorer.metric.name}/{self._settings.pool}"

    def percentile(self, proximity: NDArray[np.float64]) -> NDArray[np.float64] | None:
        calibration = self._calibration
        if calibration is None or self.missing is not None:
            return None
        return calibration.percentile(proximity, self._key)

    def percentile_of_push(self, push: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Among the pushes of reference pairs; None without such, as answers say nothing of a difference."""
        calibration, key = self._calibration, f"{self._key}/{PUSH}"
        if calibration is None or self.missing or key not in calibration.quantiles:
            return None
        return calibration.percentile(push, key)

    @property
    def likeness(self) -> Likeness | None:
        calibration = self._calibration
        return calibration.likeness if calibration and self.missing is None else None

    def likeness_sums(
        self, features: sparse.csr_matrix, tokens: NDArray[np.int64], proximity: NDArray[np.float64]
    ) -> dict[str, list[float]] | None:
        likeness, calibration = self.likeness, self._calibration
        if likeness is None or calibration is None:
            return None
        by_measure = measures(features, tokens, np.array(likeness.frequency))
        scores = proximity, calibration.quantiles[self._key]
        return sums_of(by_measure, likeness, calibration.levels, scores)

    @property
    def push(self) -> PushReference | None:
        """The spillover's reference, where it was read and pooled as the rows are."""
        same = self._settings.pool == self._scorer.toxic_set.pool and not self._differences
        return self._calibration.push if same and self._calibration else None

    @cached_property
    def _differences(self) -> list[str]:
        """In what the reference rows of the toxic set were read otherwise than these."""
        calibration = self._calibration
        conditions = self._settings.conditions(self._rendering)
        return calibration.differences(conditions) if calibration else []

    @cached_property
    def missing(self) -> str | None:
        """Why there are no percentiles, None where there are."""
        calibration = self._calibration
        if calibration is None:
            return "the toxic set is not calibrated"
        if self._differences:
            return (
                f"the toxic set's harmless rows were measured with {'; '.join(self._differences)}"
            )
        metric, pool = self._scorer.metric.name, self._settings.pool
        if self._key not in calibration.quantiles:
            return f"the toxic set is not calibrated for --metric {metric} with --pool {pool}"
        return None

    @property
    def rows(self) -> int:
        """Harmless samples behind the percentiles; 0 where there are none."""
        calibration = self._calibration
        return calibration.rows if calibration and self.missing is None else 0

    def fields(self) -> dict[str, Any]:
        """`Identity.reference`: what is known of these rows, or why there are none."""
        if self.missing is not None:
            return {"missing": self.missing}
        calibration = self._calibration
        assert calibration is not None
        default = self._scorer.metric.name == DEFAULT_METRIC
        return {
            "groups": calibration.groups,
            "held_out": [asdict(one) for one in calibration.held_out] if default else [],
            "auroc": calibration.auroc if default else None,
            **(self._reference.about if self._reference else {}),
        }

    def push_sums(self, features: sparse.csr_matrix) -> tuple[list[float], list[float]] | None:
        if self.push is None or (pushes := self._scorer.pushes(features)) is None:
            return None
        return pushes.sum(axis=0).tolist(), (pushes**2).sum(axis=0).tolist()
