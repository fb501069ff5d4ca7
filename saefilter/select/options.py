"""What a user can tell a strategy; each takes a few of these, and the others must be left out."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from saefilter.select.judge.settings import JudgeSettings


@dataclass(frozen=True)
class StrategyOptions:
    """One field for each option on the command line; None where it was not given."""

    contrast_toxic: tuple[str, ...] | None = None
    """Inputs with toxic rows, to learn from."""
    contrast_benign: tuple[str, ...] | None = None
    model: str | None = None
    """A causal language model: hub id or folder."""
    revision: str | None = None
    toxic_set: str | None = None
    """Whose direction to project on: file or name."""
    hook: str | None = None
    """Where the residual stream is read, in TransformerLens's words."""
    max_new_tokens: int | None = None
    """Length of the model's own answers."""
    temperature: float | None = None
    """Of the model's own answers; 0 for greedy ones."""
    label: str | None = None
    """Column of the data that says which rows are bad."""
    labels: str | None = None
    """File that says which rows are bad."""
    judge: JudgeSettings | None = None
    """Every --judge option."""
    device: str | None = None
    dtype: str | None = None

    def given(self) -> dict[str, Any]:
        """Those that were given."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def described(self) -> dict[str, Any]:
        """Those that were given, files by their names alone: what artifacts may say of them."""
        return {name: _described(name, value) for name, value in self.given().items()}


FILES = ("contrast_toxic", "contrast_benign", "labels", "model", "toxic_set")


def option_name(field: str) -> str:
    """`contrast_toxic` -> `--contrast-toxic`; of a judge, the option that none does without."""
    if field == "judge":
        return "--judge-url"
    return "--" + field.replace("_", "-")


def _described(name: str, value: Any) -> Any:
    if isinstance(value, JudgeSettings):
        return value.described()
    if isinstance(value, tuple):
        return [_described(name, item) for item in value]
    is_local = name in FILES and Path(str(value)).exists()
    return Path(str(value)).name if is_local else value
