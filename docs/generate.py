"""Writes docs/cli.md: every command, option and setting, from the code that takes them.

python docs/generate.py          # `make docs`; tests/test_docs.py says when it must be run again
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from saefilter.cli import app, commands
from saefilter.described import described
from saefilter.settings import ScoreSettings

PAGE = Path(__file__).with_name("cli.md")
START = """# Commands, options, settings

Generated from the code by `python docs/generate.py`; `saefilter COMMAND --help` says the same, in panels. A
share is `5%` or `0.05`. `saefilter --install-completion` teaches your shell the names of commands, options,
presets, metrics, strategies and toxic sets, and the columns of the data on the line.
"""
SETTINGS = """
## Settings of a project

Keys of `saefilter.toml`, or of `[tool.saefilter]` in `pyproject.toml`, with `-` or `_`. An option wins
over the file, the file over `SAEFILTER_PRESET` and the defaults; an unknown key is an error. The gate's
limits stand under `[check]` ([docs/check.md](check.md)).

Scores that were made with another value of a setting that they depend on are not used: `filter` says
what differs and stops, or scores anew with `--overwrite`; `check` scores anew. A gate holds scores that
lie there against the defaults too; `filter` and `compare` only against what somebody asked for.

| key | default | values | scores depend on it |
| --- | --- | --- | --- |
"""


def page() -> str:
    """The whole page."""
    commands()
    parts = [START]
    for name, command in _walk(typer.main.get_command(app), "saefilter"):
        parts.append(f"\n## {name}\n\n{_about(command)}\n")
        rows = [_row(parameter) for parameter in command.params if not _is_help(parameter)]
        if rows:
            parts.append("\n| argument or option | |\n| --- | --- |\n" + "".join(rows))
        if command.epilog:
            parts.append(f"\n`{command.epilog.removeprefix('Example: ')}`\n")
    return "".join([*parts, SETTINGS, *map(_setting, described(ScoreSettings).values())])


def _walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """A command and those below it; groups that do nothing by themselves are left out."""
    does_something = not getattr(command, "commands", None) or command.invoke_without_command
    if does_something and name != "saefilter":
        yield name, command
    for below, child in getattr(command, "commands", {}).items():
        yield from _walk(child, f"{name} {below}")


def _about(command: Any) -> str:
    return inspect.cleandoc(command.help or "").partition("\n\nExample:")[0]


def _is_help(parameter: Any) -> bool:
    return "--help" in parameter.opts or getattr(parameter, "hidden", False)


def _row(parameter: Any) -> str:
    names = ", ".join(parameter.opts)
    if parameter.param_type_name == "argument":
        names = parameter.metavar or parameter.name.upper()
    elif parameter.metavar:
        names = f"{names} {parameter.metavar}"
    names = names.replace("|", "\\|")
    needed = " (required)" if parameter.required else ""
    text = _cell(parameter.help or "")
    if parameter.multiple and "epeat" not in text:
        text += " Repeatable."
    return f"| `{names}`{needed} | {text} |\n"


def _setting(one: Any) -> str:
    default = one.option.unless_said if one.default is None else str(one.default)
    values = ", ".join(one.option.choices) or one.option.help
    depend = "yes" if one.option.scores_depend else ""
    return f"| `{one.name.replace('_', '-')}` | {_cell(default)} | {_cell(values)} | {depend} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
