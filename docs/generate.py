"""Writes docs/cli.md: every command, option and setting, from the code that takes them.

python docs/generate.py          # `make docs`; tests/test_docs.py says when it must be run again
"""

from __future__ import annotations

import inspect
from collections import Counter
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
TABLE = "\n| argument or option | |\n| --- | --- |\n"
SHARED = "Options of several commands"
SHARED_LINK = "#options-of-several-commands"
SETTINGS = """
## Settings of a project

Keys of `saefilter.toml`, or of `[tool.saefilter]` in `pyproject.toml`, are the options of `score` with `-`
or `_`. An option wins over the file, the file over `SAEFILTER_PRESET` and the defaults; an unknown key is
an error. The gate's limits stand under `[check]` ([check.md](check.md)).

Scores depend on {depend}; not on {others}.

Scores that were made with another value of a setting that they depend on are not used: `filter` says
what differs and stops, or scores anew with `--overwrite`; `check` scores anew. A gate holds scores that
lie there against the defaults too; `filter` and `compare` only against what somebody asked for.
"""


def page() -> str:
    """The whole page."""
    commands()
    found = list(_walk(typer.main.get_command(app), "saefilter"))
    shared = _shared([_rows(command) for _, command in found])
    parts = [START]
    for name, command in found:
        parts.append(f"\n## {name}\n\n{_about(command)}\n")
        rows = _rows(command)
        own = [row for row in rows.values() if row not in shared]
        if own:
            parts.append(f"{TABLE}{''.join(own)}")
        if also := [names for names, row in rows.items() if row in shared]:
            parts.append(f"\nAnd [as elsewhere]({SHARED_LINK}): {', '.join(also)}.\n")
        if command.epilog:
            parts.append(f"\n`{command.epilog.removeprefix('Example: ')}`\n")
    parts += [f"\n## {SHARED}\n{TABLE}", *shared]
    settings = described(ScoreSettings).values()
    depend = [f"`{one.name.replace('_', '-')}`" for one in settings if one.option.scores_depend]
    others = [f"`{one.name.replace('_', '-')}`" for one in settings if not one.option.scores_depend]
    return "".join([*parts, SETTINGS.format(depend=", ".join(depend), others=", ".join(others))])


def _shared(commands: list[dict[str, str]]) -> list[str]:
    """The lines of options that several commands have alike, in the order in which they are met; of an
    option with two meanings the commoner one."""
    times = Counter(
        (names, row) for rows in commands for names, row in rows.items() if row.startswith("| `-")
    )
    best = {names: row for (names, row), _ in reversed(times.most_common())}
    return [row for (names, row), number in times.items() if number > 1 and best[names] == row]


def _rows(command: Any) -> dict[str, str]:
    """A command's lines of its table, by its names of what they tell."""
    return {
        _names(parameter): _row(parameter)
        for parameter in command.params
        if not _is_help(parameter)
    }


def _walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """A command and those below it; groups that do nothing by themselves are left out."""
    does_something = not getattr(command, "commands", None) or command.invoke_without_command
    if does_something and name != "saefilter":
        yield name, command
    for below, child in getattr(command, "commands", {}).items():
        yield from _walk(child, f"{name} {below}")


def _about(command: Any) -> str:
    return inspect.cleandoc(command.help or "").partition("\n\nExample:")[0].replace("<", "&lt;")


def _is_help(parameter: Any) -> bool:
    return "--help" in parameter.opts or getattr(parameter, "hidden", False)


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    return f"`{', '.join(parameter.opts)}`"


def _row(parameter: Any) -> str:
    names = _names(parameter)
    if parameter.param_type_name != "argument" and parameter.metavar:
        names = f"{names[:-1]} {parameter.metavar}`"
    names = names.replace("|", "\\|")
    needed = " (required)" if parameter.required else ""
    text = _cell(parameter.help or "")
    if parameter.multiple and "epeat" not in text:
        text += " Repeatable."
    return f"| {names}{needed} | {text} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")  # <input> is HTML


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
