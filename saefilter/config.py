"""The project's file, saefilter.toml or [tool.saefilter] in pyproject.toml, and the folder of caches."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saefilter.errors import SaefilterError

FILES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("saefilter.toml", ()),
    ("pyproject.toml", ("tool", "saefilter")),
)


@dataclass(frozen=True)
class Setting:
    """A value and the file that it is from."""

    value: Any
    file: str


def read_setting(name: str, folder: Path = Path()) -> Setting | None:
    """The entry `name` of the first file in `folder` that has one; None where there is none.

    Raises SaefilterError for a file that is not TOML.
    """
    for path, values in _tables(folder):
        if name in values:
            return Setting(values[name], str(path))
    return None


def setting_names(folder: Path = Path()) -> dict[str, str]:
    """Every entry's name, and the file that has it. Raises SaefilterError for a file that is not TOML."""
    names: dict[str, str] = {}
    for path, values in _tables(folder):
        names = {**dict.fromkeys(values, str(path)), **names}
    return names


def _tables(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The project's files that are there, each with our section of it."""
    for file, tables in FILES:
        path = folder / file
        if not os.path.lexists(path):
            continue
        values = _read(path)
        for table in tables:
            values = values.get(table, {})
            if not isinstance(values, dict):
                raise SaefilterError(f"{table!r} is no table", where=str(path))
        yield path, values


def _read(path: Path) -> Any:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise SaefilterError(f"not readable TOML ({error})", where=str(path)) from error


def cache_folder() -> Path:
    """Where saefilter keeps what it would otherwise fetch or convert again: `SAEFILTER_CACHE`, or a
    folder in the user's cache."""
    if chosen := os.environ.get("SAEFILTER_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "saefilter"


def made_in_cache(*names: str) -> Path:
    """A folder of the cache, made where it is not there. Raises SaefilterError when it cannot be."""
    folder = cache_folder().joinpath(*names)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaefilterError(
            f"saefilter's cache cannot be written ({error.strerror or error})", where=str(folder),
            remedy="Name another folder by the variable SAEFILTER_CACHE.",
        ) from error  # fmt: skip
    return folder
