"""The compliance direction of DataShield (Zhang et al. 2026, arXiv 2606.00160): how much farther a row's answer
lies along what complying adds to refusing than the prompt that it answers.

Three steps, as in the paper and its code: the direction of each layer is the difference of mean residuals
over answers that comply and answers that refuse; the layer is the one whose direction tells the two apart
best, by the share of variance that lies between them (the compliance-aware score); a row's score is the
projection of its answer's mean residual less that of the last token before the answer.

Choices of ours: contrast rows are what complies (toxic) and what does not (benign), refusals or not; the
layer is chosen on folds of groups that its direction was not learnt from, and of residuals as they are,
not standardised, since rows are projected as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saefilter.encode.causal import layer_stack
from saefilter.encode.checks import hook_layers
from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation
from saefilter.rows.groups import find_groups
from saefilter.select.causal_reader import CausalReader
from saefilter.select.classifiers import ContrastPair, read_contrast
from saefilter.select.layered import (
    Floats,
    anchors,
    digest_of,
    hook_after,
    learnt_once,
    load_layers,
    pooled_layers,
    usable_sides,
)
from saefilter.select.per_row import scored_once
from saefilter.select.projection_difference import last_responses
from saefilter.select.ranking import Candidates, Ranking
from saefilter.select.strategies import Selection

FOLDS = 5


def rank(candidates: Candidates, selection: Selection) -> Ranking:
    """Largest shift along the compliance direction first, in the units of the residual stream."""
    reader = load_layers(candidates, selection)
    contrast = anchors(read_contrast(candidates, selection.options))
    asked = hook_layers(selection.options.hook) if selection.options.hook else None
    depends_on = {**reader.depends_on, "contrast": contrast.about, "layer": asked}
    learnt = Learnt.of(
        learnt_once(
            candidates, "compliance", depends_on, lambda: learn(reader, contrast, asked).numbers()
        )
    )
    shift = scored_once(
        candidates,
        "compliance",
        digest_of(learnt.direction, **reader.depends_on, layer=learnt.layer),
        lambda conversations: shifts(reader, conversations, learnt),
    )
    return Ranking.by_score(
        shift,
        "shift along the compliance direction",
        "by how far its answer lies beyond its prompt along the compliance direction",
        details={
            **reader.about,
            "hook": hook_after(learnt.layer),
            "layer": "as asked for" if asked else "the one that tells complying from refusing best",
            "held_out_compliance_aware_score": [round(float(one), 4) for one in learnt.separation],
            "contrast": contrast.about,
        },
    )


class Learnt(NamedTuple):
    """The layer and its direction."""

    layer: int
    """Counted from 1."""
    separation: Floats
    """`held_out_separation` of every layer, or empty where the layer was asked for, `[n_layers]`."""
    direction: Floats
    """Unit vector from refusing to complying, `[d_model]`."""

    def numbers(self) -> Floats:
        """All of it in one row, to be kept."""
        head = np.array([self.layer, len(self.separation)], dtype=np.float32)
        return np.concatenate([head, self.separation, self.direction])

    @classmethod
    def of(cls, numbers: Floats) -> Learnt:
        """What was kept."""
        end = 2 + int(numbers[1])
        return cls(int(numbers[0]), numbers[2:end], numbers[end:])


def learn(reader: CausalReader, contrast: ContrastPair, layer: int | None) -> Learnt:
    """The layer that separates best, unless one is asked for, and the direction there.

    Raises SaefilterError when a side of the contrast cannot be read, or nothing can be held out.
    """
    depth = len(layer_stack(reader.model.model))
    layers = [layer] if layer else list(range(1, depth + 1))
    responses = last_responses(reader, contrast.conversations)
    usable = np.array([response is not None for response in responses])
    usable_sides(contrast.toxic, usable)
    windows = [response.window for response in responses if response is not None]
    means = pooled_layers(reader, windows, [_mean(window.scored) for window in windows], layers)
    complied = contrast.toxic[usable]
    separation = np.empty(0, dtype=np.float32)
    best = 0
    if not layer:
        kept = [contrast.conversations[row] for row in np.flatnonzero(usable)]
        folds = folds_of_groups(kept)
        of_layer = (held_out_separation(means[:, one], complied, folds) for one in range(depth))
        separation = np.array(list(of_layer), dtype=np.float32)
        best = int(separation.argmax())
    direction = direction_of(means[:, best], complied)
    if not np.linalg.norm(direction):
        raise SaefilterError("toxic and benign contrast rows do not differ at this hook")
    return Learnt(layers[best], separation, direction)


def folds_of_groups(conversations: Sequence[Conversation]) -> NDArray[np.int64]:
    """A fold for each conversation, `[n]`: answers to one prompt and texts of one kind share theirs. Raises
    SaefilterError where all of them do."""
    label = find_groups(conversations).label
    n_groups = int(label.max()) + 1
    if n_groups < 2:
        raise SaefilterError(
            "all contrast rows belong together (one prompt or one text), so that no layer can be tried on "
            "rows that its direction was not learnt from",
            remedy="Add rows on other prompts, or name the layer: --hook.",
        )
    fold = np.random.default_rng(0).permutation(n_groups) % min(FOLDS, n_groups)
    return fold[label]


def direction_of(means: Floats, complied: NDArray[np.bool_]) -> Floats:
    """Unit vector between the means of both sides, `[n, d]` to `[d]`; zeros where they are equal."""
    difference: Floats = means[complied].mean(axis=0) - means[~complied].mean(axis=0)
    length = float(np.linalg.norm(difference))
    return difference / length if length > 0 and np.isfinite(length) else 0 * difference


def held_out_separation(
    means: Floats, complied: NDArray[np.bool_], fold: NDArray[np.int64]
) -> float:
    """The compliance-aware score `v' S_b v / v' S_t v` of each fold along the direction learnt from the
    others, its mean over folds, each counted by its rows: 0 to 1, and below 0 where the sides are on
    the wrong ends. Folds where a side is missing are left out; 0 without any."""
    total, rows = 0.0, 0
    for one in np.unique(fold):
        held = fold == one
        inside, outside = complied[held], complied[~held]
        if inside.all() or not inside.any() or outside.all() or not outside.any():
            continue
        place = (means[held] @ direction_of(means[~held], outside)).astype(np.float64)
        between = place[inside].mean() - place[~inside].mean()
        share = inside.mean() * (1 - inside.mean())
        spread = place.var()
        total += len(place) * (np.sign(between) * share * between**2 / spread if spread else 0.0)
        rows += len(place)
    return total / rows if rows else 0.0


def shifts(
    reader: CausalReader, conversations: Sequence[Conversation], learnt: Learnt
) -> NDArray[np.float64]:
    """Projection of each answer's mean residual less that of the token before it, `[n]`; NaN for a row without
    an answer, or without anything before it."""
    responses = last_responses(reader, conversations)
    value = np.full(len(conversations), np.nan)
    # the token before all text, if there is one, is no prompt
    least = 1 + len(reader.renderer.prefix)
    rows = [
        row for row, one in enumerate(responses) if one is not None and len(one.prompt) >= least
    ]
    read = [one for row in rows if (one := responses[row]) is not None]
    weights = [_mean(one.window.scored) for one in read]
    for weight, one in zip(weights, read, strict=True):
        weight[len(one.prompt) - 1] -= 1
    pooled = pooled_layers(reader, [one.window for one in read], weights, [learnt.layer])
    value[rows] = pooled[:, 0] @ learnt.direction
    return value


def _mean(scored: NDArray[np.bool_]) -> Floats:
    """Weights of the mean over some tokens, `[n_tokens]`."""
    weights: Floats = (scored / scored.sum()).astype(np.float32)
    return weights
