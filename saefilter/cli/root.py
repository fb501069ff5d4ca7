"""How commands show their help, in which order they stand, and how the program ends: an error of usage is one
line, and a reader that left (`| head`) is told apart from a verdict.
"""

from __future__ import annotations

import copy
import inspect
import os
import select
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, get_args

import typer
from typer.core import TyperCommand, TyperGroup

from saefilter.cli import panels
from saefilter.text import one_line

CLOSED_PIPE = 141
"""What shells show for a program that wrote where nobody reads: 128 + SIGPIPE."""
STOPPED = 130
INTERRUPTED = "interrupted; nothing was written under its final name"
LONGEST_WAIT = 100
"""Milliseconds in which a reader that has what it wanted is gone; one that goes on waits for our end."""
ClickError: Any = typer.BadParameter.__mro__[2]
"""Click's base of errors of usage, which typer has in a place of its own by version."""


def reader_left(*files: Any, milliseconds: int = 0) -> bool:
    """Whether one of these is a pipe that nobody reads any more."""
    if not hasattr(select, "poll"):  # Windows
        return False
    waiting, pipes = select.poll(), 0
    for file in files:
        try:
            number = -1 if file is None else file.fileno()
            if stat.S_ISFIFO(os.fstat(number).st_mode):
                waiting.register(number, 0)  # the end of its reader is told unasked
                pipes += 1
        except (OSError, ValueError):
            continue
    return bool(pipes and waiting.poll(milliseconds))


def leave_quietly() -> None:
    """End as a program does whose reader left. Nothing that is still to be written makes a noise."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    raise SystemExit(CLOSED_PIPE)


def verdict(code: int) -> None:
    """End with an exit code that is a verdict, if somebody has read what it rests on."""
    sys.stdout.flush()
    if reader_left(sys.__stdout__, milliseconds=LONGEST_WAIT):
        leave_quietly()
    if code:
        raise typer.Exit(code)


@contextmanager
def ending_with_its_reader() -> Iterator[None]:
    """Turns the error of writing where nobody reads into `CLOSED_PIPE`; typer and rich would leave with 1, which
    is the code of data that fail a gate."""
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except (BrokenPipeError, SystemExit) as error:
        broken = error if isinstance(error, BrokenPipeError) else error.__context__
        if not isinstance(broken, BrokenPipeError):
            raise
        if broken is error and not reader_left(
            sys.__stdout__, sys.__stderr__
        ):  # rich has closed what it wrote to
            raise RuntimeError("another process closed its end of a pipe") from error
        leave_quietly()


class Command(TyperCommand):
    """A command whose help is plain text in panels, these in the order of `panels.py`."""

    def __init__(self, *arguments: Any, **more: Any):
        super().__init__(*arguments, **more)
        for parameter in self.params:
            _named(parameter)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """No text of ours is markup, and `[...]` in it is a default."""
        TyperCommand.format_help(_escaped(self, ctx), ctx, formatter)


class InOrder(TyperGroup):
    """A group whose commands stand in panels, in the order that they are listed there."""

    listed: ClassVar[Mapping[str, Sequence[str]]] = {}

    def __init__(self, **more: Any):
        super().__init__(**more)
        panel = {name: title for title, names in self.listed.items() for name in names}
        places = {name: place for place, name in enumerate(panel)}
        names = sorted(self.commands, key=lambda name: places.get(name, len(places)))
        self.commands = {name: self.commands[name] for name in names}
        for name, command in self.commands.items():
            command.rich_help_panel = panel.get(name)  # type: ignore[attr-defined]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As a command's."""
        TyperGroup.format_help(_escaped(self, ctx), ctx, formatter)


class Root(InOrder):
    """The program."""

    listed = panels.COMMANDS

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **more: Any,
    ) -> Any:
        """Run it. An error of usage is one line, as any other error is."""
        try:
            with ending_with_its_reader():
                code = super().main(
                    args, prog_name, complete_var, False, windows_expand_args, **more
                )
        except ClickError as error:
            if not standalone_mode:
                raise
            _say(error)
            sys.exit(error.exit_code)
        if not standalone_mode:
            return code
        if code == STOPPED:  # typer tells Ctrl-C by this code alone
            typer.echo(f"saefilter: {INTERRUPTED}", err=True)
        sys.exit(code or 0)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that is named; typer takes an error of a pipe for the end."""
        with ending_with_its_reader():
            return super().invoke(ctx)

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        """Read the options before the command, one of which may print."""
        with ending_with_its_reader():
            return super().make_context(*arguments, **more)


class Features(InOrder):
    """`saefilter features`."""

    listed = panels.FEATURES_COMMANDS


class App(typer.Typer):
    """A typer app whose commands are `Command`s."""

    def command(self, name: str | None = None, **more: Any) -> Callable[[Any], Any]:
        """Register a command."""
        return super().command(name, **{"cls": Command, **more})


def _named(parameter: Any) -> None:
    """Give a parameter the panel and the word for its value that panels.py has for it."""
    if parameter.param_type_name == "argument":
        parameter.metavar = parameter.metavar or panels.ARGUMENTS.get(parameter.name or "")
        return
    flag = next((one for one in parameter.opts if one.startswith("--")), "")
    if getattr(parameter, "rich_help_panel", None) is None:
        parameter.rich_help_panel = panels.panel_of_flag(flag)
    if parameter.metavar is None and not parameter.is_flag:
        parameter.metavar = panels.METAVARS.get(flag) or panels.BY_TYPE.get(
            _type(parameter), "TEXT"
        )


def _type(parameter: Any) -> str:
    """The name of a value's type: Python's, or click's where typer rests on that."""
    described = getattr(parameter, "type_descriptor", None)
    if described is None:
        return str(getattr(parameter.type, "name", ""))
    kind = described.annotation
    return str(getattr(next(iter(get_args(kind)), kind), "__name__", ""))


def _escaped(command: Any, ctx: Any) -> Any:
    """A copy that typer's help shows as it is written."""
    from rich.markup import escape

    shown = copy.copy(command)
    for part in ("help", "epilog"):
        if text := getattr(command, part, None):
            paragraphs = [" ".join(one.split()) for one in inspect.cleandoc(text).split("\n\n")]
            setattr(shown, part, escape("\n\n".join(paragraphs)))
    parameters = [copy.copy(parameter) for parameter in command.get_params(ctx)]
    for parameter in parameters:
        if text := getattr(parameter, "help", None):
            parameter.help = escape(text)
        if "--help" in parameter.opts and isinstance(command, Command):
            parameter.rich_help_panel = panels.OUTPUT
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""  # not `<bool>`
        if parameter.param_type_name == "argument":
            parameter.display_type_rich = lambda ctx: ""  # its name says more than `<str>`
    order = {panel: place for place, panel in enumerate(panels.ORDER)}
    parameters.sort(key=lambda one: order.get(getattr(one, "rich_help_panel", None) or "", -1))
    shown.get_params = lambda ctx: parameters
    return shown


def _say(error: Any) -> None:
    """An error of usage on standard error; help that was asked for by saying nothing is no error."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        if help := error.format_message():  # rich has printed it already
            typer.echo(help, err=True)
        return
    help = f" See {context.command_path} --help." if context else ""
    message = error.format_message().rstrip(".")
    end = "" if message.endswith("?") else "."
    typer.echo(f"saefilter: {one_line(message)}{end}{help}", err=True)
