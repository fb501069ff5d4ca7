"""The report's content. JSON is the truth; HTML and Markdown are drawn from this and nothing else."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from saefilter.rows.excerpts import Turn
from saefilter.text import json_safe

if TYPE_CHECKING:
    import pyarrow as pa

    from saefilter.artifacts.scores import Scores

N_FEATURES = 25
REPORT_VERSION = 2
"""2 added `files` and `made_from`; version 1 is read as having neither."""


@dataclass(frozen=True)
class FeatureEvidence:
    """One feature that brought a sample close, and the toxic feature it lies next to."""

    feature: int
    label: str
    share: float
    """Its part of the positive contributions to the sample's score, 0 to 1."""
    toxic_feature: int
    toxic_label: str
    cosine: float
    """Between the two decoder directions."""


@dataclass(frozen=True)
class ThemeEvidence:
    """A theme of the toxic set that stands out in a row. Its words are untrusted."""

    theme: str
    share: float
    """Of the toxic evidence of the row, which is what the set's own toxic features add, 0 to 1."""
    usual: float
    """The same in the harmless rows that the themes were made with, mean over rows."""
    words: list[str]
    """The row's words that carry it, those that add most first."""


@dataclass(frozen=True)
class Closest:
    """The toxic set's example that a row is most like; its text is untrusted."""

    text: str
    prompt: str
    theme: str
    cosine: float
    """Between what the toxic features add in the row and in the example, less what they add in harmless
    rows."""


@dataclass(frozen=True)
class SampleView:
    """One row, as far as a reader needs it. Its text is untrusted."""

    row_id: int
    line: int
    distance: float
    percentile: float | None
    """Share of harmless reference samples that are farther away, 0 to 100."""
    turns: list[Turn]
    words: list[str]
    """The words of the trained text that weigh most, strongest first."""
    features: list[FeatureEvidence]
    truncated: bool = False
    file: str | None = None
    """Which file it is from, where the input is several."""
    score: float | None = None
    """Of the strategy, where it gives one."""
    reason: str = ""
    """Why it was dropped; empty for a kept row."""
    themes: list[ThemeEvidence] = field(default_factory=list)
    """Those that stand out, the most telling first; none where none does or the set has none."""
    closest: Closest | None = None


@dataclass(frozen=True)
class QuarantinedView:
    """A row that could not be scored."""

    row_id: int
    line: int
    reason: str
    file: str | None = None


@dataclass(frozen=True)
class FeatureTotal:
    """A feature's part in the dropped rows beside the kept ones."""

    feature: int
    label: str
    toxic_feature: int
    toxic_label: str
    cosine: float
    dropped_share: float
    """Share of dropped rows where it is among the top features."""
    kept_share: float


@dataclass(frozen=True)
class ThemeTotal:
    """A theme's part in the dropped rows beside the kept ones."""

    theme: str
    dropped_share: float
    """Share of dropped rows in which it stands out."""
    kept_share: float


@dataclass(frozen=True)
class Histogram:
    """Counts of scored rows by distance; `edges` has one more entry than the counts."""

    edges: list[float]
    kept: list[int]
    dropped: list[int]


@dataclass(frozen=True)
class Report:
    """Everything that the report says."""

    version: str
    """Of saefilter."""
    created: str
    """ISO 8601, UTC."""
    input: str
    """File name of the input."""
    input_sha256: str
    outputs: dict[str, str]
    """`kept`, `dropped`, `quarantined` (when there are any) -> file name."""
    counts: dict[str, int]
    """`rows`, `kept`, `dropped`, `quarantined`, `truncated`, `duplicates`; of a soft output also
    `marked`."""
    selection: dict[str, Any]
    """`strategy`, what was asked (`drop_frac`, `drop_count`, `min_distance`, `seed`, `options`), the
    `threshold` distance: the largest distance that was dropped; where the strategy gives scores,
    their `score_name` and the `score_threshold`, the smallest that was dropped; `details` of how the
    strategy came about."""
    scoring: dict[str, Any]
    """`preset`, `model`, `sae`, `hook`, `toxic_set`, `metric`, `pool`, `train_on`, `trainer`, `read`,
    `max_tokens`, `dtype`, `device`, `seconds`, `tokens`, `tokens_per_second`, `own_share` (see
    `Scores.own_share`), `preference` and `unlike` (see `Provenance`)."""
    histogram: Histogram
    flagged: dict[str, int]
    """Rows closer than a share of the harmless reference: `{"95": n, "99": n, "99.9": n}`."""
    reference_rows: int
    """Harmless samples behind the percentiles; 0 when the toxic set has no calibration."""
    reference_name: str | None = field(default=None, kw_only=True)
    """What the user calls them, where they are not the toxic set's. Untrusted."""
    dropped: list[SampleView]
    """The closest dropped rows, closest first; where the strategy gives scores, the first to go."""
    borderline: list[SampleView]
    """The closest rows that were kept; where the strategy gives scores, the next to go."""
    features: list[FeatureTotal]
    quarantined: list[QuarantinedView]
    """The first of them; `counts` has the total."""
    quarantine_reasons: dict[str, int]
    notes: list[str] = field(default_factory=list)
    """Warnings and caveats a reader must see."""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What was written: `kept`, `dropped`, `quarantined`, `report_html`, `report_md`, `card` ->
    `name`, `sha256`, `bytes`, and for rows `rows`."""
    themes: list[ThemeTotal] = field(default_factory=list)
    """In how many rows each stands out; none where the toxic set has none."""
    made_from: dict[str, Any] = field(default_factory=dict)
    """`scores` (file name), `source_dataset` (on the hub), `scores_content_sha256`, `scored_at`, `toxic_set_sha256`,
    `sae_fingerprint`, `revision` of the model, `versions` of the libraries that scored."""
    cut: dict[str, Any] | None = None
    """How many rows go and why, where `--drop auto` found it: fields of `select.auto.Cut`."""
    per: list[dict[str, Any]] = field(default_factory=list)
    """What the cut does to the values of columns: `column`, and `values` with the fields of
    `select.balance.Loss`. Untrusted."""
    written: dict[str, Any] | None = None
    """What a soft output added to all rows (`filtering.soft.Soft.about`); then the rows that stand as
    dropped are marked and not gone, `counts` has them as `marked`, and all are among the kept."""
    layout: list[dict[str, Any]] = field(default_factory=list)
    """Of a folder of files, each one: its `file` name and `rows`, and the `kept`, `dropped` and `quarantined`
    files that were written of it, each with `name`, `sha256`, `bytes` and `rows`. Untrusted."""
    decisions: dict[str, Any] | None = None
    """What people decided on rows (`filter --decisions`): the `file` and its `sha256`, the `reviewer`, how many
    `decisions` it has, rows that they `spared` and `dropped`, decided rows as `near` as the last one that
    goes by its distance, and how many of these they spared (`saved`), scored rows left `undecided`, and decisions
    on rows that have no score or are not in the data (`absent`). Untrusted."""
    report_version: int = REPORT_VERSION

    def to_json(self) -> str:
        """The report as JSON text."""
        text = json.dumps(finite(asdict(self)), ensure_ascii=False, indent=2, allow_nan=False)
        return json_safe(text) + "\n"


def finite(value: Any) -> Any:
    """NaN and infinity as null: they are not JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


@dataclass(frozen=True)
class Evidence:
    """The evidence that a report shows."""

    details: dict[int, dict[str, Any]]
    """`truncated`, `top_features`, `top_words`, and `themes` and `closest` where the scores have them, of
    the wanted rows, by row id."""
    features: list[FeatureTotal]
    """How often each feature is among a row's top ones, in dropped beside kept rows."""
    themes: list[ThemeTotal]
    """In how many of them each theme stands out."""

    @classmethod
    def read(
        cls,
        scores: Scores,
        wanted: Iterable[int],
        *,
        kept: NDArray[np.bool_],
        dropped: NDArray[np.bool_],
    ) -> Evidence:
        """`wanted` are row ids; `kept` and `dropped` are `[n_rows]` of the input."""
        ids = np.array(sorted({int(i) for i in wanted}), dtype=np.int64)
        totals = _FeatureTotals(kept, dropped)
        details: dict[int, dict[str, Any]] = {}
        first = 0
        columns = ["row_id", "truncated", "top_features", "top_words", "themes", "closest"]
        for batch in scores.batches(scores.having(columns)):
            here = ids[(ids >= first) & (ids < first + batch.num_rows)]
            if len(here):
                entries = batch.take(here - first).to_pylist()
                details |= {entry["row_id"]: entry for entry in entries}
            totals.add(first, batch["top_features"])
            if "themes" in batch.schema.names:
                totals.add_themes(first, batch["themes"])
            first += batch.num_rows
        return cls(details, totals.most_common(), totals.themes())


class _FeatureTotals:
    """Counts of features over the rows of a scores file."""

    def __init__(self, kept: NDArray[np.bool_], dropped: NDArray[np.bool_]):
        self._n_kept, self._n_dropped = (int(np.count_nonzero(side)) for side in (kept, dropped))
        self._is_kept, self._is_dropped = kept, dropped
        self._in_kept: Counter[int] = Counter()
        self._in_dropped: Counter[int] = Counter()
        self._first_seen: dict[int, dict[str, Any]] = {}
        self._theme_dropped: Counter[str] = Counter()
        self._theme_kept: Counter[str] = Counter()

    def add(self, first: int, top_features: pa.ListArray) -> None:
        """The top features of the rows from `first` on."""
        flat = pc.list_flatten(top_features)
        if not len(flat):
            return
        rows = first + pc.list_parent_indices(top_features).to_numpy(zero_copy_only=False)
        features = flat.field("feature").to_numpy(zero_copy_only=False)
        self._in_dropped.update(features[self._is_dropped[rows]].tolist())
        self._in_kept.update(features[self._is_kept[rows]].tolist())
        for feature, place in zip(*np.unique(features, return_index=True), strict=True):
            if int(feature) not in self._first_seen:
                self._first_seen[int(feature)] = flat[int(place)].as_py()

    def add_themes(self, first: int, themes: pa.ListArray) -> None:
        """The themes that stand out in the rows from `first` on."""
        rows = first + pc.list_parent_indices(themes).to_numpy(zero_copy_only=False)
        names = pc.list_flatten(themes).field("theme").to_pylist()
        for row, name in zip(rows.tolist(), names, strict=True):
            self._theme_dropped[name] += bool(self._is_dropped[row])
            self._theme_kept[name] += bool(self._is_kept[row])

    def themes(self) -> list[ThemeTotal]:
        """All themes, those that are in most dropped rows first."""
        return [
            ThemeTotal(
                name, count / max(1, self._n_dropped), self._theme_kept[name] / max(1, self._n_kept)
            )
            for name, count in self._theme_dropped.most_common()
        ]

    def most_common(self) -> list[FeatureTotal]:
        """The features that are in most dropped rows."""
        totals = []
        for feature, count in self._in_dropped.most_common(N_FEATURES):
            example = self._first_seen[feature]
            totals.append(
                FeatureTotal(
                    feature,
                    example["label"],
                    example["toxic_feature"],
                    example["toxic_label"],
                    example["cosine"],
                    count / max(1, self._n_dropped),
                    self._in_kept[feature] / max(1, self._n_kept),
                )
            )
        return totals
