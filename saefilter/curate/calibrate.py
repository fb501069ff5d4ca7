"""Calibration: what proximities harmless reference rows have that a set has never seen.

Features, signs, scale, limits, penalty and weights all know the rows that they were made of. So the whole
curation is repeated in folds of groups, and each fold's rows are scored by the set that was made without
them: percentiles, rates of false alarms and AUROC are of these (cross-fitting).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter import plugins
from saefilter.curate.contrast import Contrast
from saefilter.curate.sources import ContrastRows
from saefilter.encode.encoder import Encoder
from saefilter.errors import SaefilterError
from saefilter.geometry.likeness import likeness_of
from saefilter.geometry.metrics import (
    DEFAULT_METRIC,
    FALLBACK_METRIC,
    METRICS,
    Metric,
    Sample,
    plugin_metric,
)
from saefilter.geometry.scorer import Scorer
from saefilter.geometry.space import FeatureSpace
from saefilter.geometry.spillover import spillover_rows
from saefilter.plugins import plugin_names
from saefilter.rows.groups import effective_groups
from saefilter.settings import ScoreSettings
from saefilter.stats.auroc import clustered_share, grouped_auroc
from saefilter.toxic.edit import noted
from saefilter.toxic.toxicset import Calibration, HeldOut, Likeness, PushReference, ToxicSet

LEVELS = (*(i / 200 for i in range(200)), 0.9975, 0.999, 1.0)
"""Of the quantiles; finer at the toxic end, where gates look."""
MIN_ROWS = 20
OUTER_FOLDS = 5
FALSE_ALARMS = (0.05, 0.01)
"""Nominal rates that are measured on held-out rows."""
DRAWS = 400
"""Of groups, for the interval of the AUROC."""
PUSHED_FEATURES = 100
"""Toxic features whose push is kept: as many as the paper takes."""
Proximities = dict[str, NDArray[np.float64]]


def proximities(
    toxic_set: ToxicSet,
    directions: NDArray[np.float32],
    contrast: Contrast,
    rows: NDArray[np.bool_],
    metrics: Sequence[Metric] = tuple(METRICS.values()),
    neighbours: int = 1,
) -> Proximities:
    """`metric/pool` -> proximity of the samples where `rows`, `[n_samples]`, is true, for every one of
    `metrics` that the set can serve."""
    space = FeatureSpace.of(toxic_set, directions, neighbours)
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


def cross_fitted(
    fit: Callable[[Contrast], ToxicSet],
    toxic_set: ToxicSet,
    contrast: Contrast,
    directions: NDArray[np.float32],
    names: Sequence[str],
    *,
    seed: int,
    made_with: Mapping[str, Any],
) -> Calibration:
    """The calibration of `toxic_set`, which `fit` made of all of `contrast`.

    A fold without which nothing is confirmed has no held-out scores; a metric that lacks those of more
    than half the benign rows is not calibrated. `names`: of the sources.
    """
    fold, held_out = held_out_proximities(fit, contrast, directions, seed=seed)
    benign = ~contrast.toxic
    enough = {
        key: values for key, values in held_out.items() if np.isfinite(values[benign]).mean() > 0.5
    }
    calibration = calibration_of(
        {key: values[benign & np.isfinite(values)] for key, values in enough.items()},
        int(benign.sum()),
        push_reference(toxic_set, directions, contrast),
        effective_groups(contrast.groups[benign]),
        made_with,
        own_share(toxic_set, directions, contrast),
        likeness_to(contrast),
    )
    served = (enough.get(f"{name}/{toxic_set.pool}") for name in (DEFAULT_METRIC, FALLBACK_METRIC))
    default = next((values for values in served if values is not None), None)
    if default is None:
        return calibration
    known = np.isfinite(default)
    area, low, high = grouped_auroc(
        contrast.toxic[known], default[known], contrast.groups[known], contrast.source[known],
        draws=DRAWS, seed=seed,
    )  # fmt: skip
    return replace(
        calibration,
        held_out=tuple(_rates(default, fold, contrast, names)),
        auroc=None if np.isnan(area) else (round(area, 4), round(low, 4), round(high, 4)),
    )


def held_out_proximities(
    fit: Callable[[Contrast], ToxicSet],
    contrast: Contrast,
    directions: NDArray[np.float32],
    *,
    seed: int,
) -> tuple[NDArray[np.int64], Proximities]:
    """The fold of each sample, and its proximity, by every metric, to the set that `fit` makes without that
    fold; NaN where nothing is confirmed without it. `[n_samples]` each."""
    fold = contrast.folds(OUTER_FOLDS, seed + 2)
    held_out: Proximities = {}
    for number in range(OUTER_FOLDS):
        left_out = fold == number
        try:
            fitted = fit(contrast.subset(~left_out))
        except SaefilterError:
            continue
        for key, values in proximities(fitted, directions, contrast, left_out).items():
            held_out.setdefault(key, np.full(len(fold), np.nan))[left_out] = values
    return fold, held_out


def _rates(
    proximity: NDArray[np.float64],
    fold: NDArray[np.int64],
    contrast: Contrast,
    names: Sequence[str],
) -> Iterator[HeldOut]:
    """Share of each source and side beyond the quantile of the benign rows of the other folds."""
    benign, known = ~contrast.toxic, np.isfinite(proximity)
    for level in FALSE_ALARMS:
        flagged = np.zeros(len(fold), dtype=bool)
        for number in np.unique(fold[known]):
            others = proximity[known & benign & (fold != number)]
            here = fold == number
            flagged[here] = proximity[here] > np.quantile(others, 1 - level)
        for source in np.unique(contrast.source).tolist():
            for side, rows in (("benign", benign), ("toxic", ~benign)):
                chosen = rows & known & (contrast.source == source)
                if not chosen.any():
                    continue
                group = contrast.groups[chosen]
                rate, low, high = clustered_share(flagged[chosen], group)
                yield HeldOut(
                    names[source] if source < len(names) else str(source), side, level,
                    round(rate, 5), round(low, 5), round(high, 5),
                    int(chosen.sum()), round(effective_groups(group), 1),
                )  # fmt: skip


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


def own_share(
    toxic_set: ToxicSet, directions: NDArray[np.float32], contrast: Contrast
) -> float | None:
    """How much of the benign rows' scores is of the set's own features, mean over rows; None where no row
    has any."""
    scorer = Scorer(toxic_set, directions)
    shares = [
        scorer.score(slab[benign], contrast.residual[span][benign]).own_share
        for span, slab in contrast.features.slabs()
        if (benign := ~contrast.toxic[span]).any()
    ]
    known = np.concatenate(shares)
    known = known[~np.isnan(known)]
    return float(f"{known.mean():.6g}") if len(known) else None


def calibration_of(
    by_metric: Proximities,
    rows: int,
    push: PushReference | None,
    groups: float,
    made_with: Mapping[str, Any],
    own_share: float | None,
    likeness: Likeness | None = None,
) -> Calibration:
    """The quantiles of what was found on `rows` reference rows, as good as `groups` independent ones."""
    return Calibration(
        push=push,
        own_share=own_share,
        rows=rows,
        levels=LEVELS,
        quantiles={
            key: tuple(float(f"{q:.6g}") for q in np.quantile(values, LEVELS))
            for key, values in by_metric.items()
        },
        groups=round(groups, 1),
        made_with=dict(made_with),
        likeness=likeness,
    )


def likeness_to(contrast: Contrast) -> Likeness | None:
    """What the benign rows are like; None where their tokens were not counted."""
    benign = ~contrast.toxic
    if contrast.tokens is None or not benign.any():
        return None
    return likeness_of(
        contrast.features.subset(benign), contrast.tokens[benign], contrast.groups[benign], LEVELS
    )


def calibrated(
    toxic_set: ToxicSet,
    encoder: Encoder,
    benign: ContrastRows,
    name: str,
    settings: ScoreSettings,
    group: str | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> ToxicSet:
    """The set with a calibration on other harmless rows, read as `settings` say but for pooling, which is
    the set's. What was held out when the set was made stays. Raises SaefilterError for too few."""
    from saefilter.curate.curate import ContrastEncoder, groups_of

    toxic_set.check_belongs(
        fingerprint=encoder.sae.fingerprint, d_model=encoder.sae.d_model,
        d_sae=encoder.sae.d_sae, model=encoder.preset.model, sae_name=encoder.preset.sae,
        unit_decoder=encoder.sae.has_unit_decoder,
    )  # fmt: skip
    settings = replace(settings, pool=toxic_set.pool)
    collected = ContrastEncoder(encoder, settings, groups_of([benign], group))
    usable = collected.add(benign.benign, False, advance=advance)
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
        settings.neighbours or 1,
    )
    push = push_reference(toxic_set, encoder.sae.directions(), contrast)
    before = toxic_set.calibration
    calibration = replace(
        calibration_of(
            by_metric, usable, push, effective_groups(contrast.groups),
            settings.conditions(collected.rendering),
            own_share(toxic_set, encoder.sae.directions(), contrast),
            likeness_to(contrast),
        ),
        auroc=before.auroc if before else None,
    )  # fmt: skip
    changed = replace(toxic_set, calibration=calibration)
    return noted(changed, f"calibrated on {usable:,} rows", name)
