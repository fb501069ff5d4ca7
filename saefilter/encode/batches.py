"""Put windows into batches of similar length under a budget of padded tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saefilter.rows.rendered import Window

CPU_BATCH_TOKENS = 1024
"""Small enough that a batch's activations stay in a core's cache; docs/performance.md has figures."""
GPU_BATCH_TOKENS = 16_384
"""Large enough that a GPU's matrix units are filled."""
LIKE_LENGTH = 0.92
"""A batch that is filled well enough takes no window shorter than this share of its longest."""
FILLED = 0.25
"""Share of the budget from which a batch is filled well enough."""


LOOKED_AT = 1 / 8
"""What a token of a shared prefix costs, which is only looked at, in tokens that are computed."""


class Batch(NamedTuple):
    """Windows that go through the model together."""

    windows: list[Window]
    prefix: int = 0
    """Tokens that all of them begin with, which are computed once. None of them is scored."""

    @property
    def n_tokens(self) -> int:
        """Real tokens."""
        return sum(len(window.ids) for window in self.windows)

    @property
    def n_padded(self) -> int:
        """Tokens, padding included."""
        return len(self.windows) * max(len(window.ids) for window in self.windows)

    @property
    def n_saved(self) -> int:
        """Tokens that need not be computed."""
        return (len(self.windows) - 1) * self.prefix

    @property
    def cost(self) -> int:
        """What counts against a budget."""
        return len(self.windows) * max(cost_of(window, self.prefix) for window in self.windows)

    def halves(self) -> tuple[Batch, Batch]:
        """The same as two batches."""
        half = len(self.windows) // 2
        return Batch(self.windows[:half], self.prefix), Batch(self.windows[half:], self.prefix)


def cost_of(window: Window, prefix: int) -> int:
    """A window's share of a batch's budget, in tokens that are computed."""
    return len(window.ids) - prefix + int(prefix * LOOKED_AT)


class PaddedBatch(NamedTuple):
    """Windows as one rectangle, padded on the right, without the prefix that they share."""

    ids: Tensor
    """`[batch, tokens]`"""
    attention: Tensor
    """1 for a real token, `[batch, tokens]`."""
    scored: Tensor
    """`[batch, tokens]`"""
    prefix: Tensor | None = None
    """What every row begins with, before these tokens, `[n_prefix]`."""


def default_batch_tokens(device: torch.device) -> int:
    """The budget for a device, where the user names none."""
    return CPU_BATCH_TOKENS if device.type == "cpu" else GPU_BATCH_TOKENS


def plan_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Positions of `lengths`, grouped; longest first, so that a lack of memory shows at once.

    A batch costs its longest length times its size, at most `batch_tokens`; a single window longer
    than the budget is a batch of its own. A batch ends early where the next windows are much
    shorter, since what is padded is computed for nothing.
    """
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    batches: list[list[int]] = []
    start = 0
    while start < len(order):
        longest = max(1, lengths[order[start]])
        end = start + 1
        while end < len(order) and (end + 1 - start) * longest <= batch_tokens:
            filled = (end - start) * longest >= FILLED * batch_tokens
            if filled and lengths[order[end]] < LIKE_LENGTH * longest:
                break
            end += 1
        batches.append(order[start:end])
        start = end
    return batches


def pad(windows: Sequence[Window], pad_id: int, prefix: int = 0) -> PaddedBatch:
    """Right-padded ids, attention mask and scored mask, without the first `prefix` tokens, which are
    those of all windows."""
    shape = len(windows), max(len(window.ids) for window in windows) - prefix
    ids = np.full(shape, pad_id, dtype=np.int64)
    attention = np.zeros(shape, dtype=np.int64)
    scored = np.zeros(shape, dtype=bool)
    for i, window in enumerate(windows):
        length = len(window.ids) - prefix
        ids[i, :length] = window.ids[prefix:]
        attention[i, :length] = 1
        scored[i, :length] = window.scored[prefix:]
    common = torch.from_numpy(windows[0].ids[:prefix].astype(np.int64)) if prefix else None
    return PaddedBatch(
        torch.from_numpy(ids), torch.from_numpy(attention), torch.from_numpy(scored), common
    )


def scored_counts(windows: Sequence[Window]) -> NDArray[np.int64]:
    """Scored tokens of each window, `[n_windows]`."""
    return np.array([np.count_nonzero(window.scored) for window in windows], dtype=np.int64)
