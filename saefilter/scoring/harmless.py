"""What reference rows are worth, and what a file's flagged rows prove: how well the share of harmless rows
that are flagged is known, how many independent rows a file has, and the chance of a flagged share.

Two counts are uncertain: that of the file, whose rows say less than their number where like rows are
flagged together, and that of the reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, gammaln

from saefilter.artifacts.provenance import Provenance
from saefilter.columns import Columns
from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation, RowProblem, understand
from saefilter.rows.groups import find_groups
from saefilter.rows.read import Source
from saefilter.rows.sides import learnt_of
from saefilter.stats.auroc import Z95
from saefilter.toxic.toxicset import LEAST_AUROC, rank_at, tells

GROUPED_ROWS = 20_000
"""Rows among which like ones are looked for; of more, so many evenly spread ones. The reference's
uncertainty is far larger than that of so many rows."""
STEPS = 30
LEVELS = (1.0, 5.0, 10.0, 25.0, 50.0)
"""Percent of the reference that is closer; a bound is sought at each, and the largest holds."""
GATE = "max-flagged and min-chance need"


@dataclass(frozen=True)
class Harmless:
    """The flagged share of harmless rows, and how well it is known."""

    rank: int
    """A flagged row is closer than this one of the reference rows, counted from the closest."""
    rows: int
    effective: float
    """Independent rows that say as much of the share as the reference does."""
    alikeness: float = 0.0
    """How alike the rows of one of its groups are in being flagged, 0 to 1."""
    name: str | None = None
    """What the user calls the reference; None where it is the toxic set's. Untrusted."""

    @property
    def share(self) -> float:
        """Expected of a new harmless row, 0 to 1."""
        return self.rank / (self.rows + 1)

    @property
    def error(self) -> float:
        """Standard error of the share of harmless rows that are flagged."""
        return math.sqrt(self.share * (1 - self.share) / self.effective)

    @classmethod
    def of(
        cls, made: Provenance, at_fpr: float, *, complete: bool = True, needed_by: str = GATE
    ) -> Harmless:
        """At a false-positive rate in percent. What the reference is worth is, in this order: told by the
        intervals of held-out benign rows, its effective number of groups, its number of rows.

        `complete`: whether every scored row has a percentile. Raises SaefilterError where not, naming
        what they are `needed_by`, or where the rate is too fine for the reference.
        """
        if not made.reference_rows or not complete:
            raise SaefilterError(
                f"{needed_by} percentiles, and there are none: {_missing(made)}",
                remedy="Name good rows like the data by --reference, or calibrate the toxic set "
                "(saefilter features calibrate), and score again; or do without.",
            )
        rate = at_fpr / 100
        rank = rank_at(rate, made.reference_rows)
        if not rank:
            raise SaefilterError(
                f"a false-positive rate of {at_fpr:.10g}% cannot be told from the "
                + (
                    f"{made.reference_rows:,} rows of {made.reference_name}"
                    if made.reference_name
                    else f"{made.reference_rows:,} harmless rows of the calibration"
                ),
                remedy="Use a larger --at-fpr, or more harmless rows.",
            )
        groups = (made.reference or {}).get("groups")
        effective = float(groups or made.reference_rows)
        benign = [one for one in held_out(made, rate) if one["side"] == "benign"]
        total = sum(one["rows"] for one in benign)
        if total:
            mean = sum(one["rows"] * one["rate"] for one in benign) / total
            variance = sum((one["rows"] / total * held_out_error(one)) ** 2 for one in benign)
            if 0 < mean < 1 and variance > 0:
                measured = mean * (1 - mean) / variance - 1
                effective = min(max(effective, measured), float(made.reference_rows))
        alike = alikeness(benign) if benign else _own_alikeness(made, rank)
        return cls(rank, made.reference_rows, effective, alike, made.reference_name)


@dataclass(frozen=True)
class Alike:
    """Which scored rows of a file are alike, where they were looked at."""

    row: NDArray[np.int64]
    """Ids of the rows that were looked at."""
    label: NDArray[np.int64]
    """Which group each is of, `0..groups-1`."""

    @classmethod
    def find(
        cls, source: Source, scored: NDArray[np.bool_], columns: Columns | None = None
    ) -> Alike:
        """Groups among the scored rows of `source`, by prompt, text and template."""
        ids = np.flatnonzero(scored)
        ids = ids[:: max(1, math.ceil(len(ids) / GROUPED_ROWS))]
        return cls(ids, find_groups(list(_conversations(source, set(ids.tolist()), columns))).label)

    @property
    def groups(self) -> int:
        return int(self.label.max()) + 1

    @property
    def clumping(self) -> float:
        """Rows in a row's own group, on average over rows."""
        sizes = np.bincount(self.label).astype(np.float64)
        return float((sizes**2).sum() / sizes.sum())

    def effective(self, flagged: NDArray[np.bool_], alikeness: float = 0.0) -> float:
        """Independent rows that say as much of the share of `flagged`, `[n_rows of the file]`.

        Rows over the design effect: the variance of the flags' sums over groups by that of independent
        flags (Kish, Survey Sampling, 1965, section 5.4), from 1, where groups do not matter, to the
        groups' mean size, where all rows of a group are flagged together or not at all. It is not less
        than groups of this size have whose rows are as alike as the reference's, `alikeness`: of two
        prompts, both calm or both not, nobody can tell how prompts differ.
        """
        flag = flagged[self.row].astype(np.float64)
        n, share, groups = len(flag), float(flag.mean()), self.groups
        if groups == 1 or share in (0, 1):
            return n / self.clumping
        sizes = np.bincount(self.label)
        sums = np.bincount(self.label, flag)
        between = groups / (groups - 1) * float(((sums - sizes * share) ** 2).sum())
        own = between / (n * share * (1 - share))
        return n / min(max(own, self.design(alikeness)), self.clumping)

    def design(self, alikeness: float) -> float:
        """The design effect of groups of this size whose rows are so alike, 1 or more."""
        return 1 + (self.clumping - 1) * alikeness


def chance(share: float, n: float, harmless: Harmless) -> float:
    """Probability of a flagged share of `share`, 0 to 1, or more in `n` independent harmless rows.

    Of `n` new rows, those closer than the r-th closest of `m` exchangeable reference rows number `k`
    with the beta-binomial law of `n`, `r`, `m + 1 - r` (negative hypergeometric), whatever the
    distribution of closeness; `m` here is the reference's effective number. `n` is rounded down; a
    count between two whole ones has a probability between theirs.
    """
    whole = max(1, int(n + 1e-9))
    a, b = (
        harmless.share * (harmless.effective + 1),
        (1 - harmless.share) * (harmless.effective + 1),
    )

    def tail(least: int) -> float:
        if least <= 0:
            return 1.0
        k = np.arange(least, whole + 1)
        law = gammaln(whole + 1) - gammaln(k + 1) - gammaln(whole - k + 1)
        return min(1.0, float(np.exp(law + betaln(k + a, whole - k + b) - betaln(a, b)).sum()))

    count = share * whole
    lower = math.floor(count + 1e-9)
    part = max(0.0, count - lower)
    return tail(lower) if part < 1e-9 else (1 - part) * tail(lower) + part * tail(lower + 1)


def least_share(share: float, n: float, harmless: Harmless, level: float) -> float:
    """The smallest share of bad rows, 0 to 1, with which a flagged share of `share` or more in `n`
    independent rows has a probability of at least `level`, even if every bad row is flagged.

    The bad rows taken out, the test of the rest is that of `chance`. 60 of 400 flagged where 5 % of
    harmless rows are, of many: with 7 % bad, 32 of the other 372 would be flagged, which is rare; so
    at least 7 % are bad.
    """

    def rare(bad: float) -> bool:
        rest = max(0.0, (share - bad) / (1 - bad))
        return chance(rest, max(1.0, n * (1 - bad)), harmless) < level

    if not rare(0.0):
        return 0.0
    low, high = 0.0, share  # with all flagged rows bad, none is left to be rare
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if rare(middle) else (low, middle)
    return low


def proven_share(
    made: Provenance,
    alike: Alike,
    beyond: Callable[[float], NDArray[np.bool_]],
    complete: bool,
    confidence: float,
    needed_by: str = GATE,
) -> tuple[float, float]:
    """The least share of bad rows, 0 to 1, without which so many rows would not be flagged, and the
    false-positive rate in percent at which that shows; the rate is NaN where nothing is proven.

    `beyond`: for such a rate, which rows of the file are flagged; `complete`: whether all scored rows have
    a percentile. Raises SaefilterError where the scores have no percentiles.
    """
    least, found_at = 0.0, math.nan
    for level in LEVELS:
        try:
            harmless = Harmless.of(made, level, complete=complete, needed_by=needed_by)
        except SaefilterError:
            if level == LEVELS[-1]:
                raise
            continue  # too fine for so small a reference
        flagged = beyond(level)
        n = alike.effective(flagged, harmless.alikeness)
        share = float(flagged[alike.row].mean())
        proven = least_share(share, n, harmless, (1 - confidence) / len(LEVELS))
        if proven > least:
            least, found_at = proven, level
    return least, found_at


def check_set(made: Provenance, rule: str) -> None:
    """Raises SaefilterError where closeness to this toxic set says too little for a rule."""
    auroc = (made.reference or {}).get("auroc")
    if auroc is not None and not tells(auroc):
        raise SaefilterError(
            f"{rule} needs a toxic set that tells bad rows from harmless ones, and {made.toxic_set!r} "
            f"does not: AUROC {auroc[0]:.2f} on held-out rows (95% interval {auroc[1]:.2f} to "
            f"{auroc[2]:.2f}), where {LEAST_AUROC:g} with an interval above 0.5 is asked for",
            remedy="Curate a set of your own from rows like yours: saefilter features curate.",
        )


def _missing(made: Provenance) -> str:
    if made.preference is not None:
        return (
            "these rows are of preference data, where percentiles are of each answer and none is of what a "
            "row pushes towards"
        )
    return (made.reference or {}).get("missing") or (
        f"the toxic set {made.toxic_set!r} has no calibration for metric {made.metric!r} and pooling "
        f"{made.pool!r}"
    )


def held_out(made: Provenance, rate: float) -> list[dict[str, Any]]:
    """What is known of held-out rows at a false-positive `rate`, 0 to 1: entries of `HeldOut`."""
    entries = (made.reference or {}).get("held_out") or []
    return [one for one in entries if math.isclose(one["level"], rate, rel_tol=1e-6)]


def held_out_error(entry: dict[str, Any]) -> float:
    """Standard error of a held-out rate, from its 95 % interval."""
    return float(entry["high"] - entry["low"]) / (2 * Z95)


def alikeness(benign: list[dict[str, Any]]) -> float:
    """Intraclass correlation of being flagged, 0 to 1, of held-out benign rows: the variance of the rate
    between groups over that of a row. The mean over sources, by rows; 0 where nothing is known."""
    known = [one for one in benign if one.get("rows") and 0 < one["rate"] < 1]
    total = sum(one["rows"] for one in known)
    shares = (one["rows"] * between(one) / (one["rate"] * (1 - one["rate"])) for one in known)
    return min(1.0, sum(shares) / total) if total else 0.0


def _own_alikeness(made: Provenance, rank: int) -> float:
    """As `alikeness`, of the user's own reference rows: the mean product of what two rows of a group
    have over the share beyond, over its variance. 0 where no two are of one group."""
    about = made.reference or {}
    proximity, group = np.array(about.get("proximity") or []), about.get("group") or []
    if not len(proximity) or len(proximity) != len(group):
        return 0.0
    kept = max(1, round(rank * len(proximity) / made.reference_rows))  # some are kept of many
    off = (proximity >= np.sort(proximity)[-kept]).astype(np.float64)
    off -= off.mean()
    label = np.unique(group, return_inverse=True)[1].ravel()
    sizes = np.bincount(label)
    pairs = float((sizes * (sizes - 1)).sum())
    products = float((np.bincount(label, off) ** 2).sum() - (off**2).sum())
    variance = float((off**2).mean())
    return min(1.0, max(0.0, products / pairs / variance)) if pairs and variance else 0.0


def between(entry: dict[str, Any]) -> float:
    """Variance of the rate between groups: that of the mean over groups, without the rows' own part."""
    if "rows" not in entry:
        return 0.0
    within = entry["rate"] * (1 - entry["rate"]) / entry["rows"]
    return float(max(0.0, held_out_error(entry) ** 2 - within) * entry["groups"])


def _conversations(
    source: Source, wanted: set[int], columns: Columns | None
) -> Iterator[Conversation]:
    for row in source.rows(wanted):
        try:
            yield learnt_of(understand(row.data or {}, columns))
        except RowProblem:  # scores that were made elsewhere; an empty one is like no other
            yield ()
