"""What a comparison says. JSON is the truth; page, Markdown and console are drawn from this alone."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from saefilter.report.data import finite
from saefilter.text import json_safe

COMPARISON_VERSION = 1


@dataclass(frozen=True)
class AtFraction:
    """One strategy at one dropped share."""

    drop_frac: float
    dropped: int
    labelled: int | None = None
    """Of the dropped rows, those with a label; None without labels, as all that follows."""
    bad: int | None = None
    """Of these, the bad ones."""
    precision: float | None = None
    """bad / labelled; None when no dropped row has a label."""
    precision_low: float | None = None
    precision_high: float | None = None
    """95 % Wilson interval."""
    recall: float | None = None
    """Share of all bad rows that are dropped; None when there are none."""


@dataclass(frozen=True)
class Curve:
    """One strategy over the dropped share."""

    drop_frac: list[float]
    precision: list[float | None] | None
    """None without labels."""
    recall: list[float | None] | None
    overlap: list[float]
    """Jaccard with the first strategy."""


@dataclass(frozen=True)
class Excerpt:
    """A row that one strategy alone drops. Its texts are untrusted."""

    row_id: int
    line: int
    file: str | None
    bad: bool | None
    """None where it has no label."""
    prompt: str
    answer: str


@dataclass(frozen=True)
class ArmCost:
    """What a strategy takes for each 1,000 rows, and once besides. None is what was not found out here."""

    seconds: float | None
    """For 1,000 rows. None where all were kept from an earlier run: what they took is not known."""
    tokens: float | None
    """That models read and write for 1,000 rows, without padding. None where none reads, or nobody counts."""
    once_seconds: float | None = None
    """Besides, whatever the number of rows: models loaded, directions and classifiers learnt. None where it
    is not told apart."""
    once_tokens: int | None = None
    rows_read: int = 0
    """That the first two were measured on; of `closest`, when its scores were made."""
    rows_kept: int = 0
    """Rows whose numbers were kept from an earlier run; they count in neither."""
    once_kept: bool = False
    """Whether something learnt once was kept too, so that `once_seconds` is too small."""


@dataclass(frozen=True)
class Arm:
    """One strategy."""

    name: str
    strategy: str
    scores: str
    """File name of the scores that it was given."""
    metric: str
    """Of these scores."""
    control: bool
    """Whether it is there to compare with, and not to be used: random, and what knows the labels."""
    seconds: float
    """What the ranking took; little where results were kept from an earlier run."""
    cost: ArmCost
    auroc: float | None
    """Chance that a bad row is ranked before a good one; None without labels of both kinds."""
    auroc_low: float | None
    auroc_high: float | None
    """95 % bootstrap interval."""
    at: list[AtFraction]
    curve: Curve
    only_ids: list[int]
    """At `detail_frac`: rows that it drops and no other strategy but the controls; the first of them."""
    only_count: int
    only: list[Excerpt]
    """The first few, with their text."""
    details: dict[str, Any]
    """What the strategy says of itself."""
    columns: dict[str, float | None] = field(default_factory=dict)
    """AUROC of each of its further numbers by itself, where it gives several; None without labels."""


@dataclass(frozen=True)
class Overlap:
    """How alike the choices are at one dropped share."""

    drop_frac: float
    jaccard: list[list[float]]
    """By the order of the arms, `[n_arms, n_arms]`."""


@dataclass(frozen=True)
class Comparison:
    """Strategies side by side, all dropping the same number of rows."""

    version: str
    created: str
    input: str
    input_sha256: str
    scores: list[dict[str, Any]]
    """Of each scores file: `name`, `content_sha256`, `preset`, `toxic_set`, `metric`."""
    rows: int
    scored: int
    """Rows that all of them score, and that are chosen among."""
    labelled: int | None
    bad: int | None
    labels: dict[str, Any] | None
    """Where the labels are from."""
    seed: int
    fractions: list[float]
    detail_frac: float
    """The dropped share at which rows are shown."""
    arms: list[Arm]
    overlaps: list[Overlap]
    notes: list[str] = field(default_factory=list)
    comparison_version: int = COMPARISON_VERSION

    @property
    def base_rate(self) -> float | None:
        """Share of bad rows among the labelled ones: the precision of dropping at random."""
        if self.bad is None or not self.labelled:
            return None
        return self.bad / self.labelled

    def to_json(self) -> str:
        """As JSON text."""
        text = json.dumps(finite(asdict(self)), ensure_ascii=False, indent=2, allow_nan=False)
        return json_safe(text) + "\n"
