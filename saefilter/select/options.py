"""What a user can tell a strategy; each takes a few of these, and the others must be left out."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from saefilter.described import Checked, option
from saefilter.select.judge.settings import JudgeSettings


@dataclass(frozen=True)
class StrategyOptions(Checked):
    """One field for each option on the command line; None where it was not given."""

    contrast_toxic: tuple[str, ...] | None = option(
        None, "Toxic rows for a strategy to learn from; repeatable."
    )
    contrast_benign: tuple[str, ...] | None = option(
        None, "Benign rows for a strategy to learn from; repeatable."
    )
    label: str | None = option(None, "Column of the data that says which rows are bad.")
    labels: str | None = option(
        None, "File that says which rows are bad: row_id or line, and a label."
    )
    model: str | None = option(None, "Causal model of strategies that read with one.")
    """Hub id or folder."""
    revision: str | None = option(None, "The model's commit, tag or branch on the hub.")
    toxic_set: str | None = option(None, "Whose direction projection-difference projects on.")
    """File or name."""
    hook: str | None = option(
        None, "Where a strategy reads the model.", unless_said="as the scores, or its middle"
    )
    """In TransformerLens's words."""
    max_new_tokens: int | None = option(
        None, "Length of the model's own answers.", least=1, unless_said="64"
    )
    temperature: float | None = option(
        None, "Of the model's own answers.", least=0, unless_said="0: greedy"
    )
    device: str | None = option(None, "For what reads with a model: auto, cpu, cuda, ...")
    dtype: str | None = option(
        None, "For what reads with a model: auto, fp32, bf16, fp16.",
        choices=("auto", "fp32", "bf16", "fp16"),
    )  # fmt: skip
    judge: JudgeSettings | None = None
    """Every --judge option."""

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
