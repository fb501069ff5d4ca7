"""`saefilter tokens`: a row as the model sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from saefilter.cli import app
from saefilter.cli import options as opt
from saefilter.cli.common import ask_and_say, output_console, preset_of, print_json
from saefilter.columns import Columns
from saefilter.errors import SaefilterError
from saefilter.rows.sides import SIDES, sides_of
from saefilter.settings import COLUMN_SETTINGS, ScoreSettings
from saefilter.text import clean

if TYPE_CHECKING:
    from saefilter.rows.formats import Conversation, Understood
    from saefilter.rows.read import Source
    from saefilter.rows.rendered import RenderedRow, Window
    from saefilter.rows.row import Row

SHOWN_TURNS = 12
STYLES = {"scored": "bold black on green", "context": "dim", "special": "magenta"}


@app.command(epilog="Example: saefilter tokens data.jsonl --row 3 --preset gemma-2-2b")
@opt.with_options(
    ScoreSettings, "reading",
    only=(*opt.READING, "train_on", "trainer", "read", "max_tokens", "truncation_side", "rendering",
          *COLUMN_SETTINGS),
)  # fmt: skip
def tokens(
    *,
    input: Annotated[str, typer.Argument(help=opt.INPUT_HELP)],
    row: Annotated[
        int | None, typer.Option("--row", min=0, help="Which row, from 0 [0].", show_default=False)
    ] = None,
    line: Annotated[
        int | None,
        typer.Option(
            "--line", min=1, help="Instead: which line of the file, from 1, as reports name rows."
        ),
    ] = None,
    reading: opt.Given,
    as_json: opt.JsonOption = False,
) -> None:
    """Show one row token by token: which are scored, which are context, which the template's.

    Only the tokenizer is loaded.
    """
    from saefilter.encode.rendering import build_renderer
    from saefilter.encode.sae_source import peek_sae
    from saefilter.rows.inputs import open_input
    from saefilter.rows.render import load_tokenizer
    from saefilter.rows.rendered import RenderOptions
    from saefilter.rows.trained import trained_messages, what_is_scored
    from saefilter.scoring.prepare import understood_of

    source = open_input(input)
    asked = ask_and_say(reading, quiet=as_json)
    settings, chosen = asked.settings.of_data(source.path), preset_of(asked)
    options = RenderOptions.of(settings)
    wanted = _wanted(source, input, row, line)
    understood = understood_of(wanted, Columns.parse(settings.columns))
    if isinstance(understood, str):
        raise SaefilterError(understood, where=f"{input}:{wanted.line}")
    tokenizer = load_tokenizer(chosen.model_path(), chosen.revision)
    renderer = build_renderer(
        tokenizer,
        chosen,
        context=chosen.context or 1 << 20,
        prepend_bos=peek_sae(chosen.sae).prepend_bos,
        options=options,
        rendering=settings.rendering,
    )
    sides, scored = sides_of(understood), what_is_scored(options.by, options.read)
    shown: dict[str, object] = {"scored": scored}
    for name, conversation in zip(SIDES, sides, strict=False):
        (rendered,), windows = renderer.render([conversation])
        if rendered.problem:
            raise SaefilterError(rendered.problem, where=f"{input}:{wanted.line}")
        trained = trained_messages(conversation, options.by)
        if as_json:
            said: dict[str, object] = {"understood": _told(understood, conversation, trained)}
            said |= _as_json(rendered, windows, tokenizer)
            shown |= {name: said} if len(sides) > 1 else said
            continue
        _print_understood(understood, conversation, trained, name if len(sides) > 1 else "")
        _print(rendered, windows, tokenizer)
    if as_json:
        print_json(json.dumps(shown, ensure_ascii=False, indent=1))
    else:
        typer.echo(f"Scored tokens: {scored}")


def _wanted(source: Source, input: str, row: int | None, line: int | None) -> Row:
    """The row of that number or on that line. Raises SaefilterError where there is none, or both are given."""
    if row is not None and line is not None:
        raise SaefilterError("--row and --line exclude each other", remedy="Leave one of them out.")
    if line is None:
        numbered = next(source.rows({row or 0}), None)
        if numbered is None:
            raise SaefilterError(
                f"there is no row {row or 0}", where=input, remedy=f"It has {source.count_rows()}."
            )
        return numbered
    on_line = [
        (source.name_of(file), one) for file in source.files if (one := _on_line(file, line))
    ]
    if len(on_line) > 1:
        files = ", ".join(str(name) for name, _ in on_line[:3])
        raise SaefilterError(
            f"several files have a line {line}", where=input, remedy=f"Name one of them: {files}."
        )
    if not on_line:
        raise SaefilterError(
            f"there is no row on line {line}", where=input,
            remedy="Rows are counted by the line that they begin on; --row counts them from 0.",
        )  # fmt: skip
    return on_line[0][1]


def _on_line(file: Source, line: int) -> Row | None:
    """The row of one file that begins on a line; what follows it is not read."""
    row = next((one for one in file.rows() if one.line >= line), None)
    return row if row is not None and row.line == line else None


def _told(
    understood: Understood, conversation: Conversation, trained: list[bool]
) -> dict[str, object]:
    """How the row was read, for machines."""
    return {
        "format": understood.format,
        **({} if understood.desirable is None else {"desirable": understood.desirable}),
        "turns": [
            {"role": message.role, "trained": here, "said": message.spoken}
            for message, here in zip(conversation, trained, strict=True)
        ],
        "notes": list(understood.notes),
    }


def _print_understood(
    understood: Understood, conversation: Conversation, trained: list[bool], side: str
) -> None:
    """How the row was read: its format, and its turns with those that are trained on marked."""
    turns = [
        f"{'*' if here else ''}{message.role}" + (f" ({message.part})" if message.part else "")
        for message, here in zip(conversation, trained, strict=True)
    ]
    shown = ", ".join(turns[:SHOWN_TURNS]) + (", ..." if len(turns) > SHOWN_TURNS else "")
    label = {None: "", True: ", desirable", False: ", undesirable"}[understood.desirable]
    which = f", {side} answer" if side else label
    typer.echo(f"Read as {understood.format}{which}: {shown} (* trained on)")
    if side == SIDES[1]:
        return
    for note in understood.notes:
        typer.echo(f"It holds {clean(note)}")


def _kind(window: Window, position: int, special: set[int]) -> str:
    if window.scored[position]:
        return "scored"
    return "special" if int(window.ids[position]) in special else "context"


def _special(tokenizer: object) -> set[int]:
    from saefilter.rows.render import special_ids

    return set(special_ids(tokenizer))


def _as_json(rendered: RenderedRow, windows: list[Window], tokenizer: object) -> dict[str, object]:
    special = _special(tokenizer)
    return {
        "n_tokens": rendered.n_tokens,
        "n_trained": rendered.n_trained,
        "n_scored": rendered.n_scored,
        "windows": [
            [
                {
                    "id": int(token),
                    "text": tokenizer.decode([int(token)]),  # type: ignore[attr-defined]
                    "kind": _kind(window, i, special),
                }
                for i, token in enumerate(window.ids)
            ]
            for window in windows
        ],
    }


def _print(rendered: RenderedRow, windows: list[Window], tokenizer: object) -> None:
    from rich.text import Text

    console, special = output_console(), _special(tokenizer)
    coloured = console.is_terminal and not console.no_color
    for number, window in enumerate(windows):
        if len(windows) > 1:
            console.print(f"window {number + 1} of {len(windows)}")
        line = Text()
        for i, token in enumerate(window.ids):
            kind = _kind(window, i, special)
            shown = _visible(tokenizer.decode([int(token)]))  # type: ignore[attr-defined]
            if coloured:
                line.append(shown, STYLES[kind])
                line.append("\u2009")
            else:
                line.append({"scored": f"[{shown}]", "special": f"<{shown}>"}.get(kind, shown))
                line.append(" ")
        console.print(line, soft_wrap=True)
    cut = " (the rest is cut)" if rendered.truncated else ""
    legend = "" if coloured else " Marked: [scored] and <special> tokens."
    typer.echo(
        f"{rendered.n_scored} scored of {rendered.n_trained} trained tokens{cut}, "
        f"{rendered.n_tokens} in the row.{legend}"
    )


def _visible(text: str) -> str:
    """Control characters as symbols, so that none reaches the terminal."""
    return "".join(
        {"\n": "⏎", "\t": "⇥", " ": "␣"}.get(char, char if char.isprintable() else "�")
        for char in text
    )
