"""Choose a set's features from contrast data: screened on one half, confirmed on the other.

Both halves take both parts, each at half the false-discovery rate, so that few rows are wasted and
the rate holds for the union.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from saefilter.curate.contrast import GroupedContrast, Part
from saefilter.settings import CurationOptions
from saefilter.stats.moments import discoveries

Floats = NDArray[np.float64]
PRUNE_BLOCK = 512


@dataclass(frozen=True)
class Confirmed:
    """What a part of the data confirms, `[d_sae]` each."""

    p_value: Floats
    """On the half that confirmed it, the smaller where both did; 1 for what is not confirmed."""
    signs: Floats
    """+1 toxic, -1 benign, 0 not confirmed."""


def confirm(
    data: GroupedContrast,
    part: Part,
    options: CurationOptions,
    directions: NDArray[np.float32] | None = None,
) -> Confirmed:
    """The features that pass on both halves of a part, without dense and redundant ones.

    `directions`, unit decoder directions `[d_sae, d_model]`, are what redundancy is judged by.
    """
    halves = [data.statistics(replace(part, first_half=first)) for first in (True, False)]
    best = np.ones(len(halves[0].p_value))
    usable = np.ones(len(best), dtype=bool)
    if data.contrast.density is not None:
        usable = data.contrast.density <= options.max_density
    for screening, confirming in (halves, halves[::-1]):
        candidates = (
            usable
            & (screening.p_value < options.screen_p)
            & (screening.frequency >= options.min_frequency)
        )
        same_sign = np.sign(screening.correlation) == np.sign(confirming.correlation)
        tested = np.flatnonzero(candidates)
        # one-sided: the sign was predicted by the screening half
        p = np.where(same_sign, confirming.p_value / 2, 1 - confirming.p_value / 2)[tested]
        passed = tested[discoveries(p, options.fdr / 2)]
        best[passed] = np.minimum(best[passed], confirming.p_value[passed])
    correlation = data.statistics(part).correlation
    signs = np.where(best < 1, np.sign(correlation), 0.0)
    for side in (1, -1):
        members = np.flatnonzero(signs == side)
        ranked = members[np.argsort(-np.abs(correlation[members]), kind="stable")]
        keep = ranked[: options.max_candidates]
        if directions is not None and options.prune_cosine < 1:
            keep = keep[unlike_stronger(directions[keep], options.prune_cosine)]
        signs[np.setdiff1d(members, keep)] = 0
    return Confirmed(np.where(signs != 0, best, 1.0), signs)


def confirmed_signs(
    data: GroupedContrast,
    part: Part,
    options: CurationOptions,
    directions: NDArray[np.float32] | None = None,
) -> Floats:
    """Side of every confirmed feature, +1 or -1, and 0 for the others, `[d_sae]`."""
    return confirm(data, part, options, directions).signs


def unlike_stronger(directions: NDArray[np.float32], cosine: float) -> NDArray[np.bool_]:
    """Which of these unit directions, strongest first, `[n, d_model]`, to keep so that no two that
    are kept have a larger cosine."""
    keep = np.ones(len(directions), dtype=bool)
    for start in range(0, len(directions), PRUNE_BLOCK):
        rows = slice(start, start + PRUNE_BLOCK)
        like = directions[rows] @ directions[: rows.stop].T > cosine
        for number, position in enumerate(range(*rows.indices(len(directions)))):
            keep[position] = not (like[number, :position] & keep[:position]).any()
    return keep


def strongest(correlation: Floats, top: int) -> NDArray[np.bool_]:
    """The `top` of each side by correlation."""
    keep = np.zeros(len(correlation), dtype=bool)
    for sign in (1, -1):
        side = np.flatnonzero(np.sign(correlation) == sign)
        keep[side[np.argsort(-np.abs(correlation[side]), kind="stable")[:top]]] = True
    return keep
