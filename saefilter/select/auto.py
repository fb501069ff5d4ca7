"""A cut that need not be guessed: how many rows seem to be bad, whether any are for certain, and what a
wrong cut would cost. No row's label is known here, only its place among harmless reference rows.

The share of bad rows is told by what is missing of the file in the calmer half of the reference: of harmless rows
half lie there, of bad ones as good as none (Storey, Journal of the Royal Statistical Society B 64, 2002,
at lambda 1/2). Nothing is dropped on an estimate alone: the flagged rows must prove, at several rates
together, that there are bad ones. `fdr` asks for another rule: the most rows of which at most that share
is expected to be harmless (Benjamini and Hochberg 1995 on conformal p-values; Bates, Candès, Lei, Romano
and Sesia, Annals of Statistics 51, 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from saefilter.errors import SaefilterError
from saefilter.scoring.harmless import (
    LEVELS,
    Alike,
    Harmless,
    check_set,
    least_share,
    proven_share,
)
from saefilter.stats.auroc import Z95
from saefilter.stats.moments import discoveries
from saefilter.toxic.toxicset import conformal_p

if TYPE_CHECKING:
    from saefilter.artifacts.provenance import Provenance
    from saefilter.select.ranking import Candidates

CALM = 50.0
"""Percent of the reference that is closer; the others are the half in which bad rows are missed."""
CERTAINTY = 0.99
"""With which bad rows must be proven before any row is dropped."""
CURVE_POINTS = 50
NEEDED_BY = "--drop auto needs"


@dataclass(frozen=True)
class Bound:
    """What a cut costs for one share of bad rows."""

    bad: float
    """Share of the scored rows, 0 to 1."""
    harmless: float
    """Rows that are dropped though harmless."""
    missed: float
    """Bad rows that stay."""


@dataclass(frozen=True)
class Cut:
    """How many rows `--drop auto` drops, and why."""

    rule: str
    """`share`: as many as are estimated to be bad; `fdr`: as a false-discovery rate allows."""
    rows: int
    """That are dropped, the closest."""
    of: int
    """Scored rows."""
    bad: float
    """Estimated share of bad rows, 0 to 1."""
    low: float
    high: float
    """Its 95 % interval."""
    proven: float
    """The least share of bad rows that is certain, at CERTAINTY."""
    provable: float
    """The least that could be, with bad rows closer than all harmless ones."""
    costs: tuple[Bound, Bound, Bound]
    """With the estimate, and with the ends of its interval."""
    curve: list[list[float]]
    """For shares of rows dropped, 0 to 1: the share, the part of the dropped that is harmless, the part
    of the bad rows that stays, by the estimate."""
    effective_rows: float
    """Independent rows that say as much as the file does."""
    effective_reference: float
    reference_rows: int
    reference_name: str | None
    """None where they are the toxic set's. Untrusted."""
    fdr: float | None = None
    unlike: bool = False
    """Whether the data are told to be unlike the reference, so that nothing here is founded."""
    certainty: float = CERTAINTY


def auto_cut(candidates: Candidates, fdr: float | None = None) -> Cut:
    """How many of the scored rows to drop; `fdr`, 0 to 1, asks for that rule.

    Raises SaefilterError where the scores have no percentiles, or the toxic set tells nothing.
    """
    scores, source = candidates.scores, candidates.source
    if scores is None or source is None:
        raise SaefilterError(f"{NEEDED_BY} the scores file and the data")
    made = scores.provenance
    check_set(made, "--drop auto")
    column = scores.read(["percentile"])["percentile"]
    percentile = column.to_numpy(zero_copy_only=False).astype(np.float64)
    scored = np.zeros(len(percentile), dtype=np.bool_)
    scored[candidates.row_ids] = True
    complete = not bool(np.isnan(percentile[scored]).any())
    half = Harmless.of(made, CALM, complete=complete, needed_by=NEEDED_BY)
    p = conformal_p(percentile, made.reference_rows)
    if not len(candidates):
        nothing = Bound(0.0, 0.0, 0.0)
        return Cut("share", 0, 0, 0.0, 0.0, 1.0, 0.0, 1.0, (nothing,) * 3, [], 0.0, half.effective,
                   made.reference_rows, made.reference_name, fdr)  # fmt: skip
    return _cut(
        p, candidates.row_ids, Alike.find(source, scored, made.own_columns), half, made, fdr
    )


def _cut(
    p: NDArray[np.float64], ids: NDArray[np.int64], alike: Alike, half: Harmless,
    made: Provenance, fdr: float | None,
) -> Cut:  # fmt: skip
    """`p`: of every row of the input, `[n_rows of the input]`; `ids`: of the scored ones."""

    def beyond(level: float) -> NDArray[np.bool_]:
        rank = math.floor(level / 100 * (made.reference_rows + 1) + 1e-9)
        flagged: NDArray[np.bool_] = p <= rank / (made.reference_rows + 1) + 1e-12
        return flagged

    flagged = beyond(CALM)
    effective = alike.effective(flagged, half.alikeness)
    bad, low, high = _estimate(float(flagged[ids].mean()), effective, half)
    proven, _ = proven_share(made, alike, beyond, True, CERTAINTY, NEEDED_BY)
    ordered = np.sort(p[ids])
    if fdr is not None:
        rows = int(discoveries(_discounted(ordered, made.reference_rows, half), fdr).sum())
    else:
        # where the estimate's interval reaches to none, only what is certain goes
        share = max(proven, bad if low else 0.0) if proven else 0.0
        rows = math.floor(share * len(ids) + 0.5)
    costs = tuple(_cost(ordered, rows, share) for share in (bad, low, high))
    return Cut(
        "share" if fdr is None else "fdr", rows, len(ids), bad, low, high, proven,
        _provable(made, alike), (costs[0], costs[1], costs[2]), _curve(ordered, bad), effective,
        half.effective, made.reference_rows, made.reference_name, fdr, bool(made.unlike),
    )  # fmt: skip


def _estimate(share: float, effective: float, half: Harmless) -> tuple[float, float, float]:
    """The share of bad rows with its 95 % interval, from the share of rows in the closer half of the
    reference; the errors of both shares count."""
    calm = 1 - half.share
    estimate = (share - half.share) / calm
    variance = share * (1 - share) / effective + ((1 - estimate) * half.error) ** 2
    reach = Z95 * math.sqrt(variance) / calm
    middle, low, high = (
        min(1.0, max(0.0, end)) for end in (estimate, estimate - reach, estimate + reach)
    )
    return middle, low, high


def _discounted(p: NDArray[np.float64], rows: int, half: Harmless) -> NDArray[np.float64]:
    """p-values as the reference's independent rows give them: fewer cannot tell so small ones."""
    as_close = (p * (rows + 1) - 1) / rows
    discounted: NDArray[np.float64] = (1 + as_close * half.effective) / (half.effective + 1)
    return discounted


def _provable(made: Provenance, alike: Alike) -> float:
    """The least share of bad rows that so many rows could prove, all of them flagged at every rate."""
    n, level = len(alike.row), (1 - CERTAINTY) / len(LEVELS)
    least = 1.0
    for rate in LEVELS:
        try:
            harmless = Harmless.of(made, rate, needed_by=NEEDED_BY)
        except SaefilterError:
            continue  # too fine for so small a reference
        effective = max(1.0, n / alike.design(harmless.alikeness))
        for share in np.linspace(0, 1, 201)[1:].tolist():
            if least_share(
                harmless.share + (1 - harmless.share) * share, effective, harmless, level
            ):
                least = min(least, share)
                break
    return float(least)


def _cost(ordered: NDArray[np.float64], rows: int, bad: float) -> Bound:
    """Of the `rows` with the smallest p-values, ascending in `ordered`, if that share of all is bad."""
    n = len(ordered)
    if not rows:
        return Bound(bad, 0.0, bad * n)
    harmless = min(float(rows), (1 - bad) * n * float(ordered[rows - 1]))
    harmless = max(harmless, rows - bad * n)  # there are no more bad ones than that
    return Bound(bad, harmless, max(0.0, bad * n - (rows - harmless)))


def _curve(ordered: NDArray[np.float64], bad: float) -> list[list[float]]:
    n = len(ordered)
    counts = np.unique(np.linspace(0, n, min(n, CURVE_POINTS) + 1).round().astype(int)).tolist()
    points: list[list[float]] = []
    missed = bad * n
    for count in counts:
        missed = min(
            missed, _cost(ordered, count, bad).missed
        )  # dropping more loses no bad one again
        harmless = count - (bad * n - missed)
        points.append(
            [count / n, harmless / count if count else 0.0, missed / (bad * n) if bad else 0.0]
        )
    return points
