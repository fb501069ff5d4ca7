"""The metrics: from pooled activations to one proximity per sample.

Notation: `a` a sample's pooled activations; `â = min(a, largest) / spread`, each feature on its own
scale and within the range of the contrast data (the toxic set's `scale` and `largest`); `d` unit
decoder directions; T and B the toxic and the benign features of the set with their weights `w`;
`j(i)` the feature of T (or B) nearest to feature i. A larger proximity is always
closer to toxic. docs/metrics.md has the reasons, docs/quality.md figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saefilter import plugins
from saefilter.errors import SaefilterError, did_you_mean
from saefilter.geometry.space import FeatureSpace, Side, unit_rows
from saefilter.plugins import load_plugin, plugin_error, plugin_errors, plugin_names

Array = NDArray[np.float32]
KERNEL_THRESHOLD = 0.3
"""Cosine below which two features count as unrelated in `contrast`. Random directions of MiniLM's
384 dimensions are within 0.1; chosen on the tuning side of docs/quality.md, flat from 0.2 to 0.5."""
TOP_FEATURES = 10
"""How many of a sample's strongest features `top-features` reads."""


@dataclass(frozen=True)
class Sample:
    """What a metric reads of some samples."""

    features: sparse.csr_matrix
    """Pooled activations, `[n, d_sae]`."""
    residual: Array
    """Mean residual over the scored tokens, `[n, d_model]`."""


@dataclass(frozen=True)
class Metric:
    """One way to score."""

    name: str
    formula: str
    proximity: Callable[[FeatureSpace, Sample], NDArray[np.floating[Any]]]
    """One number per sample, `[n]`; of samples that are not equally close no two may be equal."""
    push: Callable[[FeatureSpace], Array]
    """What a unit of each feature's activation adds to the proximity, up to a factor that is the
    same for all features of a sample, `[d_sae]`; explanations are made of it."""
    needs_weights: bool = False
    """Whether the set must have fitted weights."""
    looks_for_neighbours: bool = True
    """Whether --neighbours changes it."""
    linear: Callable[[FeatureSpace, Sample], NDArray[np.floating[Any]]] | None = None
    """The same order on a scale that is linear in the pooled activations or the residual, `[n]`: its
    differences are those in feature space. None where there is no such scale."""

    def difference_words(self) -> str:
        """What a difference of two answers is of, for people."""
        if self.linear is None:
            return f"proximities (metric {self.name} is not linear in the features)"
        return (
            "log-odds, in feature space" if self.needs_weights else "proximities, in feature space"
        )


def weighted_mean(features: sparse.csr_matrix, values: Array) -> Array:
    """`sum_i a_i v_i / sum_i a_i` per row; 0 for a row without activations."""
    total = np.asarray(features.sum(axis=1)).ravel()
    mean: Array = np.asarray(features @ values).ravel() / np.maximum(total, 1e-12)
    return mean


def bounded(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """`1/2 + z / (4 + 2 |z|)` of log-odds `z`: between 0 and 1, 0.5 where both sides pull equally.

    Near there it is the logistic function, with the same slope. That one is 1 to the last digit from
    37 on (17 in single precision), and text of another kind than the contrast data has log-odds of 60:
    most of its rows would be equally close, and the order of the input would decide which are dropped.
    """
    proximity: NDArray[np.float64] = 0.5 + log_odds / (4 + 2 * np.abs(log_odds))
    return proximity


def _log_odds(space: FeatureSpace, sample: Sample, push: Array) -> NDArray[np.float64]:
    counted = space.within_range(sample.features)
    log_odds = np.asarray(counted @ push, dtype=np.float64).ravel()
    return np.asarray(log_odds + space.toxic_set.intercept, dtype=np.float64)


def _weighted(space: FeatureSpace, sample: Sample, push: Array) -> NDArray[np.float64]:
    return bounded(_log_odds(space, sample, push))


def contrast_push(space: FeatureSpace) -> Array:
    """`s_i / spread_i` of the metric `contrast`, `[d_sae]`."""

    def pull(side: Side | None) -> Array | float:
        return 0.0 if side is None else side.pull(KERNEL_THRESHOLD)

    push: Array = space.gain * (pull(space.weighted_toxic) - pull(space.weighted_benign))
    return push


def probe_push(space: FeatureSpace) -> Array:
    """The set's own weights over spread, 0 for every other feature, `[d_sae]`."""
    push = np.zeros(len(space.directions), dtype=np.float32)
    for side, sign in ((space.weighted_toxic, 1), (space.weighted_benign, -1)):
        if side is not None:
            push[side.indices] = sign * side.weights
    return push * space.gain


def activation_push(space: FeatureSpace) -> Array:
    """1 for the toxic features, `[d_sae]`."""
    push = np.zeros(len(space.directions), dtype=np.float32)
    push[space.toxic.indices] = 1
    return push


def nearest_push(space: FeatureSpace) -> Array:
    """The paper's proximity of each feature, `[d_sae]`."""
    return space.toxic.proximity()


def _nearest(space: FeatureSpace, sample: Sample) -> Array:
    return weighted_mean(sample.features, nearest_push(space))


def _top_features(space: FeatureSpace, sample: Sample) -> Array:
    strongest = sample.features.copy()
    for start, end in zip(strongest.indptr[:-1], strongest.indptr[1:], strict=True):
        values = strongest.data[start:end]
        if len(values) > TOP_FEATURES:
            values[values < np.partition(values, -TOP_FEATURES)[-TOP_FEATURES]] = 0
    return weighted_mean(strongest, nearest_push(space))


def _rebuilt(space: FeatureSpace, sample: Sample) -> Array:
    """Unit vectors along `sum_i a_i d_i`, `[n, d_model]`."""
    return unit_rows(np.asarray(sample.features @ space.directions, dtype=np.float32))


def _reconstruction(space: FeatureSpace, sample: Sample) -> Array:
    return space.toxic.index.nearest(_rebuilt(space, sample)).cosine[:, 0]


def _centroid(space: FeatureSpace, sample: Sample) -> Array:
    return _rebuilt(space, sample) @ space.toxic.centroid()


def _direction(space: FeatureSpace, sample: Sample) -> Array:
    mean = np.asarray(space.toxic_set.direction_mean, dtype=np.float32)
    return (sample.residual - mean) @ np.asarray(space.toxic_set.direction, dtype=np.float32)


def _activation(space: FeatureSpace, sample: Sample) -> Array:
    return np.asarray(sample.features @ activation_push(space)).ravel()


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "contrast",
            "a sparse classifier on the set's features, with a kernel over their neighbours added: "
            "bounded(b + sum_i â_i s_i), s_i = w_j(i) K(cos(d_i, d_j(i))) over T minus the same "
            "over B, K(c) = max(0, (c - 0.3) / 0.7)",
            lambda space, sample: _weighted(space, sample, contrast_push(space)),
            contrast_push,
            needs_weights=True,
            linear=lambda space, sample: _log_odds(space, sample, contrast_push(space)),
        ),
        Metric(
            "probe",
            "bounded(b + sum_T w_j â_j - sum_B w_j â_j): the set's features alone, no neighbours",
            lambda space, sample: _weighted(space, sample, probe_push(space)),
            probe_push,
            needs_weights=True,
            looks_for_neighbours=False,
            linear=lambda space, sample: _log_odds(space, sample, probe_push(space)),
        ),
        Metric("nearest", "sum_i a_i max_T cos(d_i, d_j) / sum_i a_i", _nearest, nearest_push),
        Metric(
            "top-features",
            f"nearest over a sample's {TOP_FEATURES} strongest features",
            _top_features,
            nearest_push,
        ),
        Metric(
            "reconstruction",
            "max_T cos(sum_i a_i d_i, d_j)",
            _reconstruction,
            nearest_push,
            looks_for_neighbours=False,
        ),
        Metric(
            "centroid",
            "cos(sum_i a_i d_i, effect-weighted mean of T)",
            _centroid,
            lambda space: space.directions @ space.toxic.centroid(),
            looks_for_neighbours=False,
        ),
        Metric(
            "activation",
            "sum_T a_j: a control without geometry",
            _activation,
            activation_push,
            looks_for_neighbours=False,
            linear=_activation,
        ),
        Metric(
            "direction",
            "projection of the mean residual on the toxic-minus-benign mean difference: a control "
            "without SAE",
            _direction,
            lambda space: space.directions @ np.asarray(space.toxic_set.direction, np.float32),
            looks_for_neighbours=False,
            linear=_direction,
        ),
    )
}
DEFAULT_METRIC = "contrast"
FALLBACK_METRIC = "nearest"
"""For sets without fitted weights, such as lists made by hand."""


def choose_metric(name: str | None, space: FeatureSpace) -> Metric:
    """The metric of that name, or the best that the set allows.

    Raises SaefilterError when there is none of that name, or the set lacks what it needs.
    """
    fitted = space.weighted_toxic is not None
    if name is None:
        return METRICS[DEFAULT_METRIC if fitted else FALLBACK_METRIC]
    metric = known_metric(name)
    if metric.needs_weights and not fitted:
        raise SaefilterError(
            f"metric {name!r} needs weighted features, which the toxic set "
            f"{space.toxic_set.name!r} does not have",
            remedy=f"Use --metric {FALLBACK_METRIC}, or curate the set with benign data.",
        )
    return metric


def known_metric(name: str) -> Metric:
    """The metric of that name, ours or another package's. Raises SaefilterError when there is none."""
    metric = METRICS.get(name) or plugin_metric(name)
    if metric is None:
        known = [*METRICS, *plugin_names(plugins.METRICS)]
        raise SaefilterError(
            f"there is no metric {name!r}", remedy=did_you_mean(name, known, "Metrics")
        )
    return metric


def plugin_metric(name: str) -> Metric | None:
    """The metric of that name from another package; None where there is none.

    Raises SaefilterError when it is not a metric.
    """
    metric = load_plugin(plugins.METRICS, name)
    if metric is None:
        return None
    if not isinstance(metric, Metric):
        raise plugin_error(
            plugins.METRICS,
            name,
            f"is no saefilter.geometry.metrics.Metric, but a {type(metric).__name__}",
        )
    linear = metric.linear and _told(name, metric.linear, _of_samples)
    return replace(
        metric,
        proximity=_told(name, metric.proximity, _of_samples),
        push=_told(name, metric.push, _of_features),
        linear=linear,
    )


def _of_samples(space: FeatureSpace, *samples: Sample) -> int:
    return int(samples[0].features.shape[0])


def _of_features(space: FeatureSpace) -> int:
    return len(space.directions)


def _told(
    name: str, function: Callable[..., Any], length: Callable[..., int]
) -> Callable[..., Any]:
    """The function of a plugin's metric, whose mistakes are told as the plugin's: what it raises, and what it
    gives that is not one finite number for each."""

    def checked(*given: Any) -> Any:
        with plugin_errors(plugins.METRICS, name):
            numbers = np.asarray(function(*given))
            finite = numbers.dtype.kind in "fiu" and np.isfinite(numbers).all()
        wanted = length(*given)
        if numbers.shape != (wanted,) or not finite:
            raise plugin_error(
                plugins.METRICS, name,
                f"gave {numbers.dtype} of shape {list(numbers.shape)} where {wanted:,} finite numbers were due",
            )  # fmt: skip
        return numbers

    return checked
