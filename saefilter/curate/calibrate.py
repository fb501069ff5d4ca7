"""Calibration: what proximities harmless reference rows have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from saefilter import plugins
from saefilter.curate.contrast import Contrast
from saefilter.encode.encoder import Encoder
from saefilter.errors import SaefilterError
from saefilter.geometry.metrics import METRICS, Metric, Sample, plugin_metric
from saefilter.geometry.space import FeatureSpace
from saefilter.geometry.spillover import spillover_rows
from saefilter.plugins import plugin_names
from saefilter.rows.formats import Conversation
from saefilter.toxic.edit import noted
from saefilter.toxic.toxicset import Calibration, PushReference, ToxicSet

LEVELS = (*(i / 200 for i in range(200)), 0.9975, 0.999, 1.0)
"""Of the quantiles; finer at the toxic end, where gates look."""
MIN_ROWS = 20
PUSHED_FEATURES = 100
"""Toxic features whose push is kept: as many as the paper takes."""
Proximities = dict[str, NDArray[np.float64]]


def proximities(
    toxic_set: ToxicSet,
    directions: NDArray[np.float32],
    contrast: Contrast,
    rows: NDArray[np.bool_],
    metrics: Sequence[Metric] = tuple(METRICS.values()),
) -> Proximities:
    """`metric/pool` -> proximity of the samples where `rows`, `[n_samples]`, is true, for every one of
    `metrics` that the set can serve."""
    space = FeatureSpace.of(toxic_set, directions)
    fitted = space.weighted_toxic is not None
    by_metric: dict[str, list[NDArray[np.float64]]] = {}
    for span, slab in contrast.features.slabs():
        chosen = rows[span]
        sample = Sample(slab[chosen], contrast.residual[span][chosen])
        for metric in metrics:
            if fitted or not metric.needs_weights:
                key = f"{metric.name}/{toxic_set.pool}"
                values = metric.proximity(space, sample).astype(np.float64)
                by_metric.setdefault(key, []).append(values)
    return {key: np.concatenate(slabs) for key, slabs in by_metric.items()}


def push_reference(
    toxic_set: ToxicSet, directions: NDArray[np.float32], contrast: Contrast
) -> PushReference:
    """The push of the contrast's benign rows on the strongest toxic features."""
    toxic = toxic_set.strongest(PUSHED_FEATURES)
    cosines = directions @ directions[toxic].T
    benign = ~contrast.toxic
    by_slab = [
        spillover_rows(slab[benign[span]], cosines) for span, slab in contrast.features.slabs()
    ]
    pushes = np.concatenate(by_slab)

    def short(values: NDArray[np.float64]) -> tuple[float, ...]:
        return tuple(float(f"{value:.6g}") for value in values)

    return PushReference(
        len(pushes), tuple(toxic.tolist()), short(pushes.mean(axis=0)), short(pushes.var(axis=0))
    )


def calibration_of(
    by_metric: Proximities, rows: int, push: PushReference | None = None
) -> Calibration:
    """The quantiles of what was found on `rows` reference rows."""
    return Calibration(
        push=push,
        rows=rows,
        levels=LEVELS,
        quantiles={
            key: tuple(float(f"{q:.6g}") for q in np.quantile(values, LEVELS))
            for key, values in by_metric.items()
            if len(values) == rows
        },
    )


def calibrated(
    toxic_set: ToxicSet,
    encoder: Encoder,
    benign: Sequence[Conversation],
    name: str,
    advance: Callable[[int, int], None] | None = None,
) -> ToxicSet:
    """The set with a calibration on other harmless rows. Raises SaefilterError for too few."""
    from saefilter.curate.curate import ContrastEncoder

    toxic_set.check_belongs(
        fingerprint=encoder.sae.fingerprint, d_model=encoder.sae.d_model,
        d_sae=encoder.sae.d_sae, model=encoder.preset.model, sae_name=encoder.preset.sae,
    )  # fmt: skip
    collected = ContrastEncoder(encoder, toxic_set.pool, **toxic_set.reading)
    usable = collected.add(benign, False, advance=advance)
    if usable < MIN_ROWS:
        raise SaefilterError(
            f"only {usable} usable rows; at least {MIN_ROWS} are needed", where=name
        )
    contrast = collected.result()
    others = [plugin_metric(name) for name in plugin_names(plugins.METRICS)]
    by_metric = proximities(
        toxic_set,
        encoder.sae.directions(),
        contrast,
        np.ones(usable, dtype=bool),
        [*METRICS.values(), *filter(None, others)],
    )
    push = push_reference(toxic_set, encoder.sae.directions(), contrast)
    changed = replace(toxic_set, calibration=calibration_of(by_metric, usable, push))
    return noted(changed, f"calibrated on {usable:,} rows", name)
