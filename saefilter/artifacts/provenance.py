"""What made a scores file: kept in its metadata, repeated in reports and in what is filtered by it.

`Identity` is what a loaded scorer is made of; `Provenance` adds what a run found. Both are flat, and
their field names are the keys in files.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from saefilter.columns import Columns

SCORES_VERSION = 1
METADATA_KEY = b"saefilter"
"""Of the key-value metadata of every Parquet file that saefilter writes, but for parts of scores."""
PART_KEY = b"saefilter-part"
"""Of these; they are no scores before they are merged."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What scores depend on besides the rows, and what a reader must know of them. Equal wherever the
    same settings were loaded, but for the device."""

    preset: str
    model: str
    revision: str | None = None
    """Commit of the model, where it came from the hub."""
    sae: str
    hook: str
    sae_fingerprint: str
    toxic_set: str
    toxic_set_sha256: str
    metric: str
    pool: str
    train_on: str
    """Which turns were scored, where `trainer` is None."""
    trainer: str | None = None
    """Whose tokens were scored instead; None in files of before there was any."""
    read: str = "at"
    """Whether the model was read at each of these tokens, or before it."""
    max_tokens: int
    truncation_side: str = "right"
    rendering: str = "plain"
    dtype: str
    quantize: str = "none"
    device: str
    reference_rows: int
    """Harmless samples behind the percentiles; 0 without any."""
    reference: dict[str, Any] | None = None
    """What percentiles and verdicts rest on, from the toxic set's calibration: `groups` (effective
    number behind the reference rows), `held_out` (entries of `HeldOut`), `auroc` (held out, with its
    interval), and `missing`, why there are no percentiles. With `--reference` also `name`, `sha256`, and
    the `proximity` of its rows with the `group` of each. None in files of before it was kept."""
    settings: dict[str, Any] | None = None
    """What was asked for, of all that scores depend on: setting -> value, before presets, `auto` and
    toxic sets decided the rest. None in files of before it was kept."""

    learnt_from: list[str] | None = None
    """Hashes of the rows whose decisions the toxic set has learnt from: they are no test of it. Kept here, since
    the set may be moved or edited later."""

    @property
    def columns(self) -> str | None:
        """Which of the data's columns hold what, as a user or a trainer's file said it."""
        return (self.settings or {}).get("columns")

    @property
    def own_columns(self) -> Columns:
        """The same, read."""
        return Columns.parse(self.columns)

    @property
    def scored_by(self) -> str:
        """The trainer whose tokens were scored, or else the value of --train-on."""
        return self.trainer or self.train_on

    @property
    def reference_name(self) -> str | None:
        """What the user calls the reference rows; None where they are the toxic set's. Untrusted."""
        return (self.reference or {}).get("name")

    @property
    def reference_sha256(self) -> str | None:
        """Of the content of the user's reference rows."""
        return (self.reference or {}).get("sha256")


@dataclass(frozen=True, kw_only=True)
class Provenance(Identity):
    """What made a scores file, and what the run found."""

    version: str
    """Of saefilter."""
    created: str
    input_path: str
    input_sha256: str
    rows: int
    scored: int
    quarantined: int
    truncated: int
    duplicates: int
    tokens: int
    """Tokens the model read."""
    seconds: float
    note: str | None
    """The preset's caveat, and warnings of the run."""
    l0: float = 0.0
    """Features active per scored token, measured."""
    spillover: list[dict[str, Any]] | None = None
    """Predicted push of training on these rows on each toxic feature, beyond that of the calibration's
    reference rows: `feature`, `label`, `push`, `low`, `high` (95 %), largest push first. None when
    the toxic set's calibration does not hold the reference's."""
    likeness: dict[str, list[float]] | None = None
    """How like the reference the rows are: measure (`tokens`, `active`, `rarity`, `score`) -> AUROC of
    rows against reference (0.5: alike), and mean over rows. None where the reference does not tell."""
    unlike: list[str] | None = None
    """In what they are unlike it, a clause each; the note says it too."""
    formats: dict[str, int] | None = None
    """As what the scored rows were read: format -> rows, commonest first. None in files of before it
    was kept."""
    preference: dict[str, Any] | None = None
    """Of preference data: `kind` (`pairs` or `labelled`), `by` (what the difference is of), `middle` (of labelled answers, on the
    metric's linear scale, from which they count), `towards` and `same`
    (scored rows whose push is above 0, and 0). None where rows train on an answer as it stands."""
    cascade: dict[str, Any] | None = None
    """Where a cheap `reader` ranked the rows and the model read some: of the `nearest` rows at least the share
    `recall` was read, with that `confidence` (`reached`: as much as was `wanted_recall`); `cut` is the distance of
    the last of them. Rows drawn at random (`pilot`, `audit` at a `rate`), rows read by the order (`front`), audited
    rows beyond it that are as near as its last needed one (`near_in_audit` of `allowed_in_audit`), the
    `correlation` of guesses with distances, how many rows are only `estimated`, the `coverage` of their intervals by
    so many `interval_rows`, tokens that the cheap reader read and tokens that the model was spared. None where
    the model read all rows; `scored` counts those that it read."""
    told: dict[str, int] | None = None
    """What of scored rows is not scored, or is odd: phrase -> rows."""
    padding: float = 0.0
    """Share of the tokens read that were padding."""
    shared: float = 0.0
    """Share of the tokens read that began a row as another one does, and were computed once."""
    repeated: int = 0
    """Tokens that were not read, of rows with the text of another one, or nearly (`near_duplicates`)."""
    left_out: int = 0
    """Scored tokens that were not in the sample which the SAE read (`max_scored_tokens`)."""
    timings: dict[str, float] | None = None
    """Seconds spent on each stage (`read`, `render`, `encode`, `geometry`, `write`), summed over shards;
    stages of different shards overlap. None where no times are kept."""
    fingerprint: str = ""
    """Digest of everything that the scores depend on; see `ScoreSettings.fingerprint`."""
    content_sha256: str | None = None
    """Of the rows, by `integrity.py`; None in files of before it was kept."""
    versions: dict[str, str] | None = None
    """Of the libraries that computed and wrote the scores."""
    scores_version: int = SCORES_VERSION

    @classmethod
    def of(cls, identity: Identity, **found: Any) -> Provenance:
        """What a run found, with the scorer that it was found by."""
        return cls(**{one.name: getattr(identity, one.name) for one in fields(Identity)}, **found)

    @property
    def estimated(self) -> int:
        """Rows of a cascade that the model did not read."""
        return int((self.cascade or {}).get("estimated", 0))

    def to_metadata(self) -> dict[bytes, bytes]:
        """As Parquet key-value metadata."""
        return {METADATA_KEY: json.dumps(asdict(self)).encode()}

    def tokens_per_second(self) -> float:
        """Throughput of the run that made the scores."""
        return self.tokens / self.seconds if self.seconds else 0.0
