"""Diagnose a dataset: encode it and a harmless reference, and look where its features lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saefilter.columns import Columns
from saefilter.diagnose.features import Diagnosis, Options, diagnose
from saefilter.diagnose.result import (
    DataFeature,
    MapPoint,
    SampleProximity,
    SpaceDiagnosis,
    said_of,
)
from saefilter.errors import SaefilterError
from saefilter.geometry.spillover import spillover, spillover_rows
from saefilter.rows.formats import Conversation, RowProblem, recognise
from saefilter.rows.groups import Groups, Units
from saefilter.rows.read import Source
from saefilter.settings import ScoreSettings
from saefilter.stats.auroc import grouped_auroc
from saefilter.toxic.themes import labels_in_themes

if TYPE_CHECKING:
    from saefilter.curate.contrast import Contrast
    from saefilter.curate.curate import ContrastEncoder
    from saefilter.encode.encoder import Encoder
    from saefilter.toxic.toxicset import ToxicSet

MIN_ROWS = 20
MAP_RANDOM = 300
MAPS = ("pca", "umap")
Advance = Callable[[int, int], None]


def sampled(
    source: Source, limit: int, column: str | None = None, columns: Columns | None = None
) -> tuple[list[Conversation], list[Any], int]:
    """At most `limit` conversations, evenly spaced; what `column` says of each; and how many of the rows
    looked at have no conversation. Raises SaefilterError for a row that lacks the column, and where no row
    has a conversation."""
    from saefilter.curate.sources import group_value

    total = source.count_rows()
    step = max(1, -(-total // limit))
    conversations, values, left_out, first = [], [], 0, None
    for row in source.rows(range(0, total, step)):
        try:
            conversations.append(recognise(row.data or {}, columns))
        except RowProblem as problem:
            left_out += 1
            first = first or (row.line, row.error or str(problem))
            continue
        values.append(group_value(row, column, source))
    if first and not conversations:
        raise SaefilterError(
            f"no row can be used; the first: {first[1]}", where=f"{source.path}:{first[0]}"
        )
    return conversations, values, left_out


def diagnose_rows(
    encoder: Encoder,
    toxic_set: ToxicSet,
    data: Sequence[Conversation],
    reference: Sequence[Conversation],
    options: Options,
    groups: Groups,
    *,
    map_by: str = "pca",
    settings: ScoreSettings | None = None,
    advance: Advance | None = None,
) -> SpaceDiagnosis:
    """Diagnose data rows against reference rows in one SAE; `groups` are of the data's rows and then the
    reference's. Raises SaefilterError when either has too few usable rows, or the set is of another
    SAE."""
    from saefilter.curate.curate import ContrastEncoder
    from saefilter.geometry.scorer import Scorer

    toxic_set.check_belongs(
        fingerprint=encoder.sae.fingerprint, d_model=encoder.sae.d_model,
        d_sae=encoder.sae.d_sae, model=encoder.preset.model, sae_name=encoder.preset.sae,
        unit_decoder=encoder.sae.has_unit_decoder,
    )  # fmt: skip
    collected = ContrastEncoder(
        encoder,
        replace(settings or ScoreSettings(), pool=toxic_set.pool),
        groups,
    )
    contrast = _encoded(collected, data, reference, advance)
    features, is_data = contrast.features.tocsr(), contrast.toxic
    directions = encoder.sae.directions()
    toxic = toxic_set.strongest(options.toxic_features)
    units = Units.of(is_data, contrast.groups, contrast.texts)
    diagnosis = diagnose(features, is_data, directions, toxic, options, units)
    labels = labels_in_themes(toxic_set.labels(), toxic_set.themes)
    scorer = Scorer(toxic_set, directions)
    proximity = scorer.score(features, contrast.residual).proximity
    pushes = spillover_rows(features, directions @ directions[toxic].T)
    return SpaceDiagnosis(
        preset=encoder.preset.name,
        model=encoder.preset.model,
        sae=encoder.preset.sae,
        hook=encoder.hook,
        toxic_set=toxic_set.name,
        d_sae=encoder.sae.d_sae,
        toxic_features=len(toxic),
        groups=str(groups),
        **said_of(diagnosis),
        data_features=_data_features(diagnosis, labels, set(toxic.tolist())),
        spillover=spillover(
            pushes[is_data], pushes[~is_data], toxic, labels,
            groups=(units.number[is_data], units.number[~is_data]),
            draws=options.bootstrap, seed=options.seed,
        ),
        samples=_samples(scorer.metric.name, proximity, is_data, units, options),
        map=_map(directions, toxic, diagnosis.data_features, labels, map_by, options.seed),
        notes=[*encoder.all_warnings()],
    )  # fmt: skip


def _encoded(
    collected: ContrastEncoder,
    data: Sequence[Conversation],
    reference: Sequence[Conversation],
    advance: Advance | None,
) -> Contrast:
    """Both as a contrast, the data on its toxic side. Raises SaefilterError for too few rows."""
    for what, rows, side in (("data", data, True), ("reference", reference, False)):
        if (usable := collected.add(rows, side, advance=advance)) < MIN_ROWS:
            raise SaefilterError(
                f"only {usable} usable {what} rows; at least {MIN_ROWS} are needed"
            )
    return collected.result()


def _data_features(
    diagnosis: Diagnosis, labels: dict[int, str], toxic: set[int]
) -> list[DataFeature]:
    return [
        DataFeature(
            feature=int(feature),
            label=labels.get(int(feature), f"feature {feature}"),
            correlation=float(correlation),
            cosine=float(cosine),
            toxic_feature=int(nearest),
            toxic_label=labels.get(int(nearest), f"feature {nearest}"),
            in_set=int(feature) in toxic,
        )
        for feature, correlation, cosine, nearest in zip(
            diagnosis.data_features,
            diagnosis.correlation,
            diagnosis.proximity,
            diagnosis.nearest,
            strict=True,
        )
    ]


def _samples(
    metric: str,
    proximity: NDArray[np.float64],
    is_data: NDArray[np.bool_],
    units: Units,
    options: Options,
) -> SampleProximity:
    one_source = np.zeros(len(is_data), dtype=np.int64)
    drawn = {"draws": options.bootstrap, "seed": options.seed}
    return SampleProximity(
        metric,
        *grouped_auroc(is_data, proximity, units.number, one_source, **drawn),
        float(np.median(proximity[is_data])),
        float(np.median(proximity[~is_data])),
    )


def _map(
    directions: NDArray[np.float32],
    toxic: NDArray[np.int64],
    data: NDArray[np.int64],
    labels: dict[int, str],
    map_by: str,
    seed: int,
) -> list[MapPoint]:
    """Toxic and data features among some others, in two dimensions."""
    rng = np.random.default_rng(seed)
    both = np.intersect1d(toxic, data)
    named = np.union1d(toxic, data)
    others = np.setdiff1d(np.arange(len(directions)), named)
    others = rng.choice(others, min(MAP_RANDOM, len(others)), replace=False)
    shown = np.concatenate([others, named]).astype(np.int64)
    places = _two_dimensions(directions[shown], map_by, seed)

    def kind(feature: int) -> str:
        if feature in both:
            return "both"
        return "toxic" if feature in toxic else "data" if feature in data else "other"

    return [
        MapPoint(
            round(float(x), 4), round(float(y), 4), kind(int(feature)), int(feature),
            labels.get(int(feature), f"feature {feature}"),
        )
        for feature, (x, y) in zip(shown, places, strict=True)
    ]  # fmt: skip


def _two_dimensions(directions: NDArray[np.float32], map_by: str, seed: int) -> NDArray[np.float32]:
    if map_by == "umap":
        try:
            from umap import UMAP
        except ImportError:
            raise SaefilterError(
                "--map umap needs umap-learn", remedy="Run: pip install umap-learn"
            ) from None
        placed: NDArray[np.float32] = UMAP(metric="cosine", random_state=seed).fit_transform(
            directions
        )
        return placed
    from sklearn.decomposition import PCA

    projected: NDArray[np.float32] = PCA(2, random_state=seed).fit_transform(directions)
    return projected
