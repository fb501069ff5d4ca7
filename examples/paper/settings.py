"""What an experiment is: one TOML file, read strictly, and the runs that follow from it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from saefilter.errors import SaefilterError

ARMS = ("none", "random", "closest", "judge", "labels")


@dataclass(frozen=True)
class Mix:
    """A dataset of good and bad rows, drawn from two files that the user has."""

    name: str
    bad: Path
    """JSONL with `messages`, as the public sets have it."""
    good: Path
    rows: int
    """Drawn from both together."""
    bad_share: float = 0.5
    tokens_per_row: int = 200
    """For the estimate alone."""


@dataclass(frozen=True)
class Train:
    """LoRA fine-tuning; the same number of optimiser steps in every arm."""

    steps: int
    batch: int
    """Rows at a time; rows per step are `batch * accumulate`."""
    accumulate: int = 1
    lr: float = 1e-5
    warmup: int = 5
    rank: int = 32
    alpha: int = 64
    max_tokens: int = 1024
    gradient_checkpointing: bool = True


@dataclass(frozen=True)
class Answers:
    """How the eight questions are answered."""

    per_question: int
    max_new_tokens: int
    batch: int
    """Answers to one question at a time."""
    temperature: float = 1.0


@dataclass(frozen=True)
class Judge:
    """An endpoint and the model there."""

    url: str
    model: str
    key_env: str | None = None
    concurrency: int = 8
    rpm: float | None = None
    price_in: float | None = None
    price_out: float | None = None
    on_failure: str = "error"
    """`keep`: answers that cannot be graded are counted and left out."""


@dataclass(frozen=True)
class Settings:
    """One scale of the experiment."""

    name: str
    model: str
    """Hub id or folder of the model that is fine-tuned, and scored with."""
    train: Train
    answers: Answers
    judge: Judge
    """Who grades the answers."""
    mix: tuple[Mix, ...]
    filter_judge: Judge | None = None
    """Who reads the rows in the arm `judge`; None: who grades the answers, too."""
    preset: str | None = None
    """Of saefilter, for that model; or `sae`."""
    sae: str | None = None
    toxic_set: Path | None = None
    """None: made by `features curate` with the options in `curate`."""
    curate: tuple[str, ...] = ()
    metric: str | None = None
    dtype: str = "bf16"
    arms: tuple[str, ...] = ARMS
    drop_fracs: tuple[float, ...] = (0.5,)
    seeds: tuple[int, ...] = (0,)

    def reader(self) -> list[str]:
        """The options of saefilter that name model and SAE."""
        if self.preset is not None:
            return ["--preset", self.preset]
        return ["--model", self.model, "--sae", str(self.sae)]


@dataclass(frozen=True)
class Run:
    """One fine-tuned model, or the untouched one."""

    mix: str | None
    arm: str
    drop_frac: float
    seed: int

    @property
    def name(self) -> str:
        """Its folder."""
        if self.mix is None:
            return "base"
        return f"{self.mix}/{self.arm}-{self.drop_frac * 100:g}-{self.seed}"


def runs_of(settings: Settings) -> Iterator[Run]:
    """Every run: the model as it is, then each mix whole and filtered."""
    yield Run(None, "base", 0.0, settings.seeds[0])
    for mix in settings.mix:
        for arm in settings.arms:
            for share in (0.0,) if arm == "none" else settings.drop_fracs:
                for seed in settings.seeds:
                    yield Run(mix.name, arm, share, seed)


def load(path: Path, changes: list[str]) -> Settings:
    """Read a TOML file; `changes` are `key=value` with dots for tables, as given with --set.

    Raises SaefilterError for a key that is unknown or missing, or a value of another type.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SaefilterError(f"not readable TOML ({error})", where=str(path)) from error
    for change in changes:
        _change(table, change)
    settings = _build(Settings, table, str(path), path.parent)
    _check(settings, str(path))
    return settings


def _check(settings: Settings, where: str) -> None:
    def refuse(problem: str) -> None:
        raise SaefilterError(problem, where=where)

    if (settings.preset is None) == (settings.sae is None):
        refuse("name either preset or sae")
    if unknown := [arm for arm in settings.arms if arm not in ARMS]:
        refuse(f"there is no arm {unknown[0]!r}; there are {', '.join(ARMS)}")
    if not all(0 < share < 1 for share in settings.drop_fracs):
        refuse("drop_fracs lie between 0 and 1")
    if not settings.seeds or not settings.mix:
        refuse("at least one seed and one [[mix]] are needed")
    if len({mix.name for mix in settings.mix}) < len(settings.mix):
        refuse("two [[mix]] have the same name")
    for mix in settings.mix:
        if not 0 < mix.bad_share < 1:
            refuse("bad_share lies between 0 and 1")


def _build(kind: type, table: Any, where: str, folder: Path) -> Any:
    if not isinstance(table, dict):
        raise SaefilterError(f"{table!r} is no table", where=where)
    hints = get_type_hints(kind)
    known = {one.name: one for one in fields(kind)}
    for key in table:
        if key not in known:
            raise SaefilterError(f"unknown key {key!r}", where=where)
    values = {}
    for name, one in known.items():
        if name in table:
            values[name] = _value(hints[name], table[name], f"{where}: {name}", folder)
        elif one.default is MISSING:
            raise SaefilterError(f"{name!r} is missing", where=where)
    return kind(**values)


def _value(hint: Any, value: Any, where: str, folder: Path) -> Any:
    inner = [one for one in getattr(hint, "__args__", ()) if one not in (type(None), ...)]
    if (getattr(hint, "__origin__", None) is tuple) != isinstance(value, list):
        problem = "no list was expected" if isinstance(value, list) else "a list was expected"
        raise SaefilterError(problem, where=where)
    if isinstance(value, list):
        return tuple(_value(inner[0], item, where, folder) for item in value)
    wanted = inner[0] if inner else hint
    if is_dataclass(wanted):
        return _build(wanted, value, where, folder)  # type: ignore[arg-type]
    if wanted is Path and isinstance(value, str):
        return folder / value
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise SaefilterError(f"{value!r} is not of type {wanted.__name__}", where=where)
    return value


def _change(table: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals:
        raise SaefilterError(f"--set {change} is not key=value")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except ValueError:
        value = text  # a bare word is a string
    *above, last = key.split(".")
    for name in above:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise SaefilterError(f"--set {change}: {name} is no table; change it in the file")
    table[last] = value


def without_endpoint(settings: Settings) -> Settings:
    """The settings that decide what comes out: where the judge is, and how fast, does not; nor which
    of the runs are made, as they do not depend on each other."""

    def what(judge: Judge) -> Judge:
        return Judge(url="", model=judge.model, on_failure=judge.on_failure)

    reads = settings.filter_judge or settings.judge
    return replace(
        settings,
        judge=what(settings.judge),
        filter_judge=what(reads),
        arms=(),
        drop_fracs=(),
        seeds=(),
    )
