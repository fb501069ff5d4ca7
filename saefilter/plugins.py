"""Readers, metrics and strategies from other packages, by their entry points.

A package says in its pyproject.toml, for example:

    [project.entry-points."saefilter.readers"]
    avro = "my_package:read_avro"

Nothing of a package is imported until its entry is asked for by name.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from saefilter.errors import SaefilterError

READERS = "saefilter.readers"
"""Name: a file's suffix without its dot. Object: `(path) -> iterable of rows`, each a dict; see
`rows/read.py`."""
METRICS = "saefilter.metrics"
"""Name: for --metric. Object: a `geometry.metrics.Metric`."""
STRATEGIES = "saefilter.strategies"
"""Name: for --strategy. Object: `(Candidates, Selection) -> row positions, first to drop first`; see
`select/strategies.py`."""


@cache
def plugin_names(group: str) -> list[str]:
    """Names of the installed entries of a group."""
    return sorted({entry.name for entry in entry_points(group=group)})


def load_plugin(group: str, name: str) -> Any:
    """The object of an entry; None where there is none of that name.

    Raises SaefilterError when it cannot be imported, or two packages offer the same name.
    """
    entries = list(entry_points(group=group, name=name))
    if not entries:
        return None
    if len({entry.value for entry in entries}) > 1:
        offers = ", ".join(sorted(entry.value for entry in entries))
        raise SaefilterError(
            f"several packages offer {name!r} for {group} ({offers})", remedy="Uninstall one."
        )
    try:
        return entries[0].load()
    except Exception as error:  # whatever the package does when it is imported
        raise SaefilterError(
            f"the plugin {entries[0].value} cannot be loaded ({type(error).__name__}: {error})",
            remedy="Update or uninstall the package that it belongs to.",
        ) from error
