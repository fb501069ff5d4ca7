"""Diagnose a dataset: encode it and a harmless reference, and look where its features lie."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saefilter import __version__
from saefilter.diagnose.features import LEVEL, Diagnosis, Options, diagnose
from saefilter.errors import SaefilterError
from saefilter.geometry.spillover import Spillover, spillover, spillover_rows
from saefilter.rows.formats import Conversation, RowProblem, recognise
from saefilter.rows.groups import MIN_GROUPS, Groups, Units
from saefilter.rows.read import Source
from saefilter.settings import ScoreSettings
from saefilter.stats.auroc import grouped_auroc
from saefilter.stats.moments import holm

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
    """95 % bootstrap interval over groups."""
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
    """Whether there are groups enough, and features that mark the data, to say how near they lie."""
    enough: bool
    """Whether there are groups enough for p-values."""
    verdict: str
    significant: int
    apart_p: float | None
    """That features mark the data no more than chance gives."""
    mean: float
    matched: float
    """Mean proximity of features that fire as often."""
    in_set: int
    chance: dict[str, float] | None
    """Of the difference of the two means, rows relabelled by group; None without groups enough."""
    topics: dict[str, float] | None
    """Of the same difference, rows split by topic."""
    p_value: float | None
    """The larger of the two."""
    p_corrected: float | None
    """After Holm, over the SAEs of the report."""
    interval: tuple[float, float] | None
    """95 % of the difference, by resampling groups and choosing the features anew."""
    groups: str
    effective: tuple[float, float]
    """Effective number of independent units of the data and of the reference."""
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


def sampled(
    source: Source, limit: int, column: str | None = None
) -> tuple[list[Conversation], list[Any], int]:
    """At most `limit` conversations, evenly spaced; what `column` says of each; and how many of the rows
    looked at have no conversation. Raises SaefilterError for a row that lacks the column."""
    from saefilter.curate.sources import group_value

    total = source.count_rows()
    step = max(1, -(-total // limit))
    conversations, values, left_out = [], [], 0
    for row in source.rows(range(0, total, step)):
        try:
            conversations.append(recognise(row.data or {}))
        except RowProblem:
            left_out += 1
            continue
        values.append(group_value(row, column, source))
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
    labels = toxic_set.labels()
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
        **_finding(diagnosis),
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


def _finding(diagnosis: Diagnosis) -> dict[str, Any]:
    """What the diagnosis says, as the fields of `SpaceDiagnosis`; no p-value without groups enough."""
    enough = diagnosis.enough
    return {
        "closer": diagnosis.closer(diagnosis.p_value),
        "decided": diagnosis.told_apart,
        "enough": enough,
        "verdict": verdict(diagnosis),
        "significant": diagnosis.significant,
        "apart_p": diagnosis.apart.p_value if enough else None,
        "mean": diagnosis.mean,
        "matched": diagnosis.matched,
        "in_set": diagnosis.in_set,
        "chance": asdict(diagnosis.chance) if enough else None,
        "topics": asdict(diagnosis.topics) if enough else None,
        "p_value": diagnosis.p_value,
        "p_corrected": diagnosis.p_value,
        "interval": diagnosis.interval,
        "effective": diagnosis.effective,
        "matched_proximity": [round(float(value), 5) for value in diagnosis.matched_proximity],
    }


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


def corrected(spaces: list[SpaceDiagnosis]) -> list[SpaceDiagnosis]:
    """With p-values corrected for there being several SAEs or layers (Holm 1979)."""
    tested = [space for space in spaces if space.p_value is not None]
    held = iter(holm(np.array([space.p_value for space in tested], dtype=np.float64)).tolist())
    by_space = [None if space.p_value is None else float(next(held)) for space in spaces]
    return [
        replace(space, p_corrected=p, closer=space.closer and p is not None and p < LEVEL)
        for space, p in zip(spaces, by_space, strict=True)
    ]


def verdict(diagnosis: Diagnosis) -> str:
    """The finding in a sentence or two."""
    n = len(diagnosis.data_features)
    if not diagnosis.enough:
        data, reference = diagnosis.effective
        return (
            f"Cannot tell: the rows say as much as {data:.0f} independent groups of data and "
            f"{reference:.0f} of the reference; {MIN_GROUPS} of either are the least for a p-value. "
            "Rows with more prompts are needed, or --group where these are told apart wrongly."
        )
    if not diagnosis.told_apart:
        return (
            f"Features tell the data from the reference no better than chance (p = "
            f"{diagnosis.apart.p_value:.3f}): either the data are like the reference, or more rows "
            "are needed to see how they differ."
        )
    chance, topics = diagnosis.chance.p_value, diagnosis.topics.p_value
    low, high = diagnosis.interval or (0.0, 0.0)
    return (
        f"The {n} features that mark the data ({diagnosis.significant} each by itself) have a mean "
        f"cosine of {diagnosis.mean:.3f} to their nearest toxic feature, features that fire as often "
        f"{diagnosis.matched:.3f} (95 % interval of the difference {low:+.3f} to "
        f"{high:+.3f}). As large a difference arises with p = {chance:.3f} when rows "
        f"are relabelled by group, and with p = {topics:.3f} when the same rows are split by topic"
        f"{_beyond(chance, topics)}."
    )


def _beyond(chance: float, topics: float) -> str:
    """What the two p-values come to."""
    if chance >= LEVEL:
        return ": chance explains it"
    return ": it may be the topic" if topics >= LEVEL else ""


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
