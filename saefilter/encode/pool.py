"""Pool the SAE features of one batch's scored tokens per window; what leaves is sparse.

Dense `[tokens, d_sae]` results exist for a chunk of tokens only. On a CPU a chunk becomes a sparse
matrix at once; on a GPU, where each result that is looked at costs a wait, all stays dense and on the
device until the batch is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from saefilter.described import described
from saefilter.encode.sae import Activations, Sae
from saefilter.settings import ScoreSettings

CPU_CHUNK_TOKENS = 256
"""Enough rows for the matrix product to run at its full rate, few enough to stay near the core."""
GPU_CHUNK_BYTES = 512 << 20
"""Of one dense fp32 chunk on a GPU; several of its size exist at a time."""


@dataclass(frozen=True)
class PoolOptions:
    """What is wanted of the pooling."""

    pool: str = "mean"
    """`mean` (its sum, here; counts are known elsewhere) or `max`."""
    token_weights: Tensor | None = None
    """What a unit of each feature adds to each of some scores, `[d_sae, n_scores]`; with it, tokens get
    scores."""
    count_fired: bool = False

    def __post_init__(self) -> None:
        described(ScoreSettings)["pool"].check(self.pool)


@dataclass(frozen=True)
class PooledBatch:
    """The windows of one batch, pooled."""

    features: sparse.csr_matrix
    """Sums (or maxima) of activations over scored tokens, `[n_windows, d_sae]`."""
    residual: NDArray[np.float32]
    """Sums of residuals, `[n_windows, d_model]`."""
    token_scores: NDArray[np.float32] | None
    """Of every scored token, window after window, `[n_tokens, n_scores]`; None without weights."""
    n_active: int
    """Active features, summed over tokens."""
    fired: NDArray[np.int64] | None
    """On how many tokens each feature fires, `[d_sae]`; None unless asked for."""


def pool_batch(
    sae: Sae, tokens: Tensor, counts: NDArray[np.int64], options: PoolOptions
) -> PooledBatch:
    """Encode the residuals of scored tokens, `[n_tokens, d_model]`, and pool them per window.

    `counts`: scored tokens of each window, `[n_windows]`, in the order of `tokens`.
    """
    if tokens.device.type == "cpu":
        return _pool_sparse(sae, tokens, counts, options)
    return _pool_dense(sae, tokens, counts, options)


def _pool_sparse(
    sae: Sae, tokens: Tensor, counts: NDArray[np.int64], options: PoolOptions
) -> PooledBatch:
    shape = len(counts), sae.d_sae
    owner = np.repeat(np.arange(len(counts)), counts)
    weights = None if options.token_weights is None else options.token_weights.numpy()
    by_chunk, scores, n_active = [], [], 0
    fired = np.zeros(sae.d_sae, dtype=np.int64) if options.count_fired else None
    for start in range(0, len(tokens), CPU_CHUNK_TOKENS):
        chunk = slice(start, start + CPU_CHUNK_TOKENS)
        active = _as_matrix(sae.encode(tokens[chunk]), len(tokens[chunk]), sae.d_sae)
        n_active += active.nnz
        if fired is not None:
            fired += np.bincount(active.indices, minlength=sae.d_sae)
        if weights is not None:
            scores.append(active @ weights)
        pooled = _maxima if options.pool == "max" else _sums
        by_chunk.append(pooled(active, owner[chunk], len(counts)))
    features = by_chunk[0] if by_chunk else sparse.csr_matrix(shape, dtype=np.float32)
    for more in by_chunk[1:]:
        features = features.maximum(more) if options.pool == "max" else features + more
    # summed here rather than by torch: rows in a fixed order, whatever the number of threads
    residual = np.zeros((len(counts), sae.d_model), dtype=np.float32)
    used = counts > 0
    if used.any():
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])[used]
        residual[used] = np.add.reduceat(tokens.numpy(), starts, axis=0)
    token_scores = None
    if weights is not None:
        none = np.zeros((0, weights.shape[1]), dtype=np.float32)
        token_scores = np.concatenate([none, *scores])
    return PooledBatch(features.tocsr(), residual, token_scores, n_active, fired)


def _as_matrix(active: Activations, n_tokens: int, d_sae: int) -> sparse.csr_matrix:
    """`[n_tokens, d_sae]`; the activations come token by token."""
    ends = np.cumsum(np.bincount(active.token.numpy(), minlength=n_tokens))
    return sparse.csr_matrix(
        (active.value.numpy(), active.feature.numpy(), np.concatenate([[0], ends])),
        shape=(n_tokens, d_sae),
    )


def _sums(active: sparse.csr_matrix, owner: NDArray[np.int64], n: int) -> sparse.csr_matrix:
    """Rows of the same owner added, `[n, d_sae]`."""
    ones = np.ones(len(owner), dtype=np.float32)
    return sparse.csr_matrix((ones, (owner, np.arange(len(owner)))), (n, len(owner))) @ active


def _maxima(active: sparse.csr_matrix, owner: NDArray[np.int64], n: int) -> sparse.csr_matrix:
    """The largest of the rows of the same owner, `[n, d_sae]`."""
    first = owner[0]
    dense = np.zeros((owner[-1] - first + 1, active.shape[1]), dtype=np.float32)
    token = np.repeat(owner - first, np.diff(active.indptr))
    np.maximum.at(dense, (token, active.indices), active.data)
    entries = sparse.coo_matrix(dense)
    return sparse.csr_matrix(
        (entries.data, (entries.row + first, entries.col)), (n, active.shape[1])
    )


def _pool_dense(
    sae: Sae, tokens: Tensor, counts: NDArray[np.int64], options: PoolOptions
) -> PooledBatch:
    device, n = tokens.device, len(counts)
    owner = torch.repeat_interleave(torch.from_numpy(counts)).to(device)
    numbers = torch.arange(n, device=device)
    features = torch.zeros(n, sae.d_sae, device=device)
    residual = torch.zeros(n, sae.d_model, device=device)
    weights = options.token_weights
    scores = torch.zeros(len(tokens), 0 if weights is None else weights.shape[1], device=device)
    n_active = torch.zeros((), dtype=torch.int64, device=device)
    fired = torch.zeros(sae.d_sae, dtype=torch.int64, device=device)
    step = max(CPU_CHUNK_TOKENS, GPU_CHUNK_BYTES // (4 * sae.d_sae))
    for start in range(0, len(tokens), step):
        chunk = slice(start, start + step)
        active = sae.dense(tokens[chunk])
        # a product with a matrix of ones and zeros: unlike scattered adds, the same at every run
        belongs = (owner[chunk] == numbers[:, None]).float()
        residual += belongs @ tokens[chunk]
        if options.pool == "max":
            index = owner[chunk, None].expand_as(active)
            features.scatter_reduce_(0, index, active, reduce="amax")
        else:
            features += belongs @ active
        if weights is not None:
            scores[chunk] = active @ weights
        n_active += torch.count_nonzero(active)
        if options.count_fired:
            fired += torch.count_nonzero(active, dim=0)
    row, feature = features.nonzero(as_tuple=True)
    pooled = sparse.csr_matrix(
        (features[row, feature].cpu().numpy(), (row.cpu().numpy(), feature.cpu().numpy())),
        shape=(n, sae.d_sae),
    )
    return PooledBatch(
        pooled,
        residual.cpu().numpy(),
        None if weights is None else scores.cpu().numpy(),
        int(n_active),
        fired.cpu().numpy() if options.count_fired else None,
    )


def stack_rows(
    batches: Sequence[PooledBatch], rows: NDArray[np.int64], n_rows: int, *, pool: str
) -> sparse.csr_matrix:
    """The windows of all batches merged into the rows that they belong to, `[n_rows, d_sae]`.

    `rows`: the row of each window, batch after batch.
    """
    windows = sparse.vstack([batch.features for batch in batches], format="csr")
    if pool == "max":
        owner = np.repeat(rows, np.diff(windows.indptr))
        keys = owner * windows.shape[1] + windows.indices
        order = np.argsort(keys, kind="stable")
        unique, starts = np.unique(keys[order], return_index=True)
        largest = np.maximum.reduceat(windows.data[order], starts) if len(unique) else windows.data
        index = (unique // windows.shape[1], unique % windows.shape[1])
        return sparse.csr_matrix((largest, index), shape=(n_rows, windows.shape[1]))
    order = np.argsort(rows, kind="stable")
    return _sums(windows[order], rows[order], n_rows)
