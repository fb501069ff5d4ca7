"""The model read after an earlier layer than the hook's; the layers above are not run."""

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
from saefilter.encode.fast.prefixes import plan
from saefilter.encode.model import TruncatedModel
from saefilter.errors import SaefilterError
from saefilter.rows.rendered import Window
from saefilter.stats.tally import Tally

if TYPE_CHECKING:
    from saefilter.encode.encoder import Encoder


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
        stack[layer].register_forward_hook(self._stop)

    def _stop(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if getattr(self._local, "wanted", False):
            raise _Read(output[0] if isinstance(output, tuple) else output)

    def scored_residuals(self, batch: PaddedBatch) -> Tensor:
        """The residuals there of the scored tokens, row after row, `[n_scored, d_model]` fp32."""
        self._local.wanted = True
        try:
            self._model.scored_residuals(batch)
        except _Read as read:
            return read.residual[batch.scored.to(read.residual.device)].float()
        finally:
            self._local.wanted = False
        raise AssertionError("the layer was not run")


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
    for batch, summed in encoder.lanes.map(partial(_summed, encoder, model), batches):
        rows = np.array([window.row for window in batch.windows], dtype=np.int64)
        counts = scored_counts(batch.windows)
        np.add.at(sums, rows, summed)
        np.add.at(tokens, rows, counts)
        tally += Tally(batch.n_tokens, batch.n_padded, 0, int(counts.sum()))
        advance(batch.n_tokens)
    sums /= np.maximum(tokens, 1)[:, None].astype(np.float32)
    return sums, tokens, tally


def _summed(encoder: Encoder, model: EarlyModel, batch: Batch) -> tuple[Batch, NDArray[np.float32]]:
    """Sums over each window's scored tokens, `[n_windows, d_model]`."""
    residual = model.scored_residuals(encoder.padded(batch))
    counts = torch.from_numpy(scored_counts(batch.windows)).to(residual.device)
    sums = residual.new_zeros(len(batch.windows), residual.shape[1])
    owner = torch.repeat_interleave(torch.arange(len(counts), device=residual.device), counts)
    return batch, sums.index_add_(0, owner, residual).cpu().numpy()
