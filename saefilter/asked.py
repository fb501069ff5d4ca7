"""Which settings hold for a run, and who asked for them: options, the project's file, the environment."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saefilter.config import read_setting, setting_names
from saefilter.described import Described, described
from saefilter.errors import SaefilterError, did_you_mean
from saefilter.settings import COLUMN_SETTINGS, OF_RAY, WHICH_MODEL, ScoreSettings, either_or


@dataclass(frozen=True)
class Asked:
    """The settings that hold, and who asked for which."""

    settings: ScoreSettings
    origin: Mapping[str, str]
    """Setting -> who asked for it: `--pool`, `saefilter.toml`, `SAEFILTER_PRESET`. What is not here is
    a default."""

    def of_data(self, data: Path) -> Asked:
        """What is asked for of that data, where a trainer's file says which of its columns are what."""
        settings = self.settings.of_data(data)
        by = next((self.origin[name] for name in COLUMN_SETTINGS if name in self.origin), None)
        origin = {name: who for name, who in self.origin.items() if name not in COLUMN_SETTINGS}
        return Asked(settings, origin | ({"columns": by} if by else {}))

    def why(self) -> str:
        """The model that will be read with and who chose it, for the console."""
        settings = self.settings
        if settings.preset is None:
            return f"{settings.model} with {settings.sae}"
        chosen = f"Preset {settings.preset} ({self.origin.get('preset', 'the default')})"
        if settings.model is not None:
            chosen += f", its model from {settings.model}"
        return chosen if settings.layer is None else f"{chosen}, layer {settings.layer}"


def ask(
    given: Mapping[str, Any],
    *,
    base: ScoreSettings | None = None,
    origin: str = "",
    folder: Path = Path(),
) -> Asked:
    """The settings of a run: those given, else the project's (saefilter.toml or pyproject.toml in
    `folder`), else `base`, else the defaults; without any model SAEFILTER_PRESET, else minilm.

    `given`: only what was given. `origin` names who gave it, for messages; empty for the options.
    Raises SaefilterError, naming the file, for what is no setting or has no such value.
    """
    base = base or ScoreSettings()
    known = described(type(base))
    values, origins = _of_project(known, folder)
    if set(given) & {"preset", "model", "sae"}:
        for name in WHICH_MODEL:
            values.pop(name, None), origins.pop(name, None)
    either = {"trainer", "train_on"}
    if either <= set(given):
        raise either_or()
    if either <= set(values) and not either & set(given):
        raise either_or(origins["trainer"])
    if either & set(given):
        for name in either:
            values.pop(name, None), origins.pop(name, None)
    if given.get("engine") == "local":
        for name in OF_RAY:
            values.pop(name, None), origins.pop(name, None)
    if set(COLUMN_SETTINGS) & set(given):
        for name in COLUMN_SETTINGS:
            values.pop(name, None), origins.pop(name, None)
    for name, value in given.items():
        values[name], origins[name] = value, origin or known[name].flag
    if not any(values.get(name, getattr(base, name)) for name in ("preset", "model", "sae")):
        preset = os.environ.get("SAEFILTER_PRESET")
        values["preset"] = preset or DEFAULT_PRESET
        if preset:
            origins["preset"] = "SAEFILTER_PRESET"
    return Asked(dataclasses.replace(base, **values), origins)


def ask_with(settings: ScoreSettings, given: Mapping[str, Any]) -> Asked:
    """Settings from a program, with some `given` besides. They are complete, defaults included: of the
    project only the model counts, and only where they name none."""
    whole = dataclasses.replace(settings, **given)
    chosen = [name for name in described(type(whole)) if getattr(whole, name) is not None]
    origins: dict[str, str] = {}
    if not any((whole.preset, whole.model, whole.sae)):
        project = ask({})
        origins = {n: who for n, who in project.origin.items() if n in WHICH_MODEL}
        of_model = {name: getattr(project.settings, name) for name in WHICH_MODEL}
        for name in ("revision", "layer"):
            if getattr(whole, name) is not None:
                del of_model[name]
        whole = dataclasses.replace(whole, **of_model)
    return Asked(whole, {**origins, **dict.fromkeys(chosen, "the argument")})


DEFAULT_PRESET = "minilm"
TABLES = ("check",)
"""Entries of the project's file that are no settings of scoring."""


def _of_project(
    known: Mapping[str, Described], folder: Path
) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for key, file in setting_names(folder).items():
        flags = {one.flag.lstrip("-").replace("-", "_"): name for name, one in known.items()}
        name = key.replace("-", "_")
        name = flags.get(name, name)
        if name not in known:
            if name in TABLES:
                continue
            names = [one.replace("_", "-") for one in (*known, *TABLES)]
            raise SaefilterError(
                f"{key!r} is no setting", where=file,
                remedy=did_you_mean(key.replace("_", "-"), names),
            )  # fmt: skip
        if origins.get(name) == file:
            raise SaefilterError(f"{key!r} is there twice", where=file, remedy="Remove one.")
        setting = read_setting(key, folder)
        assert setting is not None
        value = known[name].plain(setting.value, where=file)
        known[name].check(value, where=file)
        values[name], origins[name] = value, file
    return values, origins
