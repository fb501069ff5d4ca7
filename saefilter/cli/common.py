"""What the commands share: consoles, the choice of the preset, strategies' options."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from saefilter.asked import ask
from saefilter.errors import SaefilterError, did_you_mean
from saefilter.select.registry import BUILT_IN
from saefilter.settings import ScoreSettings
from saefilter.text import clean, json_safe, one_line

if TYPE_CHECKING:
    from rich.console import Console

    from saefilter.artifacts.scores import Scores
    from saefilter.asked import Asked
    from saefilter.cli.options import Given
    from saefilter.encode.presets import Preset
    from saefilter.rows.read import Source
    from saefilter.select.judge.settings import JudgeSettings
    from saefilter.select.registry import StrategyOptions

STRATEGY_NAMES = ", ".join(BUILT_IN)
"""For the help."""


def fail(message: str, code: int = 2) -> NoReturn:
    """Print an error as one line and leave. It may quote names from anywhere."""
    typer.echo(f"saefilter: {one_line(message)}", err=True)
    sys.exit(code)


def one_of(option: str, value: str, choices: tuple[str, ...]) -> str:
    """The value, if it is one of the choices. Raises SaefilterError."""
    if value not in choices:
        raise SaefilterError(
            f"{option} {value!r} is not known", remedy=did_you_mean(value, choices, "Choose one of")
        )
    return value


def output_console() -> Console:
    """Standard output; colours only on a terminal, NO_COLOR respected. What steers a terminal never
    gets there, and nothing is markup, whoever forgot to think of it."""
    from saefilter.report.console import SafeConsole

    return SafeConsole(width=None if sys.stdout.isatty() else 110)


def warn(message: str, *, quiet: bool = False) -> None:
    """A line on standard error. It may quote names from anywhere."""
    if not quiet:
        typer.echo(clean(message), err=True)


def print_json(text: str) -> None:
    """JSON on standard output; what in its strings could steer a terminal is escaped."""
    typer.echo(json_safe(text).rstrip("\n"))


def refuse_overwrite_alone(output: str | Path | None, *, overwrite: bool) -> None:
    """Raises SaefilterError for --overwrite where nothing is there to be replaced."""
    if overwrite and output is None:
        raise SaefilterError("--overwrite has no effect without -o", remedy="Leave it out.")


SEVERAL = ("preset", "sae", "layer")
"""Options that commands which compare SAEs let be repeated."""
ON_COMMAND_LINE: Given = {"prepare_processes": None}
"""Defaults of commands: they are the program's main module, so processes of their own do no harm."""


def asked_of(given: Given) -> Asked:
    """The settings that hold for a command."""
    return ask(given, base=ScoreSettings(**ON_COMMAND_LINE))


def ask_and_say(given: Given, *, quiet: bool) -> Asked:
    """The settings that hold, after saying which model they read with and who chose it."""
    asked = asked_of(given)
    warn(asked.why(), quiet=quiet)
    return asked


def asked_several(given: Given, *, quiet: bool) -> list[Asked]:
    """The settings of each preset, SAE or layer that was named, where these may be repeated; the one that
    holds, where none was. Raises SaefilterError where several were repeated."""
    lists = {name: given[name] for name in SEVERAL if name in given}
    alike = {name: value for name, value in given.items() if name not in (*SEVERAL, "toxic_set")}
    if not lists:
        return [ask_and_say(alike, quiet=quiet)]
    many = [name for name, values in lists.items() if len(values) > 1] or list(lists)[:1]
    if len(many) > 1:
        raise SaefilterError(
            f"{' and '.join(f'--{name}' for name in many)} are both repeated",
            remedy="Repeat one of them.",
        )
    alike |= {name: values[0] for name, values in lists.items()}
    return [asked_of({**alike, many[0]: value}) for value in lists[many[0]]]


def data_of(scores: Scores, remedy: str) -> Source:
    """The data that scores were made from. Raises SaefilterError, with the remedy, where they have gone."""
    from saefilter.rows.inputs import open_input

    name = scores.provenance.input_path
    try:
        return open_input(name)
    except SaefilterError as error:
        raise SaefilterError(
            f"{scores.path} was made from {name}, which is not there", remedy=remedy
        ) from error


def preset_of(asked: Asked) -> Preset:
    """The preset, or the pair of model and SAE. Raises SaefilterError when there is none."""
    from saefilter.encode import presets

    return presets.preset_of(asked.settings)


def strategy_options(telling: Given, judge: JudgeSettings | None) -> StrategyOptions:
    """What was given, as strategies take it. Raises SaefilterError for a value that is none."""
    from saefilter.select.registry import StrategyOptions

    return StrategyOptions(**telling, judge=judge)


def judge_settings(given: Given) -> JudgeSettings | None:
    """What was given of the --judge options; None where nothing was."""
    from saefilter.select.judge.settings import JudgeSettings

    if not given:
        return None
    for name in ("url", "model"):
        if name not in given:
            raise SaefilterError(
                f"a judge needs --judge-{name}",
                remedy="For example --judge-url http://127.0.0.1:8000/v1 --judge-model NAME.",
            )
    return JudgeSettings(**given)
