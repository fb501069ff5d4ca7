"""Settings that describe themselves: each is one field of a dataclass, and everything else is read off it.

The command line's options (cli/options.py), checks of values from anywhere, the project's file, the
fingerprint of a run, the provenance of scores, and the comparison of scores that are there with those
that are wanted: an option is added in one place. Which settings there are is not known here.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from numbers import Integral, Real
from typing import Any, NamedTuple, get_args, get_type_hints

from saefilter.errors import SaefilterError, did_you_mean

OPTION = "option"
"""Key of a field's `Option` in its metadata."""


@dataclass(frozen=True)
class Option:
    """What a field says of itself."""

    help: str
    """For the command line; without the default, which the field knows."""
    choices: tuple[str, ...] = ()
    least: float | None = None
    """Smallest value."""
    most: float | None = None
    """Largest value."""
    flag: str = ""
    """`--max-tokens`; empty for the field's name."""
    scores_depend: bool = False
    """Whether another value gives other scores: scores made with another value are then not used."""
    fingerprint: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Entries of a run's fingerprint: name there -> attribute of the `Identity` that has the value,
    or of the settings."""
    unless_said: str = ""
    """What holds where nothing is said and the default is None."""
    share: bool = False
    """Whether it is a share, given as "5%" or 0.05 and kept in percent."""
    fraction: bool = False
    """Whether it is a share, given as "5%" or 0.05 and kept as a part of 1."""
    metavar: str = ""
    """What help calls the value: `NAME`; empty for a word that follows from the type."""


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    least: float | None = None,
    most: float | None = None,
    flag: str = "",
    scores_depend: bool = False,
    fingerprint: Mapping[str, str] | None = None,
    unless_said: str = "",
    share: bool = False,
    fraction: bool = False,
    metavar: str = "",
) -> Any:
    """A dataclass field that is an option; see `Option`."""
    told = Option(
        help, choices, least, most, flag, scores_depend, fingerprint or {}, unless_said, share,
        fraction, metavar,
    )  # fmt: skip
    return field(default=default, metadata={OPTION: told})


class Described(NamedTuple):
    """A field of a settings class with all that is known of it."""

    name: str
    type: Any
    default: Any
    option: Option

    @property
    def flag(self) -> str:
        """As the command line and messages call it."""
        return self.option.flag or "--" + self.name.replace("_", "-")

    @property
    def fingerprint(self) -> Mapping[str, str]:
        """Its entries of a fingerprint; one that scores depend on has at least its own name."""
        if self.option.scores_depend and not self.option.fingerprint:
            return {self.name.replace("_", " "): self.name}
        return self.option.fingerprint

    def shown(self, value: Any) -> str:
        """A value in a message."""
        return self.option.unless_said if value is None else str(value)

    def plain(self, value: Any, where: str | None = None) -> Any:
        """The value as its own type, where a program has it as one that stands for the same: a path,
        a number of NumPy's, a list for a tuple, a table or a dict of texts for `one=other,...`, a share
        in percent. Raises SaefilterError for a share that is none."""
        if self.option.fraction and isinstance(value, str):
            return as_fraction(value, self.flag, where)
        kinds = get_args(self.type) or (self.type,)
        if isinstance(value, os.PathLike) and str in kinds:
            return os.fspath(value)
        if isinstance(value, Mapping) and str in kinds:
            return ",".join(f"{key}={entry}" for key, entry in value.items())
        if type(value) not in (bool, int, float) and isinstance(value, Real):
            return int(value) if isinstance(value, Integral) else float(value)
        is_tuple = any(getattr(kind, "__origin__", None) is tuple for kind in kinds)
        return tuple(value) if isinstance(value, list) and is_tuple else value

    def check(self, value: Any, where: str | None = None) -> None:
        """Raises SaefilterError for a value of another type, that is no choice, or too small."""
        if value is None and type(None) in get_args(self.type):
            return
        if not _is_of(value, self.type):
            raise SaefilterError(f"{self.flag} {value!r} is not {_kind(self.type)}", where=where)
        if value == "":
            raise SaefilterError(
                f"{self.flag} is empty", where=where, remedy="Give a value, or leave it out."
            )
        if self.option.choices and value not in self.option.choices:
            raise SaefilterError(
                f"{self.flag} {value!r} is not known", where=where,
                remedy=did_you_mean(str(value), self.option.choices, "Choose one of"),
            )  # fmt: skip
        for end, wrong, name in (
            (self.option.least, -1, "smallest"), (self.option.most, 1, "largest"),
        ):  # fmt: skip
            if end is not None and (value - end) * wrong > 0:
                raise SaefilterError(
                    f"{self.flag} {value} is out of range", where=where,
                    remedy=f"The {name} is {end:g}."
                    + (f" {value:g} % is {value:g}%." if self.option.fraction and value > 1 else ""),
                )  # fmt: skip


def described(cls: type) -> dict[str, Described]:
    """The options of a settings class by name, in its order."""
    return _described(cls)


@cache
def _described(cls: Hashable) -> dict[str, Described]:
    assert isinstance(cls, type)
    hints = get_type_hints(cls)
    return {
        one.name: Described(
            one.name,
            hints[one.name],
            None if one.default is dataclasses.MISSING else one.default,
            one.metadata[OPTION],
        )
        for one in fields(cls)
        if OPTION in one.metadata
    }


def as_fraction(text: str, flag: str, where: str | None = None) -> float:
    """A share as a part of 1: of `0.05` or `5%`. Raises SaefilterError for what is no share."""
    plain = text.strip()
    try:
        number = float(plain.removesuffix("%"))
        if not math.isfinite(number):
            raise ValueError
    except ValueError:
        raise SaefilterError(
            f"{flag} {text!r} is not a number", where=where, remedy="10 % is 10% or 0.1."
        ) from None
    return round(number / 100, 12) if plain.endswith("%") else number


class Checked:
    """Base of settings classes: values are checked wherever they are from."""

    def __post_init__(self) -> None:
        for name, one in described(type(self)).items():
            value = one.plain(getattr(self, name))
            object.__setattr__(self, name, value)  # frozen for everybody else
            one.check(value)


def _is_of(value: Any, kind: Any) -> bool:
    plain = [one for one in get_args(kind) or (kind,) if one is not type(None)]
    if isinstance(value, bool) or plain == [bool]:
        return isinstance(value, bool) and bool in plain
    if float in plain and isinstance(value, (int, float)):
        return math.isfinite(value)
    return isinstance(value, tuple(getattr(one, "__origin__", one) for one in plain))


def _kind(kind: Any) -> str:
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    plain = [one for one in get_args(kind) or (kind,) if one is not type(None)]
    return " or ".join(names.get(one, str(getattr(one, "__name__", one))) for one in plain)
