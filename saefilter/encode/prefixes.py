"""Prefixes that windows share: a system prompt, a question asked many times.

A causal model sees nothing of what comes after a token, so that a prefix common to many windows
need be computed once, if none of its tokens is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from saefilter.encode.batches import Batch, plan_batches
from saefilter.rows.render import Window

LEAST_SAVED = 1 / 16
"""Of a batch's budget: what a group must save to be worth a forward pass of its prefix, and batches of
its own."""
LOOKED_AT = 1 / 8
"""What a token of the prefix costs that is only looked at, in tokens that are computed."""


class Group(NamedTuple):
    """Windows that begin alike."""

    members: list[int]
    """Their positions."""
    prefix: int
    """With how many tokens."""


def plan(
    windows: Sequence[Window], budget: int, can_share: Callable[[], bool]
) -> list[Batch]:
    """All windows in batches under a budget of computed tokens. Windows that begin alike come together
    where that saves enough; `can_share` is asked once there are such.

    What is longest comes first, so that a lack of memory shows at once.
    """
    groups = alike([_unscored(w) for w in windows], int(budget * LEAST_SAVED))
    if groups and not can_share():
        groups = []
    alone = set(range(len(windows))).difference(*(group.members for group in groups))
    groups.append(Group(sorted(alone), 0))
    groups.sort(key=lambda g: -max((len(windows[m].ids) for m in g.members), default=0))
    batches = []
    for members, prefix in groups:
        lengths = [len(windows[m].ids) - prefix + int(prefix * LOOKED_AT) for m in members]
        for positions in plan_batches(lengths, budget):
            batches.append(Batch([windows[members[p]] for p in positions], prefix))
    return batches


def _unscored(window: Window) -> list[int]:
    """The tokens before the first scored one."""
    scored = np.flatnonzero(window.scored)
    found: list[int] = window.ids[: scored[0] if len(scored) else 0].tolist()
    return found


@dataclass
class _Open:
    """Sequences from `start` on, as far as they have been seen, that begin with `prefix` tokens alike."""

    start: int
    prefix: int
    saved: int = 0
    """By groups within it."""
    groups: list[tuple[int, int, int]] = field(default_factory=list)
    """Those: start, end and prefix tokens."""


def alike(sequences: Sequence[list[int]], least: int) -> list[Group]:
    """Groups of sequences with common prefixes, such that computing each prefix once saves most
    tokens; none overlap, each has two members or more and saves `least` tokens or more.

    The groups to choose from are the intervals of the sorted sequences between which no neighbours
    share less: a tree, walked from the leaves.
    """
    order = sorted(range(len(sequences)), key=sequences.__getitem__)
    common = [_common(sequences[a], sequences[b]) for a, b in zip(order, order[1:], strict=False)]
    path = [_Open(0, 0)]
    for end, prefix in enumerate([*common, 0], start=1):
        start = end - 1
        while path[-1].prefix > prefix:
            closed = path.pop()
            start = closed.start
            saved = (end - start - 1) * closed.prefix
            if saved >= max(closed.saved, least):
                closed.saved, closed.groups = saved, [(start, end, closed.prefix)]
            if path[-1].prefix < prefix:
                path.append(_Open(start, prefix))
            path[-1].saved += closed.saved
            path[-1].groups += closed.groups
        if path[-1].prefix < prefix:
            path.append(_Open(start, prefix))
    return [Group(sorted(order[start:end]), prefix) for start, end, prefix in path[0].groups]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences have in common from the start."""
    for position, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return position
    return min(len(one), len(other))
