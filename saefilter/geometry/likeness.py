"""Whether data look like the reference rows that their percentiles rest on: by length, by how many
features are active, by how rare those are among the reference rows, and by where the scores lie.

Each is a number per row, and its place among the reference's quantiles; the mean place is the AUROC of
data against reference, 0.5 where they are alike. How far from it two halves of the reference lie, whole
groups apart, says what is too far.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saefilter.stats.sparse_rows import SparseRows
from saefilter.toxic.toxicset import UNLIKE, Likeness

Floats = NDArray[np.float64]
SCORE = "score"
"""Beside the measures of `Likeness`: a row's proximity."""
HALVES = 100
FALSE_ALARMS = 0.01
"""Share of the halves that lie farther apart than the limit."""
LEAST_LIMIT = 0.2
"""Nearer than an AUROC of 0.7 is a matter of topic, not of kind."""
MOST_LIMIT = 0.45
Sums = dict[str, list[float]]
"""Measure -> sums over rows of the place, 0 to 1, and of the value."""


def measures(
    features: sparse.csr_matrix, tokens: NDArray[np.int64], frequency: Floats
) -> dict[str, Floats]:
    """Of pooled rows `[n, d_sae]` with their scored tokens `[n]`: `tokens`; `active`, how many features;
    `rarity`, the mean of -ln of the share of reference rows, `frequency` `[d_sae]`, that have them."""
    active = np.diff(features.indptr).astype(np.float64)
    bits = -np.log(np.maximum(frequency, 1e-4))
    rarity = _ones(features) @ bits / np.maximum(active, 1)
    return {"tokens": tokens.astype(np.float64), "active": active, "rarity": rarity}


def places(values: Floats, quantiles: Sequence[float], levels: Sequence[float]) -> Floats:
    """The place of each value among the reference's, 0 to 1, `[n]`; equal ones count half."""
    ends = np.asarray(quantiles), np.asarray(levels)
    below = np.minimum(np.searchsorted(ends[0], values, "left"), len(ends[1]) - 1)
    up_to = np.maximum(np.searchsorted(ends[0], values, "right") - 1, 0)
    middle: Floats = (ends[1][below] + ends[1][up_to]) / 2
    return middle


def likeness_of(
    features: SparseRows, tokens: NDArray[np.int64], group: NDArray[np.int64],
    levels: Sequence[float], *, seed: int = 0,
) -> Likeness:  # fmt: skip
    """What the reference rows are like, and how unlike their halves are. `tokens`, `group`: `[n_rows]`."""
    rows = features.tocsr()
    frequency = np.array([float(f"{share:.3g}") for share in _frequency(rows)])
    by_measure = measures(rows, tokens, frequency)
    label = np.unique(group, return_inverse=True)[1].ravel()
    rng, apart = np.random.default_rng(seed), []
    for _ in range(HALVES if label.max(initial=0) else 0):
        side = rng.permutation(np.arange(label.max() + 1) % 2)[label].astype(bool)
        apart.append(_apart(rows, tokens, side, levels))
    farthest = float(np.quantile(apart, 1 - FALSE_ALARMS)) if apart else MOST_LIMIT
    return Likeness(
        {name: tuple(float(f"{q:.4g}") for q in np.quantile(values, levels))
         for name, values in by_measure.items()},
        {name: float(f"{values.mean():.4g}") for name, values in by_measure.items()},
        tuple(frequency.tolist()),
        round(min(max(farthest, LEAST_LIMIT), MOST_LIMIT), 4),
    )  # fmt: skip


def _apart(rows: sparse.csr_matrix, tokens: NDArray[np.int64], side: NDArray[np.bool_],
           levels: Sequence[float]) -> float:  # fmt: skip
    """How far one half lies from the other, the farthest of the measures."""
    frequency = _frequency(rows[~side])
    one = measures(rows[~side], tokens[~side], frequency)
    other = measures(rows[side], tokens[side], frequency)
    return max(
        abs(
            float(places(other[name], np.quantile(one[name], levels).tolist(), levels).mean()) - 0.5
        )
        for name in one
    )


def _frequency(rows: sparse.csr_matrix) -> Floats:
    share: Floats = np.asarray(_ones(rows).mean(axis=0)).ravel()
    return share


def _ones(features: sparse.csr_matrix) -> sparse.csr_matrix:
    return sparse.csr_matrix(
        (np.ones(len(features.data)), features.indices, features.indptr), features.shape
    )


def sums_of(by_measure: Mapping[str, Floats], likeness: Likeness, levels: Sequence[float],
            scores: tuple[Floats, Sequence[float]]) -> Sums:  # fmt: skip
    """Of some rows; `scores`: their proximities and the reference's quantiles of it."""
    proximity, quantiles = scores
    sums = {SCORE: (places(proximity, quantiles, levels), proximity)}
    for name, values in by_measure.items():
        sums[name] = places(values, likeness.quantiles[name], levels), values
    return {name: [float(place.sum()), float(value.sum())] for name, (place, value) in sums.items()}


def summed(parts: Iterable[Sums | None], rows: int) -> dict[str, tuple[float, float]] | None:
    """Measure -> mean place and mean value over all `rows`; None where they were not taken."""
    known = [part for part in parts if part]
    if not known or not rows:
        return None
    return {
        name: (sum(p[name][0] for p in known) / rows, sum(p[name][1] for p in known) / rows)
        for name in known[0]
    }


def unlikeness(
    of_data: Mapping[str, tuple[float, float]], mean: Mapping[str, float], limit: float, rows: int
) -> list[str]:
    """What tells data from their reference, a clause each; empty where they are alike. Scores above
    the reference's are none of it: they are what is looked for."""
    # the mean of n places has a variance of 1 / 12 n
    farthest = limit + 1.96 / math.sqrt(12 * rows)
    far = {name: place - 0.5 for name, (place, _) in of_data.items() if abs(place - 0.5) > farthest}
    said = []
    if "tokens" in far:
        own, other = of_data["tokens"][1], mean["tokens"]
        said.append(
            f"the rows are {_times(own, other)} as long ({own:,.0f} tokens, not {other:,.0f})"
        )
    elif "active" in far:
        own, other = of_data["active"][1], mean["active"]
        said.append(f"{_times(own, other)} as many features are active in a row")
    if far.get("rarity", 0) > 0:
        said.append("the rows activate features that are rare there")
    elif "rarity" in far:
        said.append("the rows activate hardly any feature that is not common there")
    if far.get(SCORE, 0) < 0:
        said.append(
            f"the scores lie lower ({of_data[SCORE][0]:.0%} of the reference is below a row, on average), "
            "so that few bad rows would stand out"
        )
    return said


def _times(own: float, other: float) -> str:
    ratio = own / max(other, 1e-9)
    return f"{ratio:.1f} times" if ratio >= 0.1 else f"{ratio:.2f} times"


def warning(clauses: Sequence[str], reference: str | None) -> str | None:
    """One sentence and the remedy; None where nothing differs. `reference`: the user's own rows."""
    if not clauses:
        return None
    whose = f"of {reference}" if reference else "of the toxic set"
    remedy = (
        "name good rows that are more like the data" if reference
        else "name good rows of the same kind as the data by --reference"
    )  # fmt: skip
    what = clauses[0] if len(clauses) == 1 else f"{', '.join(clauses[:-1])} and {clauses[-1]}"
    return f"{UNLIKE} (those {whose}): {what}. Flagged shares do not hold for them; {remedy}."
