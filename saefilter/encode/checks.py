"""Do a model, an SAE and a hook belong together, and does what fires look like it? Asked before any
weight of the model is read, and once tokens have been; nothing here loads anything.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from saefilter.errors import SaefilterError

if TYPE_CHECKING:
    from saefilter.encode.presets import Preset
    from saefilter.encode.sae import Sae

HOOKS = (
    (re.compile(r"blocks\.(\d+)\.hook_resid_post"), 1),
    (re.compile(r"blocks\.(\d+)\.hook_resid_pre"), 0),
    (re.compile(r"(?:model\.|transformer\.|gpt_neox\.)?(?:layers|h)\.(\d+)(?:\.output)?"), 1),
)
SAME_MODEL = {"gpt2-small": "gpt2", "llama-3.1-8b": "meta-llama-3.1-8b"}
"""TransformerLens's and other names of a model, by what the hub calls it."""
L0_TOLERANCE = 3.0
"""Measured over expected L0 beyond this, either way, means a wrong activation function or hook."""


def hook_layers(hook: str) -> int:
    """How many layers come before a hook, in TransformerLens's or Hugging Face's words.

    Raises SaefilterError for one that is not on the residual stream, or before the first layer.
    """
    for pattern, offset in HOOKS:
        if match := pattern.fullmatch(hook):
            if layers := int(match.group(1)) + offset:
                return layers
            raise SaefilterError(
                f"the SAE reads {hook}, the embeddings, where no layer has read any context yet",
                remedy="Use an SAE of a middle layer.",
            )
    raise SaefilterError(
        f"the SAE reads {hook or 'a place it does not name'}, which is not the residual stream "
        "between two layers",
        remedy="Use an SAE of the residual stream (hook_resid_post or hook_resid_pre).",
    )


def refuse_transcoder(architecture: str, where: str) -> None:
    """Raises SaefilterError for a transcoder."""
    if "transcoder" in architecture:
        raise SaefilterError(
            f"{architecture} is not supported: a transcoder reads one place of the model and writes "
            "another, so its decoder directions are not directions of what it reads",
            where=where,
            remedy="Use an SAE of the residual stream.",
        )


def agreed_hook(preset: Preset, sae: Sae) -> str:
    """Where the SAE reads, when the preset says the same. Raises SaefilterError when it does not."""
    hook = preset.hook or sae.hook
    if not hook:
        raise SaefilterError(
            f"the SAE {preset.sae} does not say where it reads",
            remedy='Add "hook_name" to the metadata in its cfg.json, '
            "for example blocks.12.hook_resid_post.",
        )
    if sae.hook and hook_layers(sae.hook) != hook_layers(hook):
        raise SaefilterError(
            f"the SAE was trained at {sae.hook} and the preset {preset.name} reads {hook}"
        )
    return hook


def check_d_model(preset: Preset, d_sae_input: int, d_model: int) -> None:
    """Raises SaefilterError when the SAE reads vectors of another size than the model's."""
    if d_sae_input != d_model:
        raise SaefilterError(
            f"the SAE reads vectors of {d_sae_input} and {preset.model} has d_model {d_model}",
            remedy="Use the SAE that was trained on this model.",
        )


def foreign_sae(preset: Preset, sae: Sae) -> list[str]:
    """A warning when the SAE was trained on another model, such as the base of an instruct model."""
    if not sae.model_name or preset.model.startswith("package:") or Path(preset.model).is_dir():
        return []
    theirs, ours = (_plain_name(name) for name in (sae.model_name, preset.model))
    if theirs == ours:
        return []
    return [
        f"the SAE was trained on {sae.model_name}, not on {preset.model}: its features may mean "
        "something else there"
    ]


def _plain_name(name: str) -> str:
    plain = name.rsplit("/", 1)[-1].lower().removesuffix("-hf")
    return SAME_MODEL.get(plain, plain)


def l0_warning(measured: float, expected: float | None) -> str | None:
    """What is suspicious about the measured features per token; None when nothing is, or when the
    SAE's configuration does not say what to expect."""
    if not expected or 1 / L0_TOLERANCE <= measured / expected <= L0_TOLERANCE:
        return None
    return (
        f"{measured:,.0f} features fire per token and the SAE's configuration says "
        f"{expected:,.0f}: a wrong activation function, hook or model"
    )


def sentence(warning: str) -> str:
    """A warning as a sentence of its own."""
    return f"{warning[0].upper()}{warning[1:]}."
