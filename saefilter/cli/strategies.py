"""Options of strategies, for the commands that take `--strategy`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from saefilter.cli.common import one_of
from saefilter.cli.options import DTYPES
from saefilter.select.registry import BUILT_IN

if TYPE_CHECKING:
    from saefilter.select.judge.settings import JudgeSettings
    from saefilter.select.options import StrategyOptions

NAMES = ", ".join(BUILT_IN)
"""For the help."""

ContrastToxicOption = Annotated[
    list[str] | None,
    typer.Option("--contrast-toxic", help="Toxic rows for a strategy to learn from; repeatable."),
]
ContrastBenignOption = Annotated[
    list[str] | None,
    typer.Option("--contrast-benign", help="Benign rows for a strategy to learn from; repeatable."),
]
HookOption = Annotated[
    str | None,
    typer.Option("--hook", help="Where a strategy reads the model [as the scores, or its middle]."),
]
MaxNewTokensOption = Annotated[
    int | None,
    typer.Option("--max-new-tokens", min=1, help="Length of the model's own answers [64]."),
]
TemperatureOption = Annotated[
    float | None,
    typer.Option("--temperature", min=0, help="Of the model's own answers [0: greedy]."),
]
LabelOption = Annotated[
    str | None, typer.Option("--label", help="Column of the data that says which rows are bad.")
]
LabelsOption = Annotated[
    str | None,
    typer.Option(
        "--labels", help="File that says which rows are bad: row_id or line, and a label."
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="For what reads with a model: auto, cpu, cuda, ...")
]
DtypeOption = Annotated[
    str | None, typer.Option("--dtype", help="For what reads with a model: auto, fp32, bf16, fp16.")
]


def strategy_options(
    names: Sequence[str] | None,
    *,
    contrast_toxic: list[str] | None = None,
    contrast_benign: list[str] | None = None,
    model: str | None = None,
    revision: str | None = None,
    hook: str | None = None,
    max_new_tokens: int | None = None,
    temperature: float | None = None,
    label: str | None = None,
    labels: str | None = None,
    judge: JudgeSettings | None = None,
    toxic_set: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
) -> StrategyOptions:
    """What was given, as the strategies of these names take it.

    Options that also say how to score are left out where none of the strategies has use for them;
    without names nothing is.
    """
    from saefilter.select.options import StrategyOptions
    from saefilter.select.registry import takes

    if dtype is not None:
        one_of("--dtype", dtype, DTYPES)
    shared = {
        "model": model, "revision": revision, "toxic_set": toxic_set, "device": device, "dtype": dtype,
    }  # fmt: skip
    used = set(shared)
    if names is not None:
        used = {name for name in shared if any(takes(strategy, name) for strategy in names)}
    return StrategyOptions(
        contrast_toxic=tuple(contrast_toxic) if contrast_toxic else None,
        contrast_benign=tuple(contrast_benign) if contrast_benign else None,
        hook=hook,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        label=label,
        labels=labels,
        judge=judge,
        **{name: value for name, value in shared.items() if name in used},
    )
