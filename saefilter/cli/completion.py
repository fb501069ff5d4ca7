"""What a shell is offered after an option: names that are known, and columns of the data that stand on the
line. It never raises, and imports nothing that is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import typer

Completer = Callable[[typer.Context, str], list[str]]

DATA = ("input", "inputs", "data", "toxic")
"""Parameters of commands that name data."""


def begun(names: Iterable[str], incomplete: str) -> list[str]:
    """Those that begin so, in their order."""
    return [name for name in names if name.startswith(incomplete)]


def presets(context: typer.Context, incomplete: str) -> list[str]:
    """Names of presets."""
    from saefilter.encode.presets import preset_names

    return begun(preset_names(), incomplete)


def metrics(context: typer.Context, incomplete: str) -> list[str]:
    """Names of metrics, those of other packages too."""
    from saefilter import plugins
    from saefilter.geometry.metrics import METRICS

    return begun([*METRICS, *plugins.plugin_names(plugins.METRICS)], incomplete)


def strategies(context: typer.Context, incomplete: str) -> list[str]:
    """Names of strategies, those of other packages too."""
    from saefilter.select.registry import strategy_names

    return begun(strategy_names(), incomplete)


def toxic_sets(context: typer.Context, incomplete: str) -> list[str]:
    """Shipped sets; what begins like none of them is a file, which the shell completes."""
    from saefilter.toxic.load import shipped_sets

    return begun(shipped_sets(), incomplete)


def readers(context: typer.Context, incomplete: str) -> list[str]:
    """Of --cascade."""
    from saefilter.encode.presets import preset_names

    return begun([*preset_names(), "layer:", "tokens:"], incomplete)


def columns(context: typer.Context, incomplete: str) -> list[str]:
    """Columns of the data that stand on the line."""
    return begun(_columns_of_data(context), incomplete)


def cut_by(context: typer.Context, incomplete: str) -> list[str]:
    """Of --by and --keep-balance: what every row has, and columns of the data."""
    return begun(["file", "length", *_columns_of_data(context)], incomplete)


def own_columns(context: typer.Context, incomplete: str) -> list[str]:
    """Of --columns: our names first, then behind `=` columns of the data."""
    from saefilter.columns import COLUMN_KEYS

    before, comma, last = incomplete.rpartition(",")
    ours, equals, theirs = last.partition("=")
    if not equals:
        return [f"{before}{comma}{name}=" for name in begun(COLUMN_KEYS, ours)]
    named = begun(_columns_of_data(context), theirs)
    return [f"{before}{comma}{ours}={name}" for name in named]


def _columns_of_data(context: typer.Context) -> list[str]:
    """Of the first rows of the first file that is named; nothing where there is none to look into."""
    from saefilter.rows.inputs import open_input

    try:
        given = [(context.params or {}).get(name) or [] for name in DATA]
        words = [one for value in given for one in ([value] if isinstance(value, str) else value)]
        # an option without its value keeps the words before it from being taken for arguments; and a hub or
        # a store is not asked while somebody types
        name = next((one for one in [*words, *context.args] if Path(one).is_file()), None)
        if name is None:
            return []
        names: dict[str, None] = {}
        for row in open_input(name).rows({0, 1, 2}):
            names |= dict.fromkeys(row.data or {})
        return list(names)
    except Exception:  # a shell that shows a traceback between two keys helps nobody
        return []


BY_NAME: dict[str, Completer] = {
    "preset": presets, "metric": metrics, "strategy": strategies, "toxic_set": toxic_sets,
    "cascade": readers, "columns": own_columns, "label": columns, "group": columns, "by": cut_by,
    "keep_balance": cut_by,
}  # fmt: skip


def completing(name: str, choices: tuple[str, ...] = ()) -> Completer | None:
    """What completes the value of an option; None where the shell does, with files."""

    def chosen(context: typer.Context, incomplete: str) -> list[str]:
        return begun(choices, incomplete)

    return chosen if choices else BY_NAME.get(name)
