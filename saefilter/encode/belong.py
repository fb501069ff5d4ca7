"""Do a model and an SAE belong together? Asked before any weight of the model is read."""

from __future__ import annotations

from pathlib import Path

from saefilter.encode.presets import Preset
from saefilter.encode.sae import Sae, hook_layers
from saefilter.errors import SaefilterError

SAME_MODEL = {"gpt2-small": "gpt2", "llama-3.1-8b": "meta-llama-3.1-8b"}
"""TransformerLens's and other names of a model, by what the hub calls it."""


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
