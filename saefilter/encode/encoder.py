"""The encoder: windows of tokens in, pooled feature activations per row out.

Dense `[tokens, d_sae]` results never leave a chunk; what leaves a batch is sparse and pooled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from saefilter.encode.batches import pad, plan_batches
from saefilter.encode.belong import agreed_hook, check_d_model, foreign_sae
from saefilter.encode.checkpoint import commit_of
from saefilter.encode.l0 import l0_warning, sentence
from saefilter.encode.model import (
    TruncatedModel,
    load_config,
    load_truncated_model,
    truncated_config,
)
from saefilter.encode.placement import model_size, place
from saefilter.encode.presets import Preset
from saefilter.encode.rendering import build_renderer
from saefilter.encode.sae import Sae, hook_layers, load_sae
from saefilter.encode.sae_source import find_sae
from saefilter.errors import SaefilterError
from saefilter.rows.render import PlainRenderer, RenderOptions, Window, load_tokenizer

DEFAULT_BATCH_TOKENS = 8192
DEFAULT_CONTEXT = 2048
"""Where a configuration does not name the model's limit."""
SAE_CHUNK_TOKENS = 2048
TOP_TOKENS = 5
"""Tokens remembered per row as evidence."""


class TokenScore(NamedTuple):
    """A token's share in its row's score."""

    start: int
    end: int
    """Character span in the row's text."""
    score: float


@dataclass(frozen=True)
class Encoded:
    """Pooled activations of `n_rows` rows; rows without windows are all zero."""

    features: sparse.csr_matrix
    """Pooled feature activations, `[n_rows, d_sae]`."""
    residual: NDArray[np.float32]
    """Mean residual over scored tokens, `[n_rows, d_model]`."""
    n_tokens: NDArray[np.int64]
    """Scored tokens per row, `[n_rows]`."""
    top_tokens: list[list[TokenScore]]
    """Per row, the tokens with the largest weighted activation; empty without `token_weights`."""
    n_active: int
    """Active features, summed over scored tokens."""
    fired: NDArray[np.int64] | None = None
    """On how many scored tokens each feature fires, `[d_sae]`; None unless asked for."""


class Encoder:
    """A loaded preset: tokenizer, truncated model and SAE on one device.

    Raises SaefilterError when they do not belong together, before any weight of the model is read.
    """

    def __init__(
        self,
        preset: Preset,
        *,
        device: str = "auto",
        dtype: str = "auto",
        device_map: str | None = None,
        quantize: str = "none",
    ):
        self.preset = preset
        sae = load_sae(find_sae(preset.sae))
        self.hook = agreed_hook(preset, sae)
        layers = hook_layers(self.hook)
        path = preset.model_path()
        config = truncated_config(load_config(path, preset.revision), layers, preset.model)
        self.revision = commit_of(path, preset.revision)
        check_d_model(preset, sae.d_model, config.hidden_size)
        self.placement = place(
            model_size(config).parameters,
            sae.n_bytes,
            device=device,
            dtype=preset.dtype if dtype == "auto" else dtype,
            device_map=device_map,
        )
        self.dtype = self.placement.dtype
        self.device = self.placement.device
        self.context: int = preset.context or int(
            getattr(config, "max_position_embeddings", DEFAULT_CONTEXT)
        )
        self.tokenizer = load_tokenizer(path, preset.revision)
        self.model: TruncatedModel = load_truncated_model(
            path,
            layers,
            revision=preset.revision,
            dtype=self.dtype,
            device=self.device,
            device_map=self.placement.device_map,
            quantize=quantize,
        )
        self.sae: Sae = sae.to(self.device)
        self.warnings = foreign_sae(preset, sae)
        self._n_active = self._n_encoded = 0

    def renderer(
        self, options: RenderOptions | None = None, rendering: str = "auto"
    ) -> PlainRenderer:
        """The renderer that goes with this model. Raises SaefilterError when it has no template."""
        return build_renderer(
            self.tokenizer,
            self.preset,
            context=self.context,
            prepend_bos=bool(self.sae.prepend_bos),
            options=options,
            rendering=rendering,
        )

    def all_warnings(self) -> list[str]:
        """What is doubtful about this pair, as sentences; the L0 counts once rows are encoded."""
        return [sentence(text) for text in [*self.warnings, self.l0_warning()] if text]

    def l0(self) -> float:
        """Active features per token, over all that has been encoded."""
        return self._n_active / max(1, self._n_encoded)

    def l0_warning(self) -> str | None:
        """What is suspicious about the measured L0; None when nothing is."""
        return l0_warning(self.l0(), self.sae.expected_l0) if self._n_encoded else None

    @torch.inference_mode()
    def encode(
        self,
        windows: Sequence[Window],
        n_rows: int,
        *,
        pool: str = "mean",
        batch_tokens: int = DEFAULT_BATCH_TOKENS,
        token_weights: NDArray[np.float32] | None = None,
        count_fired: bool = False,
        advance: Callable[[int], None] | None = None,
    ) -> Encoded:
        """Encode windows and pool their scored tokens per row.

        `token_weights`, `[d_sae]`, is what a unit of each feature adds to a row's score; with it the
        tokens that add most are remembered. `count_fired` counts the tokens on which each feature
        fires. `advance` is told the real tokens of each batch done.
        """
        weights = None
        if token_weights is not None:
            weights = torch.from_numpy(token_weights).to(self.device)
        pooled = _Pool(n_rows, self.sae, pool, count_fired)
        for batch, tokens in self._residuals(windows, batch_tokens):
            pooled.add(batch, tokens, weights)
            if advance is not None:
                advance(sum(len(window.ids) for window in batch))
        self._n_active += pooled.n_active
        self._n_encoded += int(pooled.n_tokens.sum())
        return pooled.result()

    @torch.inference_mode()
    def active_tokens(
        self, windows: Sequence[Window], wanted: NDArray[np.bool_], batch_tokens: int
    ) -> Iterator[tuple[Window, int, int, float]]:
        """Where the `wanted` features, `[d_sae]`, fire: window, token in it, feature, activation."""
        mask = torch.from_numpy(wanted).to(self.device)
        for batch, tokens in self._residuals(windows, batch_tokens):
            places = [(w, int(p)) for w in batch for p in np.flatnonzero(w.scored)]
            for start in range(0, len(tokens), SAE_CHUNK_TOKENS):
                active = self.sae.encode(tokens[start : start + SAE_CHUNK_TOKENS])
                chosen = mask[active.feature]
                for token, feature, value in zip(
                    active.token[chosen].tolist(),
                    active.feature[chosen].tolist(),
                    active.value[chosen].tolist(),
                    strict=True,
                ):
                    yield (*places[start + token], feature, value)

    def _residuals(
        self, windows: Sequence[Window], batch_tokens: int
    ) -> Iterator[tuple[list[Window], torch.Tensor]]:
        return residual_batches(self.model, windows, self.tokenizer.pad_token_id or 0, batch_tokens)


def residual_batches(
    model: TruncatedModel, windows: Sequence[Window], pad_id: int, batch_tokens: int
) -> Iterator[tuple[list[Window], torch.Tensor]]:
    """Batches of windows with the residuals of their scored tokens, `[n_scored, d_model]` fp32,
    window after window. Raises SaefilterError when one is not finite."""
    for positions in plan_batches([len(window.ids) for window in windows], batch_tokens):
        batch = [windows[position] for position in positions]
        ids, attention, scored = pad(batch, pad_id)
        residual = model.residual(ids, attention)
        tokens = residual[scored.to(residual.device)].float()
        if not torch.isfinite(tokens).all():
            raise SaefilterError(
                "the model gave values that are not finite", remedy="Try --dtype fp32."
            )
        yield batch, tokens


class _Pool:
    """Collects batches and reduces them to one sparse row per dataset row."""

    def __init__(self, n_rows: int, sae: Sae, pool: str, count_fired: bool = False):
        self.n_rows = n_rows
        self.sae = sae
        self.pool = pool
        self.parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
        self.residual = np.zeros((n_rows, sae.d_model), dtype=np.float32)
        self.n_tokens = np.zeros(n_rows, dtype=np.int64)
        self.n_active = 0
        self.fired = torch.zeros(sae.d_sae, dtype=torch.int64) if count_fired else None
        self.top_tokens: list[list[TokenScore]] = [[] for _ in range(n_rows)]

    def add(
        self, windows: list[Window], tokens: torch.Tensor, weights: torch.Tensor | None
    ) -> None:
        counts = [int(window.scored.sum()) for window in windows]
        # window of each token; pooled per window here, windows are merged into rows at the end
        owner = torch.repeat_interleave(torch.arange(len(windows)), torch.tensor(counts))
        owner = owner.to(tokens.device)
        dense = torch.zeros(len(windows), self.sae.d_sae, device=tokens.device)
        token_scores = torch.zeros(len(tokens), device=tokens.device)
        for start in range(0, len(tokens), SAE_CHUNK_TOKENS):
            chunk = slice(start, start + SAE_CHUNK_TOKENS)
            active = self.sae.encode(tokens[chunk])
            self.n_active += len(active.value)
            if self.fired is not None:
                self.fired += torch.bincount(active.feature, minlength=self.sae.d_sae).cpu()
            where = owner[chunk][active.token] * self.sae.d_sae + active.feature
            if self.pool == "mean":
                dense.view(-1).index_add_(0, where, active.value)
            else:
                dense.view(-1).scatter_reduce_(0, where, active.value, reduce="amax")
            if weights is not None:
                token_scores[chunk].index_add_(
                    0, active.token, active.value * weights[active.feature]
                )
        window_index, feature = dense.nonzero(as_tuple=True)
        rows = np.array([window.row for window in windows], dtype=np.int64)
        self.parts.append(
            (
                rows[window_index.cpu().numpy()],
                feature.cpu().numpy(),
                dense[window_index, feature].cpu().numpy(),
            )
        )
        sums = torch.zeros(len(windows), self.sae.d_model, device=tokens.device)
        np.add.at(self.residual, rows, sums.index_add_(0, owner, tokens).cpu().numpy())
        np.add.at(self.n_tokens, rows, counts)
        if weights is not None:
            scores = torch.split(token_scores.cpu(), counts)
            for window, values in zip(windows, scores, strict=True):
                self._remember(window, values.numpy())

    def _remember(self, window: Window, values: NDArray[np.float32]) -> None:
        spans = window.spans[window.scored]
        best = np.argsort(-values, kind="stable")[:TOP_TOKENS]
        found = [
            TokenScore(int(spans[i, 0]), int(spans[i, 1]), float(values[i]))
            for i in best
            if values[i] > 0
        ]
        merged = sorted(self.top_tokens[window.row] + found, key=lambda token: -token.score)
        self.top_tokens[window.row] = merged[:TOP_TOKENS]

    def result(self) -> Encoded:
        shape = (self.n_rows, self.sae.d_sae)
        if self.parts:
            rows, features, values = (
                np.concatenate(column) for column in zip(*self.parts, strict=True)
            )
        else:
            rows, features, values = np.empty(0, int), np.empty(0, int), np.empty(0, np.float32)
        counts = np.maximum(self.n_tokens, 1)
        if self.pool == "mean":
            values = (values / counts[rows]).astype(np.float32)
            matrix = sparse.coo_matrix((values, (rows, features)), shape=shape).tocsr()
        else:
            matrix = _max_csr(rows, features, values, shape)
        residual = (self.residual / counts[:, None]).astype(np.float32)
        fired = None if self.fired is None else self.fired.numpy()
        return Encoded(matrix, residual, self.n_tokens, self.top_tokens, self.n_active, fired)


def _max_csr(
    rows: NDArray[np.int64],
    features: NDArray[np.int64],
    values: NDArray[np.float32],
    shape: tuple[int, int],
) -> sparse.csr_matrix:
    """Duplicates are reduced by their maximum, where `tocsr` would add them."""
    keys = rows * shape[1] + features
    order = np.argsort(keys, kind="stable")
    unique, starts = np.unique(keys[order], return_index=True)
    largest = np.maximum.reduceat(values[order], starts) if len(unique) else values
    return sparse.csr_matrix((largest, (unique // shape[1], unique % shape[1])), shape=shape)
