"""A toxic set that has learnt from a few decisions: the features of a set that is there, with weights moved as
far towards the decisions as these can carry.

Fifty rows confirm no feature by themselves; whether features that many rows have confirmed count for more or
less in one's own data, they do tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import compress

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from saefilter.artifacts.decisions import ENOUGH
from saefilter.curate.contrast import Contrast
from saefilter.curate.curate import MIN_ROWS, ContrastEncoder, groups_of
from saefilter.curate.sources import ContrastRows
from saefilter.curate.weights import balanced_weights
from saefilter.encode.encoder import Encoder
from saefilter.errors import SaefilterError
from saefilter.rows.groups import Units
from saefilter.settings import ScoreSettings
from saefilter.stats.auroc import auroc
from saefilter.toxic.edit import noted, rescored
from saefilter.toxic.learnt import ROW_HASHES, learnt_from
from saefilter.toxic.toxicset import SIGNS, ToxicSet

Floats = NDArray[np.float64]
HOLD = 0.3
"""What moving a weight by one costs, against a mean loss of one a row. From 0.1 to 1 the AUROC on rows not decided
on changes by 0.05 at most (benchmarks/results/decisions.md)."""
FOLDS = 5
REPEATS = 5
SHUFFLES = 40
MAX_ITERATIONS = 500


@dataclass(frozen=True)
class Adapted:
    """A set that has learnt, and what that was worth on decided rows which it had not seen."""

    toxic_set: ToxicSet
    dropped: int
    kept: int
    before: float
    """AUROC of the set on the decided rows."""
    after: float
    """The same by weights learnt without the row's fold, mean of five divisions in folds."""
    by_chance: float
    """What 95 of 100 sets gain at most from the same decisions dealt out anew at random, by group."""
    known: int = 0
    """Decided rows that are left out of all this, since the set had learnt from them before."""

    def __str__(self) -> str:
        left_out = f" ({self.known:,} more were known to it)" if self.known else ""
        shown = "" if self.after - self.before > self.by_chance else ": no gain is shown"
        return (
            f"Learnt from {self.dropped:,} dropped and {self.kept:,} kept rows{left_out}: AUROC on decided rows that it "
            f"had not seen {self.after:.2f}, before {self.before:.2f}; by chance up to {self.by_chance:+.2f} (95%){shown}"
        )


def adapted(
    toxic_set: ToxicSet,
    encoder: Encoder,
    rows: ContrastRows,
    settings: ScoreSettings,
    *,
    name: str,
    group: str | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> Adapted:
    """The set with weights that suit the decisions; features and their sides stay. Its percentiles are gone,
    since no harmless rows are known that it has not been made from. Rows that it has learnt from before are left
    out: they are in its weights, and so no measure of them.

    Raises SaefilterError when the set is not of the encoder's SAE, has no weights, or a side is too small.
    """
    toxic_set.check_belongs(
        fingerprint=encoder.sae.fingerprint, d_model=encoder.sae.d_model,
        d_sae=encoder.sae.d_sae, model=encoder.preset.model, sae_name=encoder.preset.sae,
        unit_decoder=encoder.sae.has_unit_decoder,
    )  # fmt: skip
    members = [number for number, one in enumerate(toxic_set.features) if one.weight > 0]
    if not members:
        raise SaefilterError(
            f"the set {toxic_set.name!r} has no weights that could be learnt",
            remedy="Learn a set from the decisions alone: --adapt none.",
        )
    n_rows = len(rows.conversations())
    rows = unknown_to(toxic_set, rows)
    encoded = ContrastEncoder(
        encoder, replace(settings, pool=toxic_set.pool), groups_of([rows], group)
    )
    counts = [
        encoded.add(side, toxic, advance=advance)
        for side, toxic in ((rows.toxic, True), (rows.benign, False))
    ]
    if min(counts) < MIN_ROWS:
        raise SaefilterError(
            f"only {counts[0]} dropped and {counts[1]} kept rows can be used; at least {MIN_ROWS} of either are "
            "needed"
        )
    contrast = encoded.result()
    fit = Fit.of(
        toxic_set, members, contrast.features.columns(_indices(toxic_set, members)).toarray()
    )
    weights, intercept = fit.learnt(contrast.toxic)
    after = float(
        np.mean(
            [fit.held_out(contrast.toxic, contrast.folds(FOLDS, seed)) for seed in range(REPEATS)]
        )
    )
    changed = _told(with_weights(toxic_set, members, weights, intercept), toxic_set, rows, name)
    before = auroc(contrast.toxic, fit.signed @ fit.weights)
    known = n_rows - len(rows.conversations())
    chance = gained_by_chance(fit, contrast)
    made = Adapted(changed, counts[0], counts[1], before, after, chance, known)
    return replace(made, toxic_set=noted(changed, f"adapted from {toxic_set.name}", str(made)))


def unknown_to(toxic_set: ToxicSet, rows: ContrastRows) -> ContrastRows:
    """The decided rows that a set has not learnt from. Raises SaefilterError where a side has too few of them."""
    known = set(learnt_from(toxic_set))
    if not known:
        return rows
    new = [[one not in known for one in entry[ROW_HASHES]] for entry in rows.about]
    if min(map(sum, new)) < ENOUGH:
        raise SaefilterError(
            f"{toxic_set.name} has learnt from these decisions before: only {sum(new[0])} dropped and {sum(new[1])} "
            f"kept rows are new to it, and at least {ENOUGH} of either are needed",
            remedy="Review other rows: saefilter review SCORES --order random; or learn from all of them by the set "
            f"that it was made from: --adapt {toxic_set.method.get('from', 'minilm')}.",
        )
    about = [
        entry | {"rows": sum(own), ROW_HASHES: list(compress(entry[ROW_HASHES], own))}
        for entry, own in zip(rows.about, new, strict=True)
    ]
    group = rows.group and list(compress(rows.group, [*new[0], *new[1]]))
    toxic, benign = list(compress(rows.toxic, new[0])), list(compress(rows.benign, new[1]))
    return ContrastRows(toxic, benign, about, group=group)


def _indices(toxic_set: ToxicSet, members: list[int]) -> NDArray[np.int64]:
    return np.array([toxic_set.features[number].index for number in members], dtype=np.int64)


@dataclass(frozen=True)
class Fit:
    """Rows as the set's weighted features see them, and where their weights start from."""

    signed: Floats
    """Activations over the features' scale, none beyond what the set was made on, with the sign of the
    feature's side, `[n_rows, n_features]`."""
    weights: Floats
    """Of the set, `[n_features]`."""
    intercept: float
    hold: float = HOLD

    @classmethod
    def of(cls, toxic_set: ToxicSet, members: list[int], active: Floats) -> Fit:
        """`active`: pooled activations of the members, `[n_rows, n_features]`."""
        index = _indices(toxic_set, members)
        scale, largest = np.asarray(toxic_set.scale)[index], np.asarray(toxic_set.largest)[index]
        sign = np.array([SIGNS[toxic_set.features[number].side] for number in members])
        gain = np.divide(sign, scale, out=np.zeros(len(scale)), where=scale > 0)
        weights = np.array([toxic_set.features[number].weight for number in members])
        return cls(np.minimum(active, largest) * gain, weights, toxic_set.intercept)

    def learnt(
        self, toxic: NDArray[np.bool_], rows: NDArray[np.bool_] | None = None
    ) -> tuple[Floats, float]:
        """Weights and intercept that minimise `sum_n u_n log(1 + exp(-y_n (b + sum_i w_i x_ni)))
        + hold / 2 sum_i (w_i - w0_i)^2` over w >= 0 and b, on all rows or those where `rows` is true; `u` gives
        both sides the same say."""
        chosen = np.ones(len(toxic), dtype=bool) if rows is None else rows
        signed, target = self.signed[chosen], np.where(toxic[chosen], 1.0, -1.0)
        say = balanced_weights(np.zeros(len(target), dtype=np.int64), toxic[chosen])

        def loss_and_gradient(parameters: Floats) -> tuple[float, Floats]:
            margin = target * (signed @ parameters[:-1] + parameters[-1])
            moved = parameters[:-1] - self.weights
            loss = say @ np.logaddexp(0, -margin) + self.hold / 2 * (moved @ moved)
            slope = -target * say / (1 + np.exp(np.minimum(margin, 500)))
            return float(loss), np.append(signed.T @ slope + self.hold * moved, slope.sum())

        result = optimize.minimize(
            loss_and_gradient,
            np.append(self.weights, self.intercept),
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, None)] * len(self.weights) + [(None, None)],
            options={"maxiter": MAX_ITERATIONS},
        )
        return result.x[:-1], float(result.x[-1])

    def held_out(self, toxic: NDArray[np.bool_], fold: NDArray[np.int64]) -> float:
        """AUROC of rows by weights learnt without their fold, `[n_rows]`; the rows of a fold without which one
        side is empty lie in the middle."""
        odds = np.zeros(len(toxic))
        for number in np.unique(fold).tolist():
            left_out = fold == number
            if len(np.unique(toxic[~left_out])) < 2:
                continue
            weights, intercept = self.learnt(toxic, ~left_out)
            odds[left_out] = self.signed[left_out] @ weights + intercept
        return auroc(toxic, odds)


def gained_by_chance(fit: Fit, contrast: Contrast, shuffles: int = SHUFFLES) -> float:
    """What learning gains in AUROC on held-out rows where decisions say nothing, at most in 95 of 100 cases:
    labels trade places among whole groups, or within a group that has both. Of one division in folds each, where
    the gain that it is held against is a mean of several, and so a little wider."""
    units = Units.of(contrast.toxic, contrast.groups, contrast.texts)
    gains = []
    for labels in units.relabelled(shuffles, np.random.default_rng(0)):
        toxic = labels[units.number]
        fold = replace(contrast, toxic=toxic).folds(FOLDS)
        gains.append(fit.held_out(toxic, fold) - auroc(toxic, fit.signed @ fit.weights))
    return float(np.quantile(gains, 0.95))


def with_weights(
    toxic_set: ToxicSet, members: list[int], weights: Floats, intercept: float
) -> ToxicSet:
    """The set with other weights of its `members`, by their places among its features."""
    features = list(toxic_set.features)
    for number, weight in zip(members, weights.tolist(), strict=True):
        features[number] = replace(features[number], weight=float(f"{weight:.6g}"))
    features.sort(key=lambda one: (one.side != "toxic", -one.weight, -abs(one.effect_size)))
    changed = replace(toxic_set, features=features, intercept=float(f"{intercept:.6g}"))
    return rescored(changed)


def _told(changed: ToxicSet, base: ToxicSet, rows: ContrastRows, name: str) -> ToxicSet:
    """The set under another name, which says what it was and what it has learnt from."""
    method = {
        "name": "weights of a set, moved towards decisions", "from": base.name,
        "from_sha256": base.sha256(), "hold": HOLD, "made_by": base.method,
    }  # fmt: skip
    created = datetime.now(UTC).isoformat(timespec="seconds")
    sources = [*base.sources, *rows.about]
    return replace(changed, name=name, sources=sources, method=method, created=created)
