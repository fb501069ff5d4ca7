"""Diagnose a dataset: encode it and a harmless reference, and look where its features lie."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saefilter import __version__
from saefilter.diagnose.features import Diagnosis, Options, diagnose
from saefilter.errors import SaefilterError
from saefilter.geometry.spillover import Spillover, spillover, spillover_rows
from saefilter.rows.formats import Conversation, RowProblem, recognise
from saefilter.rows.read import Source
from saefilter.settings import ScoreSettings
from saefilter.stats.auroc import auroc, auroc_interval

if TYPE_CHECKING:
    from saefilter.curate.contrast import Contrast
    from saefilter.curate.curate import ContrastEncoder
    from saefilter.encode.encoder import Encoder
    from saefilter.toxic.toxicset import ToxicSet

MIN_ROWS = 20
MAP_RANDOM = 300
MAPS = ("pca", "umap")
Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class MapPoint:
    """A feature's place on the 2-D map."""

    x: float
    y: float
    kind: str
    """`toxic`, `data`, `both` or `other`."""
    feature: int
    label: str


@dataclass(frozen=True)
class DataFeature:
    """A feature that marks the data, and the toxic feature it lies next to."""

    feature: int
    label: str
    correlation: float
    cosine: float
    toxic_feature: int
    toxic_label: str
    in_set: bool


@dataclass(frozen=True)
class SampleProximity:
    """The rows' own scores, data against reference."""

    metric: str
    auroc: float
    """Chance that a data row is nearer than a reference row."""
    low: float
    high: float
    """95 % bootstrap interval."""
    data_median: float
    reference_median: float


@dataclass(frozen=True)
class SpaceDiagnosis:
    """The geometry as one SAE shows it."""

    preset: str
    model: str
    sae: str
    hook: str
    toxic_set: str
    d_sae: int
    toxic_features: int
    closer: bool
    decided: bool
    """Whether enough features mark the data to say how near they lie."""
    verdict: str
    significant: int
    mean: float
    in_set: int
    random: dict[str, float]
    matched: dict[str, float]
    interval: tuple[float, float]
    data_features: list[DataFeature]
    matched_proximity: list[float]
    spillover: list[Spillover]
    samples: SampleProximity
    map: list[MapPoint]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class GeometryReport:
    """What `saefilter geometry` found; the JSON file is exactly this."""

    input: str
    against: str
    rows: int
    against_rows: int
    left_out: int
    options: dict[str, Any]
    spaces: list[SpaceDiagnosis]
    notes: list[str]
    version: str = __version__
    created: str = field(
        default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds")
    )

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n"


def sampled(source: Source, limit: int) -> tuple[list[Conversation], int]:
    """At most `limit` conversations, evenly spaced, and how many of the rows looked at have none."""
    total = source.count_rows()
    step = max(1, -(-total // limit))
    conversations, left_out = [], 0
    for row in source.rows(range(0, total, step)):
        try:
            conversations.append(recognise(row.data or {}))
        except RowProblem:
            left_out += 1
    return conversations, left_out


def diagnose_rows(
    encoder: Encoder,
    toxic_set: ToxicSet,
    data: Sequence[Conversation],
    reference: Sequence[Conversation],
    options: Options,
    *,
    map_by: str = "pca",
    train_on: str = "assistant",
    trainer: str | None = None,
    read: str = "at",
    rendering: str = "auto",
    advance: Advance | None = None,
) -> SpaceDiagnosis:
    """Diagnose data rows against reference rows in one SAE. Raises SaefilterError when either has
    too few usable rows, or the set is of another SAE."""
    from saefilter.curate.curate import ContrastEncoder
    from saefilter.geometry.scorer import Scorer

    toxic_set.check_belongs(
        fingerprint=encoder.sae.fingerprint, d_model=encoder.sae.d_model,
        d_sae=encoder.sae.d_sae, model=encoder.preset.model, sae_name=encoder.preset.sae,
        unit_decoder=encoder.sae.has_unit_decoder,
    )  # fmt: skip
    collected = ContrastEncoder(
        encoder,
        ScoreSettings(
            pool=toxic_set.pool, train_on=train_on, rendering=rendering, trainer=trainer, read=read
        ),
    )
    contrast = _encoded(collected, data, reference, advance)
    features, is_data = contrast.features.tocsr(), contrast.toxic
    directions = encoder.sae.directions()
    toxic = toxic_set.strongest(options.toxic_features)
    diagnosis = diagnose(features, is_data, directions, toxic, options)
    labels = toxic_set.labels()
    scorer = Scorer(toxic_set, directions)
    proximity = scorer.score(features, contrast.residual).proximity
    pushes = spillover_rows(features, directions @ directions[toxic].T)
    drawn = {"draws": options.bootstrap, "seed": options.seed}
    return SpaceDiagnosis(
        preset=encoder.preset.name,
        model=encoder.preset.model,
        sae=encoder.preset.sae,
        hook=encoder.hook,
        toxic_set=toxic_set.name,
        d_sae=encoder.sae.d_sae,
        toxic_features=len(toxic),
        closer=diagnosis.closer,
        decided=diagnosis.told_apart,
        verdict=verdict(diagnosis),
        significant=diagnosis.significant,
        mean=diagnosis.mean,
        in_set=diagnosis.in_set,
        random=asdict(diagnosis.random),
        matched=asdict(diagnosis.matched),
        interval=diagnosis.interval,
        data_features=_data_features(diagnosis, labels, set(toxic.tolist())),
        matched_proximity=[round(float(value), 5) for value in diagnosis.random_proximity],
        spillover=spillover(pushes[is_data], pushes[~is_data], toxic, labels, **drawn),
        samples=_samples(scorer.metric.name, proximity, is_data, options),
        map=_map(directions, toxic, diagnosis.data_features, labels, map_by, options.seed),
        notes=[*encoder.all_warnings()],
    )


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


def verdict(diagnosis: Diagnosis) -> str:
    """The finding in a sentence or two."""
    n = len(diagnosis.data_features)
    if not diagnosis.told_apart:
        return (
            f"{diagnosis.significant or 'No'} features tell the data from the reference (at a "
            "false-discovery rate of 5 %), no more than chance gives: either the data are like the "
            "reference, or more rows are needed to see how they differ."
        )
    null = diagnosis.matched
    return (
        f"The {n} features that mark the data ({diagnosis.significant} hold at a false-discovery rate of "
        f"5 %) have a mean cosine of {diagnosis.mean:.3f} to their nearest toxic feature; features that "
        f"fire as often have {null.mean:.3f} (p = {null.p_value:.4f}, {null.effect:+.1f} standard "
        f"deviations; 95 % interval of the difference {diagnosis.interval[0]:+.3f} to "
        f"{diagnosis.interval[1]:+.3f})."
    )


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
    metric: str, proximity: NDArray[np.float64], is_data: NDArray[np.bool_], options: Options
) -> SampleProximity:
    low, high = auroc_interval(is_data, proximity, draws=options.bootstrap, seed=options.seed)
    return SampleProximity(
        metric,
        auroc(is_data, proximity),
        low,
        high,
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
