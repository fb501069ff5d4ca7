"""Readers, metrics and strategies from other packages, by their entry points.

A package says in its pyproject.toml, for example:

    [project.entry-points."saefilter.readers"]
    avro = "my_package:read_avro"

Nothing of a package is imported until its entry is asked for by name. examples/plugin is a whole one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from traceback import extract_tb
from typing import Any

from saefilter.errors import SaefilterError, is_out_of_memory
from saefilter.text import one_line
from saefilter.watch import Interrupted

READERS = "saefilter.readers"
"""Name: a file's suffix without its dot. Object: `(path) -> iterable of rows`, each a dict; see
`rows/read.py`."""
METRICS = "saefilter.metrics"
"""Name: for --metric. Object: a `geometry.metrics.Metric`."""
STRATEGIES = "saefilter.strategies"
"""Name: for --strategy. Object: `(Candidates, Selection) -> row positions, first to drop first`; see
`select/strategies.py`."""


SAID_CHARACTERS = 300
"""Of what a plugin's exception says, which may be a page long."""
KINDS = {READERS: "reader", METRICS: "metric", STRATEGIES: "strategy"}
"""What a group's entries are called."""


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
        offers = ", ".join(sorted(map(_origin, entries)))
        raise SaefilterError(
            f"several packages offer the {KINDS[group]} {name!r} ({offers})",
            remedy="Uninstall one.",
        )
    with plugin_errors(group, name, "cannot be loaded"):
        return entries[0].load()


def plugin_error(
    group: str, name: str, problem: str, *, where: str | None = None, remedy: str | None = None
) -> SaefilterError:
    """An error of which a plugin is the cause: says which, of which package, by which entry point."""
    origin = ", ".join(sorted({_origin(entry) for entry in entry_points(group=group, name=name)}))
    return SaefilterError(
        f"the {KINDS[group]} {name!r} of {origin} {problem}",
        where=where,
        remedy=remedy or "Tell its authors, or update or uninstall that package.",
    )


@contextmanager
def plugin_errors(
    group: str, name: str, what: str | Callable[[], str] = "failed", *, where: str | None = None
) -> Iterator[None]:
    """What a plugin raises becomes an error that says so, in one line with the place in its code; errors of
    ours, which came up while it called us, stay as they are.

    Raises SaefilterError. `what` it did, in words or what gives them then; `where`: in which file.
    """
    try:
        yield
    except (Interrupted, KeyboardInterrupt, GeneratorExit):
        raise
    except SaefilterError as error:
        if not _raised_by_others(error):
            raise
        said, place = error.problem, error.where or where
        raise plugin_error(
            group, name, f"says: {said}", where=place, remedy=error.remedy
        ) from error
    except BaseException as error:  # a panic of Rust is no Exception
        if is_out_of_memory(error):
            raise  # the command line has better words for it
        said = one_line(f"{type(error).__name__}: {error}").removesuffix(":")[:SAID_CHARACTERS]
        done = what if isinstance(what, str) else what()
        raise plugin_error(
            group, name, f"{done} ({said}{_place_of(error)})", where=where
        ) from error


def _place_of(error: BaseException) -> str:
    """Where in the plugin's code: the outermost place that is not ours, as it may have called a library."""
    theirs = [one for one in extract_tb(error.__traceback__) if not _is_ours(one.filename)]
    return f", in {os.path.basename(theirs[0].filename)} line {theirs[0].lineno}" if theirs else ""


def _raised_by_others(error: BaseException) -> bool:
    frames = extract_tb(error.__traceback__)
    return bool(frames) and not _is_ours(frames[-1].filename)


def _is_ours(filename: str) -> bool:
    """Whether code is of this package, or of Python's imports."""
    own = os.path.dirname(__file__) + os.sep
    return filename.startswith((own, "<frozen")) or f"{os.sep}importlib{os.sep}" in filename


def _origin(entry: EntryPoint) -> str:
    """`others 1.0 (others:half)`"""
    made = entry.dist
    package = f"{made.name} {made.version}" if made is not None else "an unnamed package"
    return f"{package} ({entry.value})"
