"""The sparse autoencoder: read from sae-lens's disk format, encode to sparse activations.

The arithmetic is sae-lens's own, restated for inference so that scoring need not import sae-lens
(seconds) nor hold dense `[tokens, d_sae]` results; tests hold it against sae-lens's `encode`. Only the
unit is ours: activations are those for a decoder of unit rows, so that they can be added and compared.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from saefilter.encode.checks import refuse_transcoder
from saefilter.encode.fast.linear import Linear
from saefilter.errors import SaefilterError

ARCHITECTURES = ("standard", "gated", "jumprelu", "topk")
NORMALIZATIONS = ("none", "expected_average_only_in", "layer_norm", "constant_norm_rescale")
LAYER_NORM_EPS = 1e-5  # sae-lens's
UNIT_WITHIN = 1e-2
"""Decoders kept in bf16 are off 1 by less; trained ones that are not unit, by far more."""


class Activations(NamedTuple):
    """The active features of some tokens, as triplets."""

    token: Tensor
    """Row of the input that is active, `[n_active]`."""
    feature: Tensor
    """Which feature, `[n_active]`."""
    value: Tensor
    """Its activation, > 0, `[n_active]`."""


@dataclass(frozen=True)
class Sae:
    """One SAE's weights and the choices of its configuration that change the numbers."""

    architecture: str
    w_enc: Tensor | None
    """`[d_model, d_sae]`, times the norms of the decoder's rows unless `norm` has them; in the
    precision of the product. Everything else is fp32. None where `on_cpu` has it."""
    b_enc: Tensor
    """`[d_sae]`, likewise, and so are `threshold` and `b_mag`."""
    w_dec: Tensor
    """`[d_sae, d_model]`"""
    b_dec: Tensor
    """`[d_model]`"""
    hook: str
    model_name: str
    fingerprint: str
    """SHA-256 over `w_dec` in fp32; a toxic set belongs to exactly one."""
    k: int = 0
    """Active features per token (TopK)."""
    threshold: Tensor | None = None
    """`[d_sae]` (JumpReLU)."""
    norm: Tensor | None = None
    """Of the decoder's rows, `[d_sae]`, for values that are multiplied once they are chosen: those of a
    TopK SAE that was trained to choose without them."""
    r_mag: Tensor | None = None
    """Log of the magnitude path's scale, `[d_sae]` (gated)."""
    b_mag: Tensor | None = None
    """Bias of the magnitude path, `[d_sae]` (gated); `b_enc` is the gate's."""
    subtract_b_dec: bool = True
    normalize: str = "none"
    center_input: bool = False
    """Trained on residuals whose mean over d_model was removed (TransformerLens's
    `center_writing_weights`)."""
    prepend_bos: bool | None = None
    """Whether its training texts began with BOS; None when it does not say."""
    stated_l0: float | None = None
    """Active features per token that its makers report."""
    on_cpu: Linear | None = None
    """The product with `w_enc` and `b_enc`, arranged for a CPU."""

    @property
    def d_model(self) -> int:
        return self.w_dec.shape[1]

    @property
    def d_sae(self) -> int:
        return self.w_dec.shape[0]

    def directions(self) -> NDArray[np.float32]:
        """Unit-norm decoder directions, `[d_sae, d_model]`; a zero row stays zero."""
        rows = self.w_dec.cpu().numpy()
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        unit: NDArray[np.float32] = rows / np.maximum(norms, 1e-12)
        return unit

    @property
    def has_unit_decoder(self) -> bool:
        """Whether all its decoder's rows have length 1, so that an activation is what it was before
        the norms."""
        return bool(((self.w_dec.norm(dim=-1) - 1).abs() < UNIT_WITHIN).all())

    @property
    def n_bytes(self) -> int:
        """Memory of its weights."""
        return sum(t.numel() * t.itemsize for t in vars(self).values() if isinstance(t, Tensor))

    @property
    def expected_l0(self) -> float | None:
        """Active features per token that its configuration leads one to expect."""
        return (float(self.k) if self.architecture == "topk" else self.stated_l0) or None

    def to(self, device: torch.device, product: torch.dtype | None = None) -> Sae:
        """The same SAE on a device, where it multiplies in the precision `product`.

        The decoder stays where it is: encoding does not need it.
        """
        moved: dict[str, Any] = {
            name: value.to(device)
            for name, value in vars(self).items()
            if isinstance(value, Tensor) and name not in ("w_dec", "w_enc")
        }
        if self.w_enc is not None:
            moved["w_enc"] = w_enc = self.w_enc.to(device, product)
            if device.type == "cpu" and w_enc.dtype == torch.float32:
                moved["w_enc"], moved["on_cpu"] = None, Linear(w_enc.t(), self.b_enc)
        return replace(self, **moved)

    def pre_activations(self, residual: Tensor) -> Tensor:
        """What the activation function sees, `[n_tokens, d_sae]`, of `[n_tokens, d_model]`."""
        x = residual.float()
        if self.center_input:
            x = x - x.mean(dim=-1, keepdim=True)
        if self.normalize == "layer_norm":
            x = x - x.mean(dim=-1, keepdim=True)
            x = x / (x.std(dim=-1, keepdim=True) + LAYER_NORM_EPS)
        elif self.normalize == "constant_norm_rescale":
            x = x * (self.d_model**0.5 / x.norm(dim=-1, keepdim=True))
        if self.subtract_b_dec:
            x = x - self.b_dec
        if self.on_cpu is not None:
            return self.on_cpu.of_all(x)
        assert self.w_enc is not None
        if self.w_enc.dtype == torch.float32:
            return torch.addmm(self.b_enc, x, self.w_enc)
        return (x.to(self.w_enc.dtype) @ self.w_enc).float() + self.b_enc

    def encode(self, residual: Tensor) -> Activations:
        """Active features of `residual`, `[n_tokens, d_model]`, token by token.

        An activation is the length of what it adds to the reconstruction: the SAE's own value times
        the norm of the feature's decoder row.
        """
        pre = self.pre_activations(residual)
        if self.architecture == "topk":
            on_cpu = pre.device.type == "cpu"
            active = (
                _topk_on_cpu(pre, self.k) if on_cpu
                else _of_slots(*torch.topk(pre, self.k, dim=-1, sorted=False))
            )  # fmt: skip
            if self.norm is None:
                return active
            return active._replace(value=active.value * self.norm[active.feature])
        pre, floor = self._above(pre)
        if pre.device.type == "cpu":
            return _entries(pre.numpy() > np.asarray(floor, dtype=np.float32), pre)
        token, feature = (pre > floor).nonzero(as_tuple=True)
        return Activations(token, feature, pre[token, feature])

    def dense(self, residual: Tensor) -> Tensor:
        """The same as `[n_tokens, d_sae]` with zeros: no wait for the device, unlike `encode`."""
        pre = self.pre_activations(residual)
        if self.architecture == "topk":
            values, features = torch.topk(pre, self.k, dim=-1, sorted=False)
            if self.norm is not None:
                values = values * self.norm[features]
            return torch.zeros_like(pre).scatter_(-1, features, values.clamp(min=0))
        pre, floor = self._above(pre)
        return torch.where(pre > floor, pre, 0)

    def _above(self, pre: Tensor) -> tuple[Tensor, Tensor | float]:
        """Values, and what they must exceed to be active; for architectures without a sort."""
        if self.r_mag is not None and self.b_mag is not None:
            magnitude = (pre - self.b_enc) * self.r_mag.exp() + self.b_mag
            return torch.where(pre > 0, magnitude, 0), 0.0
        return pre, 0.0 if self.threshold is None else self.threshold.clamp(min=0)


def _topk_on_cpu(pre: Tensor, k: int) -> Activations:
    """The `k` largest of each token where positive, found several times as fast as by a sort.

    The k-th largest of a row's group maxima bounds its k-th largest value from below, so that only
    the few entries above it are looked at closely.
    """
    n_tokens, d_sae = pre.shape
    group = max(1, d_sae // (4 * k))
    while d_sae % group:
        group -= 1
    maxima = pre.view(n_tokens, group, -1).amax(dim=1).numpy()
    bound = np.partition(maxima, -k, axis=1)[:, -k, None]
    active = _entries(pre.numpy() >= np.maximum(bound, np.finfo(np.float32).tiny), pre)
    token, value = active.token.numpy(), active.value.numpy()
    counts = np.bincount(token, minlength=n_tokens)
    if counts.max(initial=0) <= k:
        return active
    slot = np.arange(len(token)) - (np.cumsum(counts) - counts)[token]
    table = np.full((n_tokens, int(counts.max())), -np.inf, dtype=np.float32)
    table[token, slot] = value
    largest = value >= np.partition(table, -k, axis=1)[token, -k]
    if np.bincount(token[largest], minlength=n_tokens).max() > k:  # some are equal
        return _of_slots(*torch.topk(pre, k, dim=-1, sorted=False))
    kept = torch.from_numpy(np.flatnonzero(largest))
    return Activations(*(column[kept] for column in active))


def _of_slots(values: Tensor, features: Tensor) -> Activations:
    """The positive ones of each token's candidates, both `[n_tokens, k]`."""
    token, slot = (values > 0).nonzero(as_tuple=True)
    return Activations(token, features[token, slot], values[token, slot])


def _entries(active: NDArray[np.bool_], values: Tensor) -> Activations:
    """The active entries of `values`, `[n_tokens, d_sae]`. NumPy finds them, and compares, several
    times as fast as torch does on a CPU."""
    flat = np.flatnonzero(active)
    token, feature = (torch.from_numpy(column) for column in np.divmod(flat, values.shape[1]))
    return Activations(token, feature, torch.from_numpy(values.numpy().reshape(-1)[flat]))


def _stated_l0(config: dict[str, Any], metadata: dict[str, Any]) -> float | None:
    """As found when it was converted, or of the training that a folder of sae-lens tells of: a BatchTopK
    SAE is saved as JumpReLU. 0 says that nobody knows."""
    training = metadata.get("training_architecture_details") or {}
    stated = (config.get("saefilter") or {}).get("expected_l0") or training.get("k")
    return float(stated) if stated else None


def load_sae(folder: str | Path) -> Sae:
    """Read an SAE in sae-lens's disk format: `cfg.json` and `sae_weights.safetensors`.

    Raises SaefilterError when the folder is not one, or its architecture is not supported.
    """
    config, weights = _read(Path(folder))
    architecture = config.get("architecture", "standard")
    w_dec = weights["W_dec"].contiguous()
    w_enc = weights["W_enc"].contiguous()
    b_enc = weights.get("b_gate", weights.get("b_enc", torch.zeros(w_dec.shape[0])))
    threshold, b_mag = weights.get("threshold"), weights.get("b_mag")
    length = w_dec.norm(dim=-1)
    norm: Tensor | None = length
    if architecture != "topk" or config.get("rescale_acts_by_decoder_norm"):
        # every feature is active or not by itself, or is chosen with the norms: they can go into the
        # weights, which costs nothing at a token
        w_enc = w_enc.mul_(length)  # may be gigabytes, of which there need be no second copy
        b_enc = b_enc * length
        threshold, b_mag = (None if one is None else one * length for one in (threshold, b_mag))
        norm = None
    metadata = config.get("metadata") or {}
    return Sae(
        architecture=architecture,
        w_enc=w_enc,
        b_enc=b_enc,
        w_dec=w_dec,
        b_dec=weights["b_dec"],
        hook=str(metadata.get("hook_name") or ""),
        model_name=str(metadata.get("model_name") or ""),
        fingerprint=hashlib.sha256(w_dec.numpy().tobytes()).hexdigest(),
        k=int(config.get("k", 0)),
        threshold=threshold,
        norm=norm,
        subtract_b_dec=bool(config.get("apply_b_dec_to_input", True)),
        normalize=config.get("normalize_activations") or "none",
        r_mag=weights.get("r_mag"),
        b_mag=b_mag,
        center_input=bool(
            (metadata.get("model_from_pretrained_kwargs") or {}).get("center_writing_weights")
        ),
        prepend_bos=metadata.get("prepend_bos"),
        stated_l0=_stated_l0(config, metadata),
    )


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights of an SAE that is supported."""
    try:
        config: dict[str, Any] = json.loads((folder / "cfg.json").read_text(encoding="utf-8"))
        weights = {
            name: tensor.to(torch.float32)
            for name, tensor in load_file(folder / "sae_weights.safetensors").items()
        }
    except (OSError, ValueError) as error:
        raise SaefilterError(
            f"not an SAE in sae-lens's format ({error})",
            where=str(folder),
            remedy="The folder must hold cfg.json and sae_weights.safetensors.",
        ) from error
    architecture = config.get("architecture", "standard")
    refuse_transcoder(architecture, str(folder))
    normalize = config.get("normalize_activations") or "none"
    for value, known, what in (
        (architecture, ARCHITECTURES, "architecture"),
        (normalize, NORMALIZATIONS, "normalize_activations"),
    ):
        if value not in known:
            raise SaefilterError(
                f"{what} {value!r} is not supported (supported: {', '.join(known)})",
                where=str(folder / "cfg.json"),
            )
    return config, weights
