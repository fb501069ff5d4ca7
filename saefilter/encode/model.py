"""The model up to the hook: only the layers that are read are built, loaded and kept.

One mechanism for every architecture: the configuration is cut to the layers before the hook, its
Hugging Face class is loaded from those layers' tensors, and what the class has after its stack of
layers (a final norm, a pooler) is taken out.
"""

from __future__ import annotations

import copy
import inspect
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from saefilter.encode.batches import PaddedBatch
from saefilter.encode.checkpoint import hub_errors, truncated_checkpoint
from saefilter.encode.fast.arranged import arrange
from saefilter.errors import SaefilterError

KEPT_PREFIXES = 2
N_TRIED = 12
"""Tokens of the prefix, and after it, in the trial of what a model makes of one."""
ROPES_BY_LENGTH = ("dynamic", "longrope")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
QUANTIZATIONS = ("none", "8bit", "4bit")
# a multimodal checkpoint names its text side so; the text class does not
TEXT_SIDE = {r"^(model\.)?language_model\.(model\.)?": ""}


class TruncatedModel:
    """The first layers of a Hugging Face model, read at the output of the last of them.

    Several threads may read at once.
    """

    def __init__(
        self, model: nn.Module, hook_module: nn.Module, d_model: int, device: torch.device
    ):
        """`hook_module`: the layer whose output is the residual stream at the hook. `device`: where
        inputs go; with a device map the hook may be on another."""
        self.model = model
        self.hook_module = hook_module
        self.d_model = d_model
        self.device = device
        self._local = threading.local()
        self._trial = threading.Lock()
        self._shares: bool | None = None
        hook_module.register_forward_hook(self._capture)
        self.causal = is_causal(model)
        self.n_parameters = sum(parameter.numel() for parameter in model.parameters())
        """In memory."""

    def _capture(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self._local.output = output[0] if isinstance(output, tuple) else output

    def scored_residuals(self, batch: PaddedBatch) -> Tensor:
        """The residuals at the hook of the scored tokens, row after row, `[n_scored, d_model]`."""
        residual = self.hook_residual(batch)
        return residual[batch.scored.to(residual.device)]

    @torch.inference_mode()
    def hook_residual(self, batch: PaddedBatch) -> Tensor:
        """The residuals at the hook, `[batch, tokens, d_model]`; at padding they mean nothing.

        They are taken from the layer itself: `hidden_states[-1]` would be after the final norm.
        """
        mask = None if self.causal else batch.attention.to(self.device)
        options = {} if batch.prefix is None else {"past_key_values": self._cache_of(batch.prefix)}
        self.model(input_ids=batch.ids.to(self.device), attention_mask=mask, **options)
        residual: Tensor = self._local.output
        del self._local.output
        return residual

    def residual(
        self, input_ids: Tensor, attention_mask: Tensor, prefix: Tensor | None = None
    ) -> Tensor:
        """The residual stream at the hook of all tokens, `[batch, tokens, d_model]`, of right-padded
        rows; what stands at padding means nothing. `prefix`, `[n_prefix]`: token ids that every row
        begins with, before these."""
        every = torch.ones_like(input_ids, dtype=torch.bool)
        batch = PaddedBatch(input_ids, attention_mask, every, prefix)
        return self.scored_residuals(batch).view(*input_ids.shape, self.d_model)

    def shares_prefixes(self) -> bool:
        """Whether what all rows begin with may be computed once: where no token sees a later one, and a
        trial shows that the model goes on from there as it should."""
        with self._trial:
            if self._shares is None:
                self._shares = self.causal and not self._by_length() and self._goes_on()
            return self._shares

    def _by_length(self) -> bool:
        """Whether what is made of a token's position depends on the row's length."""
        said = str(getattr(self.model.config, "rope_parameters", None))
        return any(rope in said for rope in ROPES_BY_LENGTH)

    @torch.inference_mode()
    def _goes_on(self) -> bool:
        model: Any = self.model
        vocabulary = model.get_input_embeddings().weight.shape[0]
        ids = torch.arange(1, 2 * N_TRIED + 1)[None] % vocabulary
        whole = self.residual(ids, torch.ones_like(ids))[:, N_TRIED:].float()
        tail = ids[:, N_TRIED:]
        try:
            continued = self.residual(tail, torch.ones_like(tail), ids[0, :N_TRIED]).float()
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError):
            return False  # it takes no cache that it did not make
        exact = model.dtype == torch.float32
        return bool((continued - whole).norm() <= (1e-3 if exact else 5e-2) * whole.norm())

    def _cache_of(self, prefix: Tensor) -> Any:
        """Keys and values of a prefix. This thread's last ones are kept: batches come group by group,
        and of as many shards as are under way."""
        kept: list[tuple[Tensor, Any]] = getattr(self._local, "prefixes", [])
        for known, cache in kept:
            if torch.equal(known, prefix):
                return cache
        from saefilter.encode.fast.prefixes import prefix_cache

        self._local.prefixes = kept = kept[: KEPT_PREFIXES - 1]
        cache = prefix_cache(self.model, prefix.to(self.device))
        self._local.prefixes = [(prefix, cache), *kept]
        return cache


def is_causal(model: nn.Module) -> bool:
    """Whether no token sees a later one, as far as its attention modules say.

    Padding on the right then changes nothing before it, so that no mask is needed, and without one
    the fastest kernels apply.
    """
    said = [module.is_causal for module in model.modules() if hasattr(module, "is_causal")]
    return bool(said) and all(said)


def load_config(model: str, revision: str | None = None) -> Any:
    """The model's Hugging Face configuration. Raises SaefilterError when it cannot be had."""
    from transformers import AutoConfig

    with hub_errors(model):
        try:
            # False, not left out: transformers would ask on the terminal whether to run code
            return AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False)
        except (OSError, ValueError) as error:
            if (
                isinstance(error.__cause__, Exception)
                and "huggingface_hub" in type(error.__cause__).__module__
            ):
                raise error.__cause__ from error
            raise SaefilterError(
                f"the model {model} cannot be loaded ({str(error).splitlines()[0]})",
                remedy="Check the name, or download it first.",
            ) from error


def truncated_config(config: Any, layers: int, model: str) -> Any:
    """The configuration of the text side with its first `layers` layers.

    Raises SaefilterError when it has fewer.
    """
    text = copy.deepcopy(config.get_text_config())
    available = text.num_hidden_layers
    if not 1 <= layers <= available:
        raise SaefilterError(f"the hook is after layer {layers} and {model} has {available} layers")
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]
    text.num_hidden_layers = layers
    if hasattr(text, "use_cache"):
        text.use_cache = False
    if text is not config and getattr(config, "quantization_config", None) is not None:
        text.quantization_config = config.quantization_config
    return text


def load_truncated_model(
    model: str,
    layers: int,
    *,
    revision: str | None = None,
    dtype: str = "fp32",
    device: torch.device | None = None,
    device_map: str | None = None,
    quantize: str = "none",
) -> TruncatedModel:
    """Load the first `layers` layers of a model (a folder or a hub id).

    `device_map` is accelerate's (`auto` spreads over all cards); `quantize` is `8bit` or `4bit`, by
    bitsandbytes. Raises SaefilterError when the model cannot be found or has fewer layers.
    """
    device = device or torch.device("cpu")
    whole = load_config(model, revision)
    config = truncated_config(whole, layers, model)
    model_class = _class_of(config, model)
    options: dict[str, Any] = {"dtype": DTYPES[dtype], "config": config, "use_safetensors": True}
    # the pooler of BERT-like models comes after the hook
    if "add_pooling_layer" in inspect.signature(model_class.__init__).parameters:
        options["add_pooling_layer"] = False
    text_only = type(config) is not type(whole)
    if text_only:
        options["key_mapping"] = TEXT_SIDE
    if quantize != "none":
        options["quantization_config"] = _quantization(quantize)
    if device_map or device.type != "cpu" or quantize != "none":
        options["device_map"] = device_map or {"": device}
    with (
        quiet_loading(),
        truncated_checkpoint(model, revision, layers, text_only=text_only) as folder,
        _load_errors(model),
    ):
        loaded, info = model_class.from_pretrained(folder, output_loading_info=True, **options)
    missing = sorted(name for name in info["missing_keys"] if "rotary" not in name)
    if missing:
        raise SaefilterError(
            f"the checkpoint of {model} lacks {len(missing)} tensors, the first {missing[0]}",
            remedy="Download the model again.",
        )
    stack = _layer_stack(loaded, layers)
    hidden: int = config.hidden_size
    where = next(loaded.parameters()).device
    truncated = TruncatedModel(loaded.eval(), stack[layers - 1], hidden, where)
    if "device_map" not in options and dtype == "fp32":
        arrange(loaded)
    return truncated


def _class_of(config: Any, model: str) -> Any:
    from transformers import AutoModel

    try:
        return AutoModel._model_mapping[type(config)]
    except KeyError:
        raise SaefilterError(
            f"{model} is a {type(config).__name__}, which transformers has no text model for"
        ) from None


def _layer_stack(model: nn.Module, layers: int) -> nn.ModuleList:
    """The stack of layers; modules with weights that come after it are taken out of the model."""
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            parent = model.get_submodule(name.rpartition(".")[0])
            siblings = list(parent.named_children())
            position = [child is module for _, child in siblings].index(True)
            for later, child in siblings[position + 1 :]:
                if any(True for _ in child.parameters()):
                    setattr(parent, later, nn.Identity())
            return module
    raise SaefilterError(f"the layers of {type(model).__name__} were not found")


def _quantization(quantize: str) -> Any:
    from transformers import BitsAndBytesConfig

    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise SaefilterError(
            f"--quantize {quantize} needs bitsandbytes", remedy="Run: pip install bitsandbytes"
        ) from None
    if quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)


@contextmanager
def _load_errors(model: str) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, OSError, ImportError) as error:
        raise SaefilterError(
            f"the weights of {model} cannot be loaded ({str(error).splitlines()[0]})",
            remedy="If a file is damaged, download the model again.",
        ) from error


@contextmanager
def quiet_loading() -> Iterator[None]:
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
