"""Whether a file has more rows beyond the harmless ones than noise brings, and what would be noticed.

Two counts are uncertain: that of the file, whose rows say less than their number where like rows are
flagged together, and that of the reference. Counting the rows is evaluate.py's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaln, gammaln

from saefilter.artifacts.provenance import Provenance
from saefilter.columns import Columns
from saefilter.errors import SaefilterError
from saefilter.gate.policy import Policy
from saefilter.gate.verdict import Power, number, rounded
from saefilter.rows.formats import Conversation, RowProblem, recognise
from saefilter.rows.groups import find_groups
from saefilter.rows.read import Source
from saefilter.stats.auroc import Z95
from saefilter.toxic.toxicset import LEAST_AUROC, rank_at, tells

GROUPED_ROWS = 20_000
"""Rows among which like ones are looked for; of more, so many evenly spread ones. The reference's
uncertainty is far larger than that of so many rows."""
BAD_SHARES = (5.0, 10.0, 25.0)
"""Shares of bad rows, in percent, for which power is stated."""


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
    def of(cls, made: Provenance, at_fpr: float, *, complete: bool = True) -> Harmless:
        """At a false-positive rate in percent. What the reference is worth is, in this order: told by the
        intervals of held-out benign rows, its effective number of groups, its number of rows.

        `complete`: whether every scored row has a percentile. Raises SaefilterError where not, or where
        the rate is too fine for the reference.
        """
        if not made.reference_rows or not complete:
            raise SaefilterError(
                f"max-flagged and min-chance need percentiles, and there are none: {_missing(made)}",
                remedy="Calibrate the toxic set (saefilter features calibrate) and score again, or "
                "drop the rules.",
            )
        rate = at_fpr / 100
        rank = rank_at(rate, made.reference_rows)
        if not rank:
            raise SaefilterError(
                f"a false-positive rate of {number(at_fpr)}% cannot be told from the "
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


def failing_count(n: int, effective: float, harmless: Harmless, policy: Policy) -> int | None:
    """The fewest flagged rows of `n` that fail the policy, if `n` say as much as `effective`
    independent ones; None where not even all would."""

    def fails(count: int) -> bool:
        share = count / n
        too_many = policy.max_flagged is not None and rounded(100 * share) > policy.max_flagged
        unlikely = policy.min_chance is not None and (
            rounded(chance(share, effective, harmless)) < policy.min_chance
        )
        return too_many or unlikely

    if not fails(n):
        return None
    low, high = -1, n  # more flagged rows never make it pass
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fails(middle) else (middle, high)
    return high


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


def power(made: Provenance, policy: Policy, alike: Alike, harmless: Harmless) -> tuple[Power, ...]:
    """How probably bad rows like the contrast's, among harmless ones of the same source, would fail the
    policy in as many rows, alike in as far as these are. Empty where no held-out rates are known.

    The share flagged is mixed of the two sides' held-out rates; how it varies from group to group is
    what their intervals, by group, tell. The ends are those with both rates at their interval's ends.
    """
    entries = held_out(made, policy.at_fpr / 100)
    benign = {one["source"]: one for one in entries if one["side"] == "benign"}
    stated: list[Power] = []
    for bad in (one for one in entries if one["side"] == "toxic"):
        good = benign.get(bad["source"]) or {"rate": harmless.share}
        for share in BAD_SHARES:
            middle, low, high = (
                _caught(share / 100, bad, good, end, alike, harmless, policy)
                for end in ("rate", "low", "high")
            )
            stated.append(Power(str(bad["source"]), share, middle, min(low, middle), high))
    return tuple(stated)


def _caught(
    bad_share: float,
    bad: dict[str, Any],
    good: dict[str, Any],
    end: str,
    alike: Alike,
    harmless: Harmless,
    policy: Policy,
) -> float:
    good_rate = float(good.get(end, good["rate"]))
    share = bad_share * float(bad[end]) + (1 - bad_share) * good_rate
    if not 0 < share < 1:
        return 0.0 if share <= 0 else 1.0
    between = (bad_share**2) * _between(bad) + (1 - bad_share) ** 2 * _between(good)
    n, design = len(alike.row), alike.design(min(1.0, between / (share * (1 - share))))
    independent = max(1, int(n / design))
    counted = n / max(design, alike.design(harmless.alikeness))
    least = failing_count(independent, max(1.0, counted), harmless, policy)
    if least is None:
        return 0.0
    caught: float = betainc(least, independent - least + 1, share) if least else 1.0
    return float(caught)


def alikeness(benign: list[dict[str, Any]]) -> float:
    """Intraclass correlation of being flagged, 0 to 1, of held-out benign rows: the variance of the rate
    between groups over that of a row. The mean over sources, by rows; 0 where nothing is known."""
    known = [one for one in benign if one.get("rows") and 0 < one["rate"] < 1]
    total = sum(one["rows"] for one in known)
    shares = (one["rows"] * _between(one) / (one["rate"] * (1 - one["rate"])) for one in known)
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


def _between(entry: dict[str, Any]) -> float:
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
            yield recognise(row.data or {}, columns)
        except RowProblem:  # scores that were made elsewhere; an empty one is like no other
            yield ()
