"""How commands show their help, in which order they stand, and how the program ends: an error of usage is one
line, and a reader that left (`| head`) is told apart from a verdict.
"""

from __future__ import annotations

import copy
import inspect
import io
import os
import select
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn, get_args

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
MOST_WAITS = 20
"""Of these, for a reader that is slow to take what is in the pipe."""
ClickError: Any = typer.BadParameter.__mro__[2]
"""Click's base of errors of usage, which typer has in a place of its own by version."""


class Output(io.TextIOWrapper):
    """Standard output or standard error. Writing where nobody reads any more ends the program as that; typer
    and rich would leave with 1, which is the code of data that fail a gate."""

    @classmethod
    def of(cls, stream: Any) -> Any:
        """In the place of a stream that rests on a file."""
        if not isinstance(stream, io.TextIOWrapper):
            return stream
        encoding, errors, lines = stream.encoding, stream.errors, stream.line_buffering
        buffer = stream.detach()
        raw = isinstance(buffer, io.RawIOBase)  # with PYTHONUNBUFFERED: what does not fit is lost
        own = cls(io.BufferedWriter(buffer) if raw else buffer, encoding, errors, None, lines)
        own.at_once = raw
        return own

    at_once = False
    """Whether every text is handed over as it is written."""

    def write(self, text: str) -> int:
        """Write text."""
        try:
            count = super().write(text)
        except BrokenPipeError:
            leave_quietly()
        if self.at_once:
            self.flush()
        return count

    def flush(self) -> None:
        """Hand over what was written."""
        try:
            super().flush()
        except BrokenPipeError:
            leave_quietly()


def leave_quietly() -> NoReturn:
    """End as a program does whose reader left. Nothing that is still to be written makes a noise."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        if nobody_reads(number):
            os.dup2(nowhere, number)
    raise SystemExit(CLOSED_PIPE)


def nobody_reads(number: int, milliseconds: int = 0) -> bool:
    """Whether a file, by its number, is a pipe that nobody reads any more."""
    if not hasattr(select, "poll"):  # Windows
        return False
    waiting = select.poll()
    waiting.register(number, 0)  # the end of its reader is told unasked
    return stat.S_ISFIFO(os.fstat(number).st_mode) and bool(waiting.poll(milliseconds))


def unread(number: int) -> int:
    """Bytes in a pipe that its reader has not taken yet; 0 where that is not told."""
    try:
        import fcntl
        import termios

        told = fcntl.ioctl(number, termios.FIONREAD, bytes(4))
        return int.from_bytes(told, sys.byteorder)
    except (ImportError, OSError):
        return 0


def verdict(code: int) -> None:
    """End with an exit code that is a verdict, if somebody has read what it rests on."""
    sys.stdout.flush()
    if isinstance(sys.stdout, Output):
        for _ in range(MOST_WAITS):
            if nobody_reads(1, LONGEST_WAIT):
                leave_quietly()
            if not unread(1):
                break
    if code:
        raise typer.Exit(code)


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
    default = parameter.default
    if parameter.show_default and not (default is None or default is False or default == ""):
        parameter.help = panels.with_default(parameter.help, str(default))
        parameter.show_default = False
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


def say_usage(error: Any) -> None:
    """An error of usage on standard error; help that was asked for by saying nothing is no error."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        if help := error.format_message():  # rich has printed it already
            typer.echo(help, err=True)
        return
    help = f" See {context.command_path} --help." if context else ""
    message = error.format_message().replace("Value error, ", "").rstrip(".")  # no words for a user
    end = "" if message.endswith("?") else "."
    typer.echo(f"saefilter: {one_line(message)}{end}{help}", err=True)
