"""The command line's options, derived from settings classes, and the few that only commands have.

    @app.command()
    @with_options(ScoreSettings, "scoring", only=("preset", "device"))
    def command(input: str, scoring: Given, quiet: QuietOption = False) -> None: ...

gives the command `--preset` and `--device` where `scoring` stands, and calls it with a dict of those
that were given. What they are called, take and mean is said where the setting is (settings.py).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from saefilter.cli.completion import completing
from saefilter.cli.panels import OUTPUT, SHARE, panel_of, with_default
from saefilter.described import Described, described
from saefilter.settings import WHICH_MODEL

Given = dict[str, Any]
"""Setting -> value, of those that were given."""
Command = Callable[..., None]

INPUT_HELP = (
    "Dataset: a JSONL, JSON, CSV (.gz, .zst), Parquet or Arrow file, a folder or pattern of them, - for "
    "standard input, a URL, or a hub dataset (org/name:train[:1000])."
)
LONGEST_LIST = 26
"""Characters of choices that stand in a column of the help."""
OverwriteOption = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace outputs that exist already.", rich_help_panel=OUTPUT),
]
PublicOption = Annotated[
    bool,
    typer.Option("--public", help="On the hub, let everyone see it; else it is made private."),
]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume", help="Go on where an interrupted run stopped.", rich_help_panel=OUTPUT
    ),
]
QuietOption = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print nothing but errors.", rich_help_panel=OUTPUT),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON in place of text.", rich_help_panel=OUTPUT)
]

TRAINED = ("train_on", "trainer", "read", "max_tokens", "truncation_side", "rendering")
"""What is read of a row: percentiles hold for rows that were read so."""
READING = WHICH_MODEL
"""Which model to read with: what every command takes that reads with one."""


def with_options(
    cls: type,
    into: str,
    *,
    only: Collection[str] = (),
    without: Collection[str] = (),
    several: Collection[str] = (),
    defaults: Given | None = None,
    helps: dict[str, str] | None = None,
    panel: str = "",
) -> Callable[[Command], Command]:
    """Give a command the options of a settings class; its parameter `into` gets those given, by name.

    `only` and `without` choose among them; `several` may be repeated, and come as lists. `defaults` and
    `helps` say what is another one for this command. `panel`: of the help, where they stand, unless
    panels.py puts an option into one of its own.
    """
    chosen = [
        one
        for name, one in described(cls).items()
        if (not only or name in only) and name not in without
    ]

    def decorate(command: Command) -> Command:
        own = _parameters(command)
        derived = {
            f"{into}_{one.name}": _parameter(
                f"{into}_{one.name}", one, (defaults or {}).get(one.name, one.default),
                (helps or {}).get(one.name), panel or panel_of(one.name), several=one.name in several,
            )
            for one in chosen
        }  # fmt: skip

        def run(**arguments: Any) -> None:
            values = {one.name: arguments.pop(f"{into}_{one.name}") for one in chosen}
            command(**arguments, **{into: {k: v for k, v in values.items() if v is not None}})

        together: list[inspect.Parameter] = []
        for parameter in own:
            together += derived.values() if parameter.name == into else [parameter]
        run.__name__, run.__doc__, run.__module__ = (
            command.__name__,
            command.__doc__,
            command.__module__,
        )
        run.__signature__ = inspect.Signature(together)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in together}
        return run

    return decorate


def _parameters(command: Command) -> list[inspect.Parameter]:
    """Those of a command, with their annotations as objects; keyword-only, so that order is free."""
    signature = inspect.signature(command)
    hints = get_type_hints(command, include_extras=True)
    return [
        parameter.replace(
            annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY
        )
        for name, parameter in signature.parameters.items()
    ]  # fmt: skip


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _parameter(
    name: str, one: Described, default: Any, help: str | None, panel: str, *, several: bool
) -> inspect.Parameter:
    plain = next(kind for kind in get_args(one.type) or (one.type,) if kind is not type(None))
    many = several or getattr(plain, "__origin__", None) is tuple
    if many:
        plain = get_args(plain)[0] if get_args(plain) else plain
    shown = one.option.unless_said if default is None or default is False else _plain(default)
    metavar = one.option.metavar or _metavar(one.option.choices, plain)
    if one.option.share or one.option.fraction:
        plain, metavar = str, SHARE
    if one.option.share:
        shown = f"{default:g}%" if default is not None else ""
    text = help or one.option.help
    if shown:
        text = with_default(text, shown)
    kind = list[plain] if many else plain  # type: ignore[valid-type]
    option = typer.Option(
        one.flag, help=text, show_default=False, rich_help_panel=panel,
        metavar=None if plain is bool else metavar,
        autocompletion=completing(one.name, one.option.choices),
    )  # fmt: skip
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None,
        annotation=Annotated[kind | None, option],
    )  # fmt: skip


def _metavar(choices: tuple[str, ...], kind: type) -> str:
    """`right|left`; a word for the type where there are no choices, or too many to stand in a column."""
    if choices and len(listed := "|".join(choices)) <= LONGEST_LIST:
        return listed
    if choices:
        return "CHOICE"
    return {int: "N", float: "NUMBER", Path: "FILE"}.get(kind, "TEXT")
