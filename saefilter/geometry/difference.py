"""What training by preference pushes towards: of a pair the chosen answer minus the rejected one, of a
labelled answer (KTO) itself, or its opposite where it is unlearnt. 0 is neutral, more is towards toxic.

    pair     v(chosen) - v(rejected)
    labelled +(v - middle) where it is desirable, -(v - middle) where it is not

`v` is the metric on its linear scale, where it has one (the log-odds of `contrast` and `probe`), so that
the difference is that of the features; else the proximity. The middle is that of the file's answers, which
is known once all are scored (scoring/preference.py): here it is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saefilter.geometry.metrics import Sample
from saefilter.geometry.scorer import Scored, Scorer

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pushed:
    """Pushes of some rows with their evidence."""

    push: Floats
    """`[n]`"""
    evidence: Scored
    """Features of the push: of a pair those of the difference, of an unlearnt answer with the other
    sign. Its `proximity` is the push."""


def values(scorer: Scorer, sample: Sample) -> Floats:
    """`v` of samples, `[n]`."""
    metric = scorer.metric
    measure = metric.linear or metric.proximity
    return np.asarray(measure(scorer.space, sample), dtype=np.float64)


def difference(
    scorer: Scorer, chosen: tuple[Sample, Scored], rejected: tuple[Sample, Scored]
) -> Pushed:
    """Of pairs, row by row."""
    push = values(scorer, chosen[0]) - values(scorer, rejected[0])
    both = _joint(chosen[1]) - _joint(rejected[1])
    return Pushed(push, _evidence(scorer, push, both))


def signed(scorer: Scorer, answer: tuple[Sample, Scored], sign: Floats) -> Pushed:
    """Of labelled answers; `sign`, `[n]`: 1 for those that are learnt, -1 for the unlearnt."""
    push = sign * values(scorer, answer[0])
    return Pushed(push, _evidence(scorer, push, sparse.diags(sign) @ _joint(answer[1])))


def _joint(scored: Scored) -> sparse.csr_matrix:
    """Contributions as the real part and activations as the imaginary one: subtracted together, they
    keep the same entries."""
    features = scored.features
    both = scored.contributions.data + 1j * features.data
    return sparse.csr_matrix((both, features.indices, features.indptr), features.shape)


def _evidence(scorer: Scorer, push: Floats, both: sparse.spmatrix) -> Scored:
    both = sparse.csr_matrix(both)
    both.sort_indices()
    parts = (both.data.real.astype(np.float64), both.data.imag.astype(np.float32))
    contributions, features = (
        sparse.csr_matrix((part, both.indices, both.indptr), both.shape) for part in parts
    )
    return Scored(push, contributions, features, scorer.own_share(contributions))
