"""Which code reads a model's residual stream, where it goes and in which precision: decided from its
configuration before any weight is read, with the reason for every choice made unasked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from saefilter.encode.batches import PaddedBatch
from saefilter.encode.fast.bert import Bert, bert_config, count_parameters
from saefilter.encode.model import DTYPES, load_config, load_truncated_model, truncated_config
from saefilter.encode.presets import Preset
from saefilter.errors import SaefilterError

GIB = 1 << 30
HEADROOM = 1.15
"""Activations and buffers beside the weights."""
DEFAULT_CONTEXT = 2048
"""Where a configuration does not name the model's limit."""


@dataclass(frozen=True)
class Placement:
    """Choices for loading a model."""

    device: torch.device
    dtype: str
    """`fp32`, `bf16` or `fp16`."""
    device_map: str | None
    reasons: tuple[str, ...]
    """One line for each choice that was left to us."""


def choose_device(device: str) -> torch.device:
    """`auto` takes a GPU when there is one. Raises SaefilterError for one that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise SaefilterError(
            f"device {device!r} cannot be used ({str(error).splitlines()[0]})",
            remedy="Use --device auto or --device cpu.",
        ) from error
    return chosen


def place(
    n_parameters: int,
    sae_bytes: int,
    *,
    device: str,
    dtype: str,
    device_map: str | None = None,
    ranks_in_bf16: bool = False,
) -> Placement:
    """Choose device, precision and device map for a model of `n_parameters` up to the hook.

    `ranks_in_bf16`: see Preset.
    Raises SaefilterError for a device that cannot be used.
    """
    chosen = choose_device(device)
    reasons = []
    if device == "auto":
        why = "no GPU was found" if chosen.type == "cpu" else torch.cuda.get_device_name(chosen)
        reasons.append(f"device {chosen}: {why}")
    free = free_memory(chosen)
    if dtype == "auto":
        dtype, why = _auto_dtype(n_parameters, sae_bytes, chosen, free, ranks_in_bf16)
        reasons.append(f"dtype {dtype}: {why}")
    need = weight_bytes(n_parameters, dtype) * HEADROOM + sae_bytes
    several = chosen.type == "cuda" and torch.cuda.device_count() > 1
    if device_map is None and device == "auto" and several and need > free:
        device_map = "auto"
        reasons.append(
            f"device map auto: {need / GIB:.1f} GiB are needed and one card has {free / GIB:.1f}"
        )
    return Placement(chosen, dtype, device_map, tuple(reasons))


def _auto_dtype(
    n_parameters: int, sae_bytes: int, device: torch.device, free: int, ranks_in_bf16: bool
) -> tuple[str, str]:
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported():
            return "bf16", "the GPU computes in it, and it has fp32's range"
        return "fp32", "the GPU has no bf16, and fp16 overflows in some models"
    need = weight_bytes(n_parameters, "fp32") * HEADROOM + sae_bytes
    if need > free:
        return "bf16", f"fp32 needs {need / GIB:.1f} GiB and {free / GIB:.1f} are free"
    if not cpu_multiplies_bf16():
        return "fp32", "exact, and without matrix units nearly as fast as anything"
    if ranks_in_bf16:
        return "bf16", "this CPU has matrix units for it; --dtype fp32 is exact and slower"
    return (
        "fp32",
        "exact; --dtype bf16 is faster on this CPU, and may rank rows a little differently",
    )


def cpu_multiplies_bf16() -> bool:
    """Whether bf16 pays on this CPU. It does with matrix units (AMX: 3.5 times fp32 on MiniLM). The
    bf16 instructions of AVX-512 alone may or may not: half of fp32's rate was measured with them on an
    Intel Xeon, twice oneDNN's on an AMD EPYC (Zen 5)."""
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(supported and supported())


def weight_bytes(n_parameters: int, dtype: str) -> int:
    """Bytes of the weights."""
    return n_parameters * DTYPES[dtype].itemsize


def free_memory(device: torch.device) -> int:
    """Bytes that can be had on the device now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


@dataclass(frozen=True)
class Size:
    """Of a model, known before any weight is loaded."""

    parameters: int
    per_token: int
    """Parameters that a token is multiplied with: without embeddings, and of a mixture of experts
    only as many as are chosen."""


def model_size(config: Any) -> Size:
    """Size of a configuration's model (built without memory)."""
    from transformers import AutoModel

    with torch.device("meta"):
        model = AutoModel._model_mapping[type(config)](config)
    looked_up = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
    chosen = (getattr(config, "num_experts_per_tok", None) or 1) / experts if experts else 1.0
    total = per_token = 0
    for name, parameter in model.named_parameters():
        total += parameter.numel()
        if id(parameter) not in looked_up:
            per_token += round(parameter.numel() * (chosen if ".experts." in name else 1.0))
    return Size(total, per_token)


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

    def scored_residuals(self, batch: PaddedBatch) -> Tensor:
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
