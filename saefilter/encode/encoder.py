"""The encoder: windows of tokens in, pooled feature activations per row out.

Batches go through the model in lanes (fast/lanes.py), each pooled as it is done (pool.py). A batch for
which memory does not suffice is halved and tried again, and so is the budget of those that follow.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from saefilter.encode.batches import Batch, PaddedBatch, default_batch_tokens, pad, scored_counts
from saefilter.encode.checkpoint import commit_of
from saefilter.encode.checks import (
    agreed_hook,
    check_d_model,
    foreign_sae,
    hook_layers,
    l0_warning,
    sentence,
)
from saefilter.encode.encoded import CollectedRows, Encoded
from saefilter.encode.fast.lanes import Lanes
from saefilter.encode.fast.prefixes import plan
from saefilter.encode.model import DTYPES
from saefilter.encode.placement import ResidualModel, cpu_multiplies_bf16, find_model, place
from saefilter.encode.pool import CPU_CHUNK_TOKENS, PooledBatch, PoolOptions, pool_batch
from saefilter.encode.presets import Preset, preset_of
from saefilter.encode.rendering import RendererSpec
from saefilter.encode.sae import Activations, Sae, load_sae
from saefilter.encode.sae_source import find_sae
from saefilter.errors import SaefilterError, is_out_of_memory
from saefilter.rows.render import PlainRenderer
from saefilter.rows.rendered import RenderOptions, Window
from saefilter.rows.wordpiece import tokenizer_for_rendering
from saefilter.settings import ScoreSettings
from saefilter.stats.tally import Tally

Reads = Callable[[Batch], tuple[Batch, torch.Tensor]]
"""Reads a batch: those of its windows that were read to the hook, and the residuals there of their scored
tokens, `[n_scored, d_model]`."""


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
        model = find_model(preset, layers, device=device, device_map=device_map, quantize=quantize)
        self.revision = commit_of(path, preset.revision)
        check_d_model(preset, sae.d_model, model.d_model)
        self.placement = place(
            model.n_parameters,
            sae.n_bytes,
            device=device,
            dtype=preset.dtype if dtype == "auto" else dtype,
            device_map=device_map,
            ranks_in_bf16=preset.ranks_in_bf16,
        )
        self.dtype = self.placement.dtype
        self.device = self.placement.device
        self.context = model.context
        self.tokenizer = tokenizer_for_rendering(path, preset.revision)
        self.model: ResidualModel = model.load(self.placement)
        fast = self.device.type != "cpu" or cpu_multiplies_bf16()
        self.sae: Sae = sae.to(self.device, DTYPES[self.dtype] if fast else torch.float32)
        self.warnings = foreign_sae(preset, sae)
        self.batch_tokens = default_batch_tokens(self.device)
        """Budget of a batch where the caller names none."""
        self.memory_limit: int | None = None
        """Largest budget of a batch, once memory did not suffice for more."""
        self.lanes = Lanes(self.device)
        self._lock = threading.Lock()
        self._weights: tuple[NDArray[np.float32], torch.Tensor] | None = None
        self.tally = Tally()
        """Of all that has been encoded."""

    @classmethod
    def of(cls, settings: ScoreSettings) -> Encoder:
        """What the settings say to read with, where and how precisely."""
        preset = preset_of(settings)
        return cls(
            preset, device=settings.device, dtype=settings.dtype,
            device_map=settings.device_map, quantize=settings.quantize,
        )  # fmt: skip

    def close(self) -> None:
        """End its threads. It cannot encode any more."""
        self.lanes.close()

    def renderer_spec(
        self, options: RenderOptions | None = None, rendering: str = "auto"
    ) -> RendererSpec:
        """What the renderer of this model is made of."""
        return RendererSpec(
            self.preset,
            self.context,
            bool(self.sae.prepend_bos),
            options or RenderOptions(),
            rendering,
        )

    def renderer(
        self, options: RenderOptions | None = None, rendering: str = "auto"
    ) -> PlainRenderer:
        """The renderer that goes with this model. Raises SaefilterError when it has no template."""
        return self.renderer_spec(options, rendering).build(self.tokenizer)

    def all_warnings(self) -> list[str]:
        """What is doubtful about this pair, as sentences; the L0 counts once rows are encoded."""
        return [sentence(text) for text in [*self.warnings, self.l0_warning()] if text]

    def l0_warning(self) -> str | None:
        """What is suspicious about the measured L0; None when nothing is."""
        return l0_warning(self.tally.l0, self.sae.expected_l0) if self.tally.scored else None

    def cuts_ends(self) -> bool:
        """Whether what comes after a text's last scored token may be left unread: in models in which no
        token sees a later one, nor the length of the whole."""
        shares = self.model.shares_prefixes
        return shares is not None and shares()

    def limit_memory(self, batch_tokens: int | None) -> None:
        """Plan no batch of more tokens from now on; None changes nothing."""
        with self._lock:
            limits = [limit for limit in (self.memory_limit, batch_tokens) if limit is not None]
            self.memory_limit = min(limits, default=None)

    def encode(
        self,
        windows: Sequence[Window],
        n_rows: int,
        *,
        pool: str = "mean",
        batch_tokens: int | None = None,
        token_weights: NDArray[np.float32] | None = None,
        count_fired: bool = False,
        advance: Callable[[int], None] | None = None,
        read: Reads | None = None,
    ) -> Encoded:
        """Encode windows and pool their scored tokens per row. Several threads may call it.

        `token_weights`, `[d_sae, n_scores]`, is what a unit of each feature adds to each of a row's
        scores; with it the tokens that add most are remembered. `count_fired` counts the tokens on which each feature
        fires. `advance` is told the real tokens of each batch done. `read` reads a batch where that is not as
        the model does, perhaps some of its windows alone; no prefix is shared then. Raises SaefilterError when
        memory does not suffice for a single window, or a residual is not finite.
        """
        options = PoolOptions(pool, self._uploaded(token_weights), count_fired)
        rows = CollectedRows(n_rows, self.sae.d_model)
        batches = self._plan(windows, batch_tokens, share=read is None)
        for done in self.lanes.map(partial(self._pooled, options, read or self._whole), batches):
            for batch, pooled in done:
                rows.add(batch, pooled)
                if advance is not None:
                    advance(batch.n_tokens)
        encoded = rows.result(self.sae.d_sae, pool)
        with self._lock:
            self.tally += encoded.tally
        return encoded

    def _uploaded(self, weights: NDArray[np.float32] | None) -> torch.Tensor | None:
        """The weights on the device; those of the last call are still there."""
        if weights is None:
            return None
        with self._lock:
            if self._weights is None or self._weights[0] is not weights:
                tensor = torch.from_numpy(weights).to(self.device)
                if self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)  # lanes have streams of their own
                self._weights = weights, tensor
            return self._weights[1]

    def active_tokens(
        self, windows: Sequence[Window], wanted: NDArray[np.bool_]
    ) -> Iterator[tuple[Window, int, int, float]]:
        """Where the `wanted` features, `[d_sae]`, fire: window, token in it, feature, activation."""
        mask = torch.from_numpy(wanted)

        def active_in(batch: Batch) -> list[tuple[Window, int, int, float]]:
            places = [(w, int(p)) for w in batch.windows for p in np.flatnonzero(w.scored)]
            active = []
            tokens = finite(self.model.scored_residuals(self.padded(batch))).to(self.device)
            for start in range(0, len(tokens), CPU_CHUNK_TOKENS):
                encoded = self.sae.encode(tokens[start : start + CPU_CHUNK_TOKENS])
                active_here = Activations(*(column.cpu() for column in encoded))
                chosen = mask[active_here.feature]
                columns = (column[chosen].tolist() for column in active_here)
                active += [(*places[start + t], f, v) for t, f, v in zip(*columns, strict=True)]
            return active

        for active in self.lanes.map(active_in, self._plan(windows, None)):
            yield from active

    def _plan(
        self, windows: Sequence[Window], batch_tokens: int | None, *, share: bool = True
    ) -> list[Batch]:
        budget = min(batch_tokens or self.batch_tokens, self.memory_limit or 1 << 62)
        return plan(windows, budget, self.model.shares_prefixes if share else None)

    def _whole(self, batch: Batch) -> tuple[Batch, torch.Tensor]:
        return batch, self.model.scored_residuals(self.padded(batch))

    def padded(self, batch: Batch) -> PaddedBatch:
        """The batch as one rectangle."""
        return pad(batch.windows, self.tokenizer.pad_token_id or 0, batch.prefix)

    def _pooled(
        self, options: PoolOptions, read: Reads, batch: Batch
    ) -> list[tuple[Batch, PooledBatch]]:
        """The batch, or its halves where memory does not suffice for the whole.

        A single window is tried again while no other lane needs memory.
        """
        said, tokens = "", None
        for company in (nullcontext, self.lanes.alone):
            with company():
                if said:
                    self._free_memory()
                try:
                    # with a device map, the hook may be on another card
                    kept, tokens = read(batch)
                    if not kept.windows:
                        return []
                    tokens = finite(tokens).to(self.device)
                    counts = scored_counts(kept.windows)
                    return [(kept, pool_batch(self.sae, tokens, counts, options))]
                except (MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error):
                        raise
                    said = str(error).splitlines()[0] if str(error) else type(error).__name__
            tokens = None  # outside the handler, whose traceback keeps the tensors of the try
            if len(batch.windows) > 1:
                self._free_memory()
                self.limit_memory(max(1, batch.cost // 2))
                return [
                    done for half in batch.halves() for done in self._pooled(options, read, half)
                ]
        raise SaefilterError(
            f"out of memory on {self.device} with a single window of {batch.n_tokens} tokens ({said})",
            remedy="Use --dtype bf16, a smaller --max-tokens or preset, or a larger machine.",
        )

    def _free_memory(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def finite(tokens: torch.Tensor) -> torch.Tensor:
    """Residuals in fp32. Raises SaefilterError when one is not finite."""
    tokens = tokens.float()
    if not torch.isfinite(tokens.sum()):
        raise SaefilterError(
            "the model gave values that are not finite", remedy="Try --dtype fp32."
        )
    return tokens
