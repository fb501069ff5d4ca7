"""The model read after an earlier layer than the hook's; the layers above are not run, or for some rows alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saefilter.encode.batches import Batch, PaddedBatch, scored_counts
from saefilter.encode.encoder import finite
from saefilter.encode.fast.prefixes import plan
from saefilter.encode.model import TruncatedModel
from saefilter.errors import SaefilterError
from saefilter.rows.rendered import Window
from saefilter.stats.tally import Tally

if TYPE_CHECKING:
    from saefilter.encode.encoder import Encoder

Choose = Callable[[Tensor], Tensor]
"""Residuals of a batch, `[batch, tokens, d_model]` -> which of its rows go on, `[batch]`, on the CPU."""
N_ROWS, N_TRIED = 5, 12
"""Rows and tokens of a trial."""


class _Read(Exception):
    """What was wanted has been read."""

    def __init__(self, residual: Tensor):
        self.residual = residual


class EarlyModel:
    """A loaded model, read at the output of layer `layer`, from 0. It shares the weights, and several threads
    may read at once, whether here or at the hook."""

    def __init__(self, model: TruncatedModel, layer: int):
        """Raises SaefilterError where the model has no such layer before the hook's."""
        stack = next(
            (m for m in model.model.modules() if isinstance(m, nn.ModuleList) and model.hook_module is m[-1]),
            None,
        )  # fmt: skip
        if stack is None or not 0 <= layer < len(stack) - 1:
            before = "no" if stack is None else f"layers 0 to {len(stack) - 2}"
            raise SaefilterError(
                f"the model has {before} before its hook, and layer {layer} is none of these",
                remedy="Read it after an earlier layer than the SAE's.",
            )
        self._model = model
        self._local = threading.local()
        stack[layer].register_forward_hook(self._look)
        self.exits = self._can_go_on_with_some()
        """Whether some rows of a batch may go on to the hook while the others end here."""

    def _look(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        choose: Choose | None = getattr(self._local, "choose", None)
        if choose is None:
            return None
        hidden = output[0] if isinstance(output, tuple) else output
        chosen = choose(hidden)
        if not chosen.any():
            raise _Read(hidden)
        if chosen.all():
            return None
        rest = hidden[chosen.to(hidden.device)]
        return (rest, *output[1:]) if isinstance(output, tuple) else rest

    def scored_residuals(self, batch: PaddedBatch) -> Tensor:
        """The residuals there of the scored tokens, row after row, `[n_scored, d_model]` fp32. Raises SaefilterError
        when one is not finite."""
        self._local.choose = lambda hidden: torch.zeros(len(hidden), dtype=torch.bool)
        try:
            self._model.hook_residual(batch)
        except _Read as read:
            return finite(read.residual[batch.scored.to(read.residual.device)])
        finally:
            self._local.choose = None
        raise AssertionError("the layer was not run")

    def read_on(self, batch: PaddedBatch, choose: Choose) -> Tensor:
        """The residuals at the hook of the scored tokens of those rows that go on from here, row after row,
        `[n_scored, d_model]`; all in one pass, in which the batch gets smaller after this layer. Only where
        it `exits`, and of batches without a prefix.

        `choose` is given the residuals here, `[batch, tokens, d_model]`, and says which rows go on, `[batch]`.
        """
        chosen = torch.zeros(0, dtype=torch.bool)

        def noting(hidden: Tensor) -> Tensor:
            nonlocal chosen
            chosen = choose(hidden)
            return chosen

        self._local.choose = noting
        try:
            residual = self._model.hook_residual(batch)
        except _Read as read:
            return read.residual.new_zeros(0, self._model.d_model)
        finally:
            self._local.choose = None
        if len(residual) != int(chosen.sum()):
            raise AssertionError("the layers above gave other rows than they were given")
        return residual[batch.scored[chosen].to(residual.device)]

    @torch.inference_mode()
    def _can_go_on_with_some(self) -> bool:
        """Whether the layers above do with fewer rows what they do with all. By a trial: what a model hands to
        its layers beside the residuals, masks above all, may be made for each row of the batch. It is not
        tried where layers look back over a window, whose masks are there for long rows alone."""
        model: Any = self._model.model
        if not self._model.causal or _looks_back_over_windows(model.config):
            return False
        vocabulary = model.get_input_embeddings().weight.shape[0]
        ids = torch.arange(1, N_ROWS * N_TRIED + 1).view(N_ROWS, N_TRIED) % vocabulary
        every = torch.ones_like(ids)
        batch = PaddedBatch(ids, every, every.bool())
        some = torch.arange(N_ROWS) % 2 == 0
        whole = self._model.hook_residual(batch)[some].float()
        try:
            gone_on = self.read_on(batch, lambda _: some).float().view(*whole.shape)
        except (AssertionError, IndexError, RuntimeError, TypeError, ValueError):
            return False
        exact = model.dtype == torch.float32
        return bool((gone_on - whole).norm() <= (1e-4 if exact else 5e-2) * whole.norm())


def _looks_back_over_windows(config: Any) -> bool:
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return any(kind != "full_attention" for kind in kinds)
    windows = getattr(config, "sliding_window", None)
    return windows is not None and getattr(config, "use_sliding_window", True)


def mean_residuals(
    encoder: Encoder,
    model: EarlyModel,
    windows: Sequence[Window],
    n_rows: int,
    batch_tokens: int | None,
    advance: Callable[[int], None],
) -> tuple[NDArray[np.float32], NDArray[np.int64], Tally]:
    """Mean residual over each row's scored tokens, `[n_rows, d_model]`, zeros for a row without; how many
    tokens these are, `[n_rows]`; and what was read. In the encoder's lanes and batches."""
    budget = min(batch_tokens or encoder.batch_tokens, encoder.memory_limit or 1 << 62)
    sums: NDArray[np.float32] = np.zeros((n_rows, encoder.sae.d_model), dtype=np.float32)
    tokens = np.zeros(n_rows, dtype=np.int64)
    tally = Tally()
    batches = plan(windows, budget, None)  # a shared prefix would be computed up to the hook
    for batch, sums_here in encoder.lanes.map(partial(_summed, encoder, model), batches):
        rows = np.array([window.row for window in batch.windows], dtype=np.int64)
        counts = scored_counts(batch.windows)
        np.add.at(sums, rows, sums_here)
        np.add.at(tokens, rows, counts)
        tally += Tally(batch.n_tokens, batch.n_padded, 0, int(counts.sum()))
        advance(batch.n_tokens)
    sums /= np.maximum(tokens, 1)[:, None].astype(np.float32)
    return sums, tokens, tally


def _summed(encoder: Encoder, model: EarlyModel, batch: Batch) -> tuple[Batch, NDArray[np.float32]]:
    """Sums over each window's scored tokens, `[n_windows, d_model]`."""
    residual = model.scored_residuals(encoder.padded(batch))
    return batch, summed(residual, scored_counts(batch.windows))


def summed(residual: Tensor, counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Sums over each window's scored tokens, `[n_windows, d_model]`. `residual`: of these, window after window,
    `[n_scored, d_model]` fp32; `counts`: how many each has."""
    each = torch.from_numpy(counts).to(residual.device)
    sums = residual.new_zeros(len(counts), residual.shape[1])
    owner = torch.repeat_interleave(torch.arange(len(each), device=residual.device), each)
    return sums.index_add_(0, owner, residual).cpu().numpy()
