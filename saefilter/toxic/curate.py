"""Curate a toxic set: contrast data in, a set with statistics, weights, labels and calibration out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saefilter.encode.encoder import DEFAULT_BATCH_TOKENS, Encoder
from saefilter.errors import SaefilterError
from saefilter.geometry.metrics import METRICS, Sample
from saefilter.geometry.scorer import Scorer
from saefilter.geometry.space import FeatureSpace
from saefilter.rows.formats import Conversation, RowProblem, recognise
from saefilter.rows.read import Source
from saefilter.rows.render import RenderOptions
from saefilter.toxic.contrast import Contrast
from saefilter.toxic.labels import describe_features
from saefilter.toxic.select import (
    Chosen,
    CurationOptions,
    choose_features,
    choose_penalties,
    mean_difference,
    weigh,
)
from saefilter.toxic.toxicset import Calibration, ToxicFeature, ToxicSet
from saefilter.toxic.weights import Penalty

LEVELS = (*(i / 200 for i in range(200)), 0.9975, 0.999, 1.0)
"""Of the calibration's quantiles; finer at the toxic end, where gates look."""
MIN_ROWS = 10
"""Fewer usable rows than this on a side cannot be split and tested."""
LABELLED_NEIGHBOURS = 400
"""Features outside the set that get a label, those it pushes most."""
CURATION_MAX_TOKENS = 1024
CHUNK_ROWS = 2048


@dataclass(frozen=True)
class ContrastFiles:
    """One source of contrast: rows that are toxic and rows that are not."""

    toxic: Source
    benign: Source


def curate(
    encoder: Encoder,
    files: Sequence[ContrastFiles],
    *,
    name: str,
    options: CurationOptions,
    pool: str = "mean",
    train_on: str = "assistant",
    rendering: str = "auto",
    describe_with: Sequence[Source] = (),
    advance: Callable[[int, int], None] | None = None,
) -> ToxicSet:
    """A toxic set for the encoder's SAE from contrast files.

    Labels and snippets are made from `describe_with`, so that a set can be shared without the text
    it was made from; by default from the contrast files. Raises SaefilterError when a file cannot be
    used or no feature is confirmed.
    """
    parts: list[Contrast] = []
    sources: list[dict[str, Any]] = []
    for number, pair in enumerate(files):
        for source, toxic in ((pair.toxic, True), (pair.benign, False)):
            part = encode_contrast(
                encoder, source, toxic, number, pool, train_on, rendering, advance
            )
            parts.append(part)
            sources.append(
                {
                    "name": source.path.name,
                    "side": "toxic" if toxic else "benign",
                    "rows": len(part.toxic),
                    "sha256": source.sha256(),
                }
            )
    toxic_set = assemble(
        encoder, joined(parts), name=name, options=options, pool=pool, sources=sources
    )
    texts = list(describe_with) or [
        source for pair in files for source in (pair.toxic, pair.benign)
    ]
    conversations = [c for source in texts for c in usable_rows(source)]
    return with_labels(toxic_set, encoder, conversations, rendering)


def usable_rows(source: Source) -> list[Conversation]:
    """The conversations of an input; rows without one are left out."""
    found = []
    for row in source.rows():
        try:
            found.append(recognise(row.data or {}))
        except RowProblem:
            continue
    return found


def encode_contrast(
    encoder: Encoder,
    rows: Source,
    toxic: bool,
    source: int,
    pool: str,
    train_on: str,
    rendering: str,
    advance: Callable[[int, int], None] | None = None,
) -> Contrast:
    """One side of one source, encoded. Raises SaefilterError when it has too few usable rows."""
    conversations = usable_rows(rows)
    part = encode_conversations(encoder, conversations, pool, train_on, rendering, advance)
    usable = np.asarray(part[0].sum(axis=1)).ravel() > 0
    if usable.sum() < MIN_ROWS:
        raise SaefilterError(
            f"only {usable.sum()} usable rows; at least {MIN_ROWS} are needed", where=str(rows.path)
        )
    n = int(usable.sum())
    return Contrast(
        part[0][usable], part[1][usable], np.full(n, toxic), np.full(n, source, dtype=np.int64)
    )


def encode_conversations(
    encoder: Encoder,
    conversations: Sequence[Conversation],
    pool: str = "mean",
    train_on: str = "assistant",
    rendering: str = "auto",
    advance: Callable[[int, int], None] | None = None,
) -> tuple[sparse.csr_matrix, NDArray[np.float32]]:
    """Pooled activations `[n, d_sae]` and mean residuals `[n, d_model]`."""
    renderer = encoder.renderer(RenderOptions(CURATION_MAX_TOKENS, train_on), rendering)
    features, residuals = [], []
    for start in range(0, len(conversations), CHUNK_ROWS):
        chunk = conversations[start : start + CHUNK_ROWS]
        _rows, windows = renderer.render(chunk)
        encoded = encoder.encode(windows, len(chunk), pool=pool)
        features.append(encoded.features)
        residuals.append(encoded.residual)
        if advance is not None:
            advance(len(chunk), sum(len(window.ids) for window in windows))
    if not features:
        return sparse.csr_matrix((0, encoder.sae.d_sae)), np.zeros((0, encoder.sae.d_model), "f4")
    return sparse.vstack(features).tocsr(), np.concatenate(residuals)


def joined(parts: Sequence[Contrast]) -> Contrast:
    """Several parts as one."""
    return Contrast(
        sparse.vstack([part.features for part in parts]).tocsr(),
        np.concatenate([part.residual for part in parts]),
        np.concatenate([part.toxic for part in parts]),
        np.concatenate([part.source for part in parts]),
    )


def assemble(
    encoder: Encoder,
    contrast: Contrast,
    *,
    name: str,
    options: CurationOptions,
    pool: str,
    sources: list[dict[str, Any]],
) -> ToxicSet:
    """A set from encoded contrast data; labels are yet to come. Raises SaefilterError when no toxic
    feature is confirmed."""
    penalties = choose_penalties(contrast, options)
    chosen = choose_features(contrast, options, penalties)
    if not (chosen.signs > 0).any():
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
    toxic_set = _as_set(encoder, contrast, chosen, name, method, pool, sources)
    halves = contrast.halves(options.seed)
    return replace(
        toxic_set, calibration=_calibrate(encoder, contrast, toxic_set, penalties, halves)
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
    names = [entry["name"] for entry in sources if entry["side"] == "toxic"] or [name]
    features = [
        ToxicFeature(
            index=int(chosen.indices[i]),
            side="toxic" if chosen.signs[i] > 0 else "benign",
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
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _calibrate(
    encoder: Encoder,
    contrast: Contrast,
    toxic_set: ToxicSet,
    penalties: Mapping[int, Penalty],
    halves: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> Calibration:
    """Quantiles of the benign rows' proximity, each scored with weights fitted on the other half:
    the weights know the rows they were fitted on."""
    directions = encoder.sae.directions()
    found: dict[str, list[NDArray[np.float32]]] = {}
    for fitting, scoring in (halves, halves[::-1]):
        refitted = _refitted(toxic_set, contrast.part(fitting), penalties)
        space = FeatureSpace.of(refitted, directions)
        benign = contrast.part(scoring & ~contrast.toxic)
        sample = Sample(benign.features, benign.residual)
        for metric in METRICS.values():
            if not metric.needs_weights or (space.weighted_toxic and space.weighted_benign):
                key = f"{metric.name}/{toxic_set.pool}"
                found.setdefault(key, []).append(metric.proximity(space, sample))
    return Calibration(
        rows=int((~contrast.toxic).sum()),
        levels=LEVELS,
        quantiles={
            key: tuple(_short(q) for q in np.quantile(np.concatenate(values), LEVELS))
            for key, values in found.items()
            if len(values) == 2
        },
    )


def _refitted(
    toxic_set: ToxicSet, contrast: Contrast, penalties: Mapping[int, Penalty]
) -> ToxicSet:
    """The same features with the weights that these rows alone give them."""
    scale = np.asarray(toxic_set.scale)
    signs = np.zeros(len(scale))
    for feature in toxic_set.features:
        signs[feature.index] = 1.0 if feature.side == "toxic" else -1.0
    weights, intercept = weigh(contrast, signs, scale, penalties)
    features = [
        replace(feature, weight=float(abs(weights[feature.index])))
        for feature in toxic_set.features
    ]
    return replace(toxic_set, features=features, intercept=intercept)


def with_labels(
    toxic_set: ToxicSet,
    encoder: Encoder,
    conversations: Sequence[Conversation],
    rendering: str = "auto",
) -> ToxicSet:
    """The set with labels and snippets of its features, and labels of the features next to them."""
    renderer = encoder.renderer(RenderOptions(CURATION_MAX_TOKENS), rendering)
    rendered, windows = renderer.render(conversations)
    push = Scorer(toxic_set, encoder.sae.directions()).token_weights
    own = [feature.index for feature in toxic_set.features]
    near = [int(i) for i in np.argsort(-push)[:LABELLED_NEIGHBOURS] if push[i] > 0]
    described = describe_features(
        encoder, rendered, windows, own + near, batch_tokens=DEFAULT_BATCH_TOKENS
    )
    return replace(
        toxic_set,
        features=[
            replace(
                feature,
                label=described[feature.index].label,
                snippets=described[feature.index].snippets,
            )
            for feature in toxic_set.features
        ],
        neighbour_labels={
            str(index): described[index].label for index in sorted(set(near) - set(own))
        },
    )


def _short(value: float) -> float:
    """Six significant digits: enough for scores to 1e-5, a third of the file."""
    return float(f"{value:.6g}")
