"""Which code reads a model's residual stream, decided from its configuration before any weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from saefilter.encode.batches import PaddedBatch
from saefilter.encode.fast.bert import Bert, bert_config, count_parameters
from saefilter.encode.model import DTYPES, load_config, load_truncated_model, truncated_config
from saefilter.encode.placement import Placement, choose_device, model_size
from saefilter.encode.presets import Preset

DEFAULT_CONTEXT = 2048
"""Where a configuration does not name the model's limit."""


class ResidualModel(Protocol):
    """A model up to the hook; several threads may read at once."""

    d_model: int
    device: torch.device
    """Where inputs go."""

    @property
    def n_parameters(self) -> int:
        """Parameters in memory."""

    @property
    def shares_prefixes(self) -> Callable[[], bool] | None:
        """Says whether batches may have a prefix, which is computed once; None where they never may."""

    def scored(self, batch: PaddedBatch) -> Tensor:
        """The residuals at the hook of the scored tokens, row after row, `[n_scored, d_model]`."""


@dataclass(frozen=True)
class FoundModel:
    """What is known of a model before it is loaded."""

    d_model: int
    n_parameters: int
    """Up to the hook."""
    context: int
    """Tokens that it can read at once."""
    load: Callable[[Placement], ResidualModel]
    """Loads its weights. Raises SaefilterError."""


def find_model(
    preset: Preset, layers: int, *, device: str, device_map: str | None, quantize: str
) -> FoundModel:
    """The model of a preset up to its first `layers` layers.

    Raises SaefilterError when it cannot be had, or the hook is beyond its last layer.
    """
    path, revision = preset.model_path(), preset.revision
    on_cpu = choose_device(device).type == "cpu" and device_map is None and quantize == "none"
    if on_cpu and (plain := bert_config(path, revision)) is not None:
        return FoundModel(
            plain["hidden_size"],
            count_parameters(plain, layers),
            preset.context or plain["max_position_embeddings"],
            lambda placement: Bert.load(
                path, plain, layers, revision=revision, dtype=DTYPES[placement.dtype]
            ),
        )
    config = truncated_config(load_config(path, revision), layers, preset.model)
    limit = int(getattr(config, "max_position_embeddings", DEFAULT_CONTEXT))
    return FoundModel(
        config.hidden_size,
        model_size(config).parameters,
        preset.context or limit,
        lambda placement: load_truncated_model(
            path,
            layers,
            revision=revision,
            dtype=placement.dtype,
            device=placement.device,
            device_map=placement.device_map,
            quantize=quantize,
        ),
    )
