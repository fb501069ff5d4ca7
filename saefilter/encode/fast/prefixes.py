"""Prefixes that windows share: a system prompt, a question asked many times.

A causal model sees nothing of what comes after a token, so that a prefix common to many windows
need be computed once, if none of its tokens is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from saefilter.encode.batches import Batch, cost_of, plan_batches
from saefilter.rows.rendered import Window

LEAST_SAVED = 1 / 16
"""Of a batch's budget: what a group must save to be worth a forward pass of its prefix, and batches of
its own."""


class SharedPrefix(NamedTuple):
    """Windows that begin alike."""

    members: list[int]
    """Their positions."""
    prefix: int
    """With how many tokens."""


def plan(
    windows: Sequence[Window], budget: int, can_share: Callable[[], bool] | None
) -> list[Batch]:
    """All windows in batches under a budget of computed tokens. Windows that begin alike come together
    where that saves enough and the model can share: it is asked once there are such.

    Groups, and batches in them, come longest first, so that a lack of memory shows at once.
    """
    least = int(budget * LEAST_SAVED)
    groups = [] if can_share is None else alike([_unscored(w) for w in windows], least)
    if groups and can_share is not None and not can_share():
        groups = []
    together: list[list[Batch]] = []
    alone = set(range(len(windows)))
    for group in groups:
        own = _batches(windows, group, budget)
        # padding may cost what the prefix saves
        if sum(b.n_tokens - b.n_padded + b.n_saved for b in own) >= least:
            together.append(own)
            alone.difference_update(group.members)
    if alone:
        together.append(_batches(windows, SharedPrefix(sorted(alone), 0), budget))
    together.sort(key=lambda batches: -max(len(window.ids) for window in batches[0].windows))
    return list(chain.from_iterable(together))


def _batches(windows: Sequence[Window], group: SharedPrefix, budget: int) -> list[Batch]:
    """A group's windows in batches, longest first."""
    members, prefix = group
    lengths = [cost_of(windows[m], prefix) for m in members]
    return [
        Batch([windows[members[p]] for p in positions], prefix)
        for positions in plan_batches(lengths, budget)
    ]


def _unscored(window: Window) -> list[int]:
    """The tokens before the first scored one."""
    scored = np.flatnonzero(window.scored)
    before: list[int] = window.ids[: scored[0] if len(scored) else 0].tolist()
    return before


@dataclass
class _Open:
    """Sorted sequences from `start` on, as far as they have been seen, that begin with `prefix` tokens
    alike."""

    start: int
    prefix: int
    loose: list[int] = field(default_factory=list)
    """Those in no group yet, by their positions."""
    groups: list[SharedPrefix] = field(default_factory=list)
    saved: int = 0
    """By the groups."""

    def take(self, inner: _Open) -> None:
        self.loose += inner.loose
        self.groups += inner.groups
        self.saved += inner.saved

    def close(self, members: list[int], least: int) -> None:
        """Make one group of all its `members`, or of those that are loose, where that saves most."""
        whole, rest = ((len(some) - 1) * self.prefix for some in (members, self.loose))
        rest = rest if rest >= least else 0
        if whole >= max(least, self.saved + rest):
            self.groups, self.loose, self.saved = [SharedPrefix(members, self.prefix)], [], whole
        elif rest:
            self.groups.append(SharedPrefix(self.loose, self.prefix))
            self.loose = []
            self.saved += rest


def alike(sequences: Sequence[list[int]], least: int) -> list[SharedPrefix]:
    """Groups of sequences with common prefixes, each computed once; none overlap, each saves `least`
    tokens or more (at least 1), and together they save as much as any single group could.

    Between neighbours of the sorted sequences, those that share a prefix are a tree of intervals; it is
    walked from the leaves. With S a system prompt of 5 tokens and Q a question of 4:

        0: S Q      0, 1 and 3 begin with S Q alike: computing it once saves 2 * 9 = 18 tokens;
        1: S Q      all four with S: 3 * 5 = 15. The smaller group stays, and 2 stands alone:
        2: S R
        3: S Q      alike(...) == [SharedPrefix(members=[0, 1, 3], prefix=9)]

    With a fifth row S T, the two loose ones make a group beside it, SharedPrefix(members=[2, 4], prefix=5).
    """
    order = sorted(range(len(sequences)), key=sequences.__getitem__)
    common = [_common(sequences[a], sequences[b]) for a, b in pairwise(order)]
    path = [_Open(0, 0)]
    for end, prefix in enumerate([*common, 0], start=1):
        last = _Open(end - 1, prefix, order[end - 1 : end])
        while path[-1].prefix > prefix:
            closed = path.pop()
            closed.take(last)
            closed.close(order[closed.start : end], least)
            last = replace(closed, prefix=prefix)
        if path[-1].prefix < prefix:
            path.append(last)
        else:
            path[-1].take(last)
    return path[0].groups


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences have in common from the start."""
    for position, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return position
    return min(len(one), len(other))


def prefix_cache(model: Any, ids: Tensor) -> Any:
    """What a transformers model is given to go on after a prefix, `[n_prefix]`: a cache of its keys and
    values, for batches of any size."""
    # here, because transformers takes a second to import and `minilm` does without
    from transformers.cache_utils import Cache, DynamicLayer

    class PrefixLayer(DynamicLayer):  # type: ignore[misc]
        """One layer's keys and values of the prefix, `[1, heads, n_prefix, d_head]`.

        It is only read, so that it may be used again, and holds nothing of the batch.
        """

        def __init__(self, keys: Tensor, values: Tensor):
            super().__init__()
            self.lazy_initialization(keys, values)
            self.keys, self.values = keys, values

        def update(
            self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
        ) -> tuple[Tensor, Tensor]:
            joined = [
                torch.cat([ours.expand(len(new), -1, -1, -1), new], dim=-2)
                for ours, new in ((self.keys, key_states), (self.values, value_states))
            ]
            return joined[0], joined[1]

    # sliding windows too keep all of it: masks, not what is kept, say what a token may look at
    made = Cache(layer_class_to_replicate=DynamicLayer)
    model(input_ids=ids[None], past_key_values=made, use_cache=True)
    return Cache(layers=[PrefixLayer(layer.keys, layer.values) for layer in made.layers])
