"""A toxic set from encoded contrast data: its features with weights and statistics, direction and
calibration. Labels are yet to come (labels.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter.curate.calibrate import cross_fitted
from saefilter.curate.contrast import (
    Confirmed,
    Contrast,
    GroupedContrast,
    Subset,
    confirm,
    strongest,
)
from saefilter.curate.options import CurationOptions, Penalty
from saefilter.curate.weights import balanced_odds, choose_penalties, spread, weigh
from saefilter.encode.encoder import Encoder
from saefilter.errors import SaefilterError
from saefilter.rows.groups import effective_groups
from saefilter.stats.moments import FeatureStatistics, column_auroc
from saefilter.toxic.toxicset import ToxicFeature, ToxicSet

Floats = NDArray[np.float64]
MIN_GROUPS = 10
"""Half of them, which is what confirms, must be able to show that chance is not enough."""
AUROC_COLUMNS = 512
"""Columns ranked at once; ranking takes some 100 bytes per activation."""


@dataclass(frozen=True)
class Chosen:
    """The features of a set, `[n]` each but for `scale` and `signs`."""

    indices: NDArray[np.int64]
    sides: Floats
    """+1 toxic, -1 benign."""
    weights: Floats
    """0 or more."""
    effect_size: Floats
    auroc: Floats
    p_value: Floats
    """On the half that confirmed it, the smaller where both did."""
    source: NDArray[np.int64]
    """The source it is from, the strongest where several confirm it."""
    intercept: float
    scale: Floats
    """Spread of every feature, `[d_sae]`."""
    signs: Mapping[int, Floats]
    """By source, +1 or -1 for what it confirmed, `[d_sae]`."""


@dataclass(frozen=True)
class _FromSource:
    """What one source says, `[d_sae]` each."""

    label: int
    listed: NDArray[np.bool_]
    """Confirmed, and weighted or among the strongest."""
    statistics: FeatureStatistics
    confirmed: Confirmed


def choose_features(
    data: GroupedContrast,
    options: CurationOptions,
    penalties: Mapping[int, Penalty],
    directions: NDArray[np.float32] | None = None,
) -> Chosen:
    """Screen, confirm and weigh, each source by itself; `indices` is empty when nothing is confirmed."""
    scale = spread(data.deviation(Subset()))
    confirmed = {
        source: confirm(data, Subset(source), options, directions) for source in data.sources
    }
    signs = {source: one.signs for source, one in confirmed.items()}
    by_source, total, intercept = weigh(data.contrast, signs, scale, penalties)
    of_sources = []
    for source, one in confirmed.items():
        statistics = data.statistics(Subset(source))
        listed = by_source[source] != 0
        members = np.flatnonzero(one.signs)
        listed[members[strongest(statistics.correlation[members], options.top)]] = True
        of_sources.append(_FromSource(source, listed, statistics, one))
    indices = np.flatnonzero(np.any([one.listed for one in of_sources], axis=0))
    strength = np.array(
        [np.where(one.listed, np.abs(one.statistics.correlation), -1) for one in of_sources]
    )
    winner = strength.argmax(axis=0)[indices]

    def of_winner(values: list[Floats]) -> Floats:
        picked: Floats = np.array(values)[winner, indices]
        return picked

    weights = total[indices]
    correlation = of_winner([one.statistics.correlation for one in of_sources])
    chosen = Chosen(
        indices=indices,
        sides=np.where(weights != 0, np.sign(weights), np.sign(correlation)),
        weights=np.abs(weights),
        effect_size=of_winner([one.statistics.effect_size for one in of_sources]),
        auroc=_aurocs(data, indices, [of_sources[number] for number in winner]),
        p_value=of_winner([one.confirmed.p_value for one in of_sources]),
        source=np.array([one.label for one in of_sources])[winner],
        intercept=intercept,
        scale=scale,
        signs=signs,
    )
    return _without_contrary(chosen, data.contrast)


def correlated_features(data: GroupedContrast, top: int) -> Chosen:
    """The `top` features most correlated with the toxicity score, or with being toxic, on all rows,
    sources averaged: what is known of how arXiv 2605.00842 finds its toxic features. Nothing is held out,
    confirmed or weighted."""
    by_source = [data.statistics(Subset(source)) for source in data.sources]
    correlation = np.mean([np.nan_to_num(one.correlation) for one in by_source], axis=0)
    indices = np.argsort(-correlation, kind="stable")[:top]
    indices = indices[correlation[indices] > 0]
    whole, rows = data.statistics(Subset()), data.rows(Subset())
    return Chosen(
        indices=indices,
        sides=np.ones(len(indices)),
        weights=np.zeros(len(indices)),
        effect_size=whole.effect_size[indices],
        auroc=column_auroc(data.contrast.features.columns(indices, rows), data.contrast.toxic),
        p_value=whole.p_value[indices],
        source=np.array(
            [int(np.argmax([one.correlation[i] for one in by_source])) for i in indices]
        ),
        intercept=0.0,
        scale=spread(data.deviation(Subset())),
        signs={},
    )


def _without_contrary(chosen: Chosen, contrast: Contrast) -> Chosen:
    """Without the features whose effect on their own source has the other sign than their side.

    Sources that are of two minds about a feature leave it on the side of the larger weight, with the
    statistics of the stronger correlation: it would count as toxic and be shown as benign, or the
    other way round. The odds of what is left are balanced anew.
    """
    agrees = np.sign(chosen.effect_size) == chosen.sides
    if agrees.all():
        return chosen
    kept = {
        name: values[agrees]
        for name, values in vars(chosen).items()
        if name not in ("intercept", "scale", "signs")
    }
    signed = np.zeros(len(chosen.scale))
    signed[kept["indices"]] = kept["sides"] * kept["weights"]
    signed, intercept = balanced_odds(signed, chosen.scale, contrast)
    kept["weights"] = np.abs(signed[kept["indices"]])
    return replace(chosen, **kept, intercept=intercept)


def _aurocs(
    data: GroupedContrast, indices: NDArray[np.int64], origin: Sequence[_FromSource]
) -> Floats:
    """AUROC of each feature on the half of its source that confirmed it, `[len(indices)]`."""
    contrast, result = data.contrast, np.full(len(indices), 0.5)
    halves = [
        Subset(one.label, first_half=bool(one.confirmed.on_first_half[index]))
        for one, index in zip(origin, indices, strict=True)
    ]
    for half in set(halves):
        rows = data.rows(half)
        members = np.flatnonzero([one == half for one in halves])
        for start in range(0, len(members), AUROC_COLUMNS):
            some = members[start : start + AUROC_COLUMNS]
            result[some] = column_auroc(
                contrast.features.columns(indices[some], rows), contrast.toxic[rows]
            )
    return result


def assemble(
    encoder: Encoder,
    contrast: Contrast,
    *,
    name: str,
    options: CurationOptions,
    pool: str,
    sources: list[dict[str, Any]],
    made_with: Mapping[str, Any],
) -> ToxicSet:
    """A set from encoded contrast data; labels are yet to come.

    `made_with`: the settings of `Calibration.made_with`. Raises SaefilterError when no toxic feature is
    confirmed, or a source has too few groups to confirm any.
    """
    names = _source_names(sources, name)
    _refuse_few_groups(contrast, names)

    def fit(some: Contrast) -> ToxicSet:
        return fitted_set(encoder, some, name=name, options=options, pool=pool, sources=sources)

    toxic_set = fit(contrast)
    calibration = cross_fitted(
        fit, toxic_set, contrast, encoder.sae.directions(), names, seed=options.seed,
        made_with=made_with,
    )  # fmt: skip
    return replace(toxic_set, calibration=calibration)


def fitted_set(
    encoder: Encoder,
    contrast: Contrast,
    *,
    name: str,
    options: CurationOptions,
    pool: str = "mean",
    sources: list[dict[str, Any]],
) -> ToxicSet:
    """The whole curation but for calibration and labels: what is repeated in folds. Raises SaefilterError
    when no toxic feature is confirmed."""
    directions = encoder.sae.directions()
    data = GroupedContrast(contrast, options.seed)
    if options.recipe == "paper":
        chosen = correlated_features(data, options.top)
        if not len(chosen.indices):
            raise SaefilterError(
                "no feature is more active in toxic rows than in benign ones",
                remedy="Use more rows, or clearer contrast.",
            )
        method = {"name": "the features most correlated with toxicity, unweighted", "recipe": "paper",
                  "top": options.top, "group": options.group}  # fmt: skip
        return _as_set(encoder, contrast, chosen, name, method, pool, sources)
    penalties = choose_penalties(data, options, directions)
    chosen = choose_features(data, options, penalties, directions)
    if not (chosen.sides > 0).any():
        raise SaefilterError(
            f"no feature separates toxic from benign rows at a false-discovery rate of "
            f"{options.fdr:.0%}",
            remedy="Use more rows, clearer contrast, or a larger --fdr.",
        )
    method = {
        "name": "screen, confirm, signed elastic-net weights",
        **asdict(options),
        "penalty": [penalty._asdict() for _, penalty in sorted(penalties.items())],
    }
    return _as_set(encoder, contrast, chosen, name, method, pool, sources)


def _source_names(sources: list[dict[str, Any]], name: str) -> list[str]:
    """Of each source, the name of its toxic side."""
    return [entry["name"] for entry in sources if entry["side"] == "toxic"] or [name]


def _refuse_few_groups(contrast: Contrast, names: Sequence[str]) -> None:
    for source in np.unique(contrast.source).tolist():
        rows = contrast.source == source
        effective = effective_groups(contrast.groups[rows])
        if effective < MIN_GROUPS:
            raise SaefilterError(
                f"its {int(rows.sum()):,} rows are as good as {effective:.0f} groups of equal size "
                f"(same prompt, near-identical text or one template, unless --group says otherwise); "
                f"{MIN_GROUPS} are needed to confirm what holds for others",
                where=names[source] if source < len(names) else None,
                remedy="Add rows on other prompts, or name the column that tells groups apart with "
                "--group. --group none takes each row by itself: what it confirms may hold for these "
                "prompts only.",
            )


def _as_set(
    encoder: Encoder,
    contrast: Contrast,
    chosen: Chosen,
    name: str,
    method: dict[str, Any],
    pool: str,
    sources: list[dict[str, Any]],
) -> ToxicSet:
    names = _source_names(sources, name)
    features = [
        ToxicFeature(
            index=int(chosen.indices[i]),
            side="toxic" if chosen.sides[i] > 0 else "benign",
            weight=_short(chosen.weights[i]),
            label=f"feature {chosen.indices[i]}",
            effect_size=_short(chosen.effect_size[i]),
            auroc=_short(chosen.auroc[i]),
            p_value=float(f"{chosen.p_value[i]:.2e}"),
            source=names[int(chosen.source[i])] if int(chosen.source[i]) < len(names) else name,
        )
        for i in range(len(chosen.indices))
    ]
    features.sort(key=lambda f: (f.side != "toxic", -f.weight, -abs(f.effect_size)))
    direction, middle = mean_difference(contrast)
    sae = encoder.sae
    return ToxicSet(
        name=name,
        model=encoder.preset.model,
        revision=encoder.revision,
        sae=encoder.preset.sae,
        hook=encoder.hook,
        d_model=sae.d_model,
        d_sae=sae.d_sae,
        fingerprint=sae.fingerprint,
        pool=pool,
        method=method,
        sources=sources,
        features=features,
        scale=[_short(value) for value in chosen.scale],
        intercept=_short(chosen.intercept),
        direction=[_short(value) for value in direction],
        direction_mean=[_short(value) for value in middle],
        largest=[_short(value) for value in contrast.features.largest()],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def mean_difference(contrast: Contrast) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Unit vector from benign to toxic mean residuals, sources averaged, and the mean of both."""
    differences, middles = [], []
    for label in np.unique(contrast.source):
        rows = contrast.source == label
        toxic = contrast.residual[rows & contrast.toxic].mean(axis=0)
        benign = contrast.residual[rows & ~contrast.toxic].mean(axis=0)
        differences.append(toxic - benign)
        middles.append((toxic + benign) / 2)
    direction = np.mean(differences, axis=0)
    return direction / max(float(np.linalg.norm(direction)), 1e-12), np.mean(middles, axis=0)


def _short(value: float) -> float:
    """Six significant digits: enough for scores to 1e-5, a third of the file."""
    return float(f"{value:.6g}")
