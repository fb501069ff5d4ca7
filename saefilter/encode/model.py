"""The model up to the hook: only the layers that are read are built and loaded.

Any Hugging Face architecture whose configuration has `num_hidden_layers` and whose layers are one
`ModuleList` works through the same few lines.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saefilter.errors import SaefilterError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TruncatedModel:
    """The first layers of a Hugging Face model, read at the output of the last of them."""

    model: nn.Module
    hook_module: nn.Module
    """The layer whose output is the residual stream at the hook."""
    d_model: int
    device: torch.device

    @torch.inference_mode()
    def residual(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The residual stream at the hook, `[batch, tokens, d_model]`.

        It is taken from the layer itself: `hidden_states[-1]` would be after the final norm.
        """
        captured: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            captured.append(output[0] if isinstance(output, tuple) else output)

        handle = self.hook_module.register_forward_hook(keep)
        try:
            self.model(
                input_ids=input_ids.to(self.device), attention_mask=attention_mask.to(self.device)
            )
        finally:
            handle.remove()
        return captured[0]


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


def load_truncated_model(
    path: str, layers: int, *, dtype: str = "fp32", device: torch.device | None = None
) -> TruncatedModel:
    """Load the first `layers` layers of the model at `path` (a folder or hub id).

    Raises SaefilterError when the model cannot be found or has fewer layers.
    """
    from transformers import AutoConfig, AutoModel

    device = device or torch.device("cpu")
    try:
        config = AutoConfig.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise SaefilterError(
            f"the model {path} cannot be loaded ({str(error).splitlines()[0]})",
            remedy="Check the name, or download it first.",
        ) from error
    available = config.num_hidden_layers
    if not 1 <= layers <= available:
        raise SaefilterError(f"the hook is after layer {layers} and {path} has {available} layers")
    config.num_hidden_layers = layers
    model_class = AutoModel._model_mapping[type(config)]
    # the pooler of BERT-like models comes after the hook
    parameters = inspect.signature(model_class.__init__).parameters
    options = {"add_pooling_layer": False} if "add_pooling_layer" in parameters else {}
    with _quiet_about_unused_weights():
        model = model_class.from_pretrained(path, config=config, dtype=DTYPES[dtype], **options)
    model.to(device).eval()
    stacks = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == layers]
    if not stacks:
        raise SaefilterError(f"the layers of {type(model).__name__} were not found")
    return TruncatedModel(model, stacks[0][layers - 1], config.hidden_size, device)


@contextmanager
def _quiet_about_unused_weights() -> Iterator[None]:
    """The checkpoint holds layers that are left out on purpose; do not report them as a fault."""
    from transformers.utils import logging as hf_logging

    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity(logging.ERROR)
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()
