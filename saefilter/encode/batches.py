"""Group windows into batches of similar length under a budget of padded tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from saefilter.rows.render import Window


def plan_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Positions of `lengths`, grouped; longest first, so that a lack of memory shows at once.

    A batch costs its longest length times its size, at most `batch_tokens`; a single window longer
    than the budget is a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    batches: list[list[int]] = []
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // max(1, lengths[order[start]]))
        batches.append(order[start : start + size])
        start += size
    return batches


def pad(windows: Sequence[Window], pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Right-padded ids, attention mask and scored mask, each `[batch, tokens]`."""
    longest = max(len(window.ids) for window in windows)
    ids = torch.full((len(windows), longest), pad_id, dtype=torch.long)
    attention = torch.zeros((len(windows), longest), dtype=torch.long)
    scored = torch.zeros((len(windows), longest), dtype=torch.bool)
    for i, window in enumerate(windows):
        length = len(window.ids)
        ids[i, :length] = torch.from_numpy(window.ids)
        attention[i, :length] = 1
        scored[i, :length] = torch.from_numpy(window.scored)
    return ids, attention, scored
