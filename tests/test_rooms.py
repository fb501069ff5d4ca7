"""The rooms of the package import one way, and stay rooms: docs/architecture.md has the map.

Read from the syntax trees: what a module imports when it is imported (run-time), what its functions
import when they are called (lazy), and what only a type checker sees (type-only).
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import saefilter

PACKAGE = Path(saefilter.__file__).parent
ORDER = (
    ("ground",), ("stats",), ("artifacts",), ("rows",), ("toxic",), ("encode",), ("geometry",),
    ("curate",), ("diagnose",), ("scoring",), ("select",), ("report",), ("filtering",),
    ("verify", "compare", "gate", "review"), ("front",),
)  # fmt: skip
"""From the ground up: a room imports only rooms before its own. `ground` is the modules that lie in no
room, `front` what users call: the command line and the Python API."""
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
FRONT = ("__init__", "__main__", "api", "cli", "results")

LAZY: set[str] = set()
"""Imports inside functions that go against the order, `module > module`."""
TYPE_ONLY = {
    "artifacts.scores > rows.read",
    "report.compare > compare.data",
    "report.compare_text > compare.data",
    "report.console_filter > filtering.job",
}
"""Imports for types alone that go against the order."""

MOST_MODULES = 280
"""That a module more was needed is to be decided, not to happen: raise it with what is new."""
MOST_LINES = 60
MOST_FOUND = 5


class Import(NamedTuple):
    """One module that another one imports."""

    kind: str
    """`run-time`, `lazy` or `type-only`."""
    module: str
    imported: str

    @property
    def backwards(self) -> bool:
        """Whether it goes against the order: to a later room, or to a neighbour on the same level."""
        here, there = room_of(self.module), room_of(self.imported)
        return here != there and LEVEL[there] >= LEVEL[here]

    def __str__(self) -> str:
        return f"{self.module} > {self.imported}".replace("saefilter.", "")


def module_files() -> dict[str, Path]:
    """Every module's name and file."""
    named = {}
    for path in PACKAGE.rglob("*.py"):
        parts = ["saefilter", *path.relative_to(PACKAGE).with_suffix("").parts]
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


FILES = module_files()


def room_of(module: str) -> str:
    """The folder that a module lies in, `ground` or `front`."""
    first = module.split(".")[1] if "." in module else "__init__"
    if first in FRONT:
        return "front"
    return first if (PACKAGE / first).is_dir() else "ground"


def imports_of(module: str) -> Iterator[Import]:
    """What a module imports of the package; `saefilter` itself only for its version."""

    def walk(node: ast.AST, kind: str) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("saefilter."):
                    yield Import(kind, module, alias.name)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "saefilter":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in FILES or alias.name != "__version__":
                    yield Import(kind, module, inner if inner in FILES else str(node.module))
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for child in node.body:
                yield from walk(child, "type-only")
            for child in node.orelse:
                yield from walk(child, kind)
        else:
            is_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            inside = "lazy" if is_function and kind == "run-time" else kind
            for child in ast.iter_child_nodes(node):
                yield from walk(child, inside)

    yield from walk(ast.parse(FILES[module].read_text(encoding="utf-8")), "run-time")


IMPORTS = [found for module in FILES for found in imports_of(module)]


def backwards(kind: str) -> set[str]:
    """The imports of a kind that go against the order."""
    return {str(one) for one in IMPORTS if one.kind == kind and one.backwards}


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Rooms that lead from one to the next and back to the first, if there are any."""
    done: set[str] = set()

    def search(room: str, path: list[str]) -> list[str]:
        if room in path:
            return [*path[path.index(room) :], room]
        if room in done:
            return []
        found = next(filter(None, (search(one, [*path, room]) for one in sorted(edges[room]))), [])
        done.add(room)
        return found

    return next(filter(None, (search(room, []) for room in sorted(edges))), [])


def test_every_folder_is_a_room_of_the_order() -> None:
    assert {room_of(module) for module in FILES} == set(LEVEL)


def test_no_two_rooms_import_each_other() -> None:
    edges: dict[str, set[str]] = defaultdict(set)
    for one in IMPORTS:
        here, there = room_of(one.module), room_of(one.imported)
        if one.kind == "run-time" and here != there:
            edges[here].add(there)
    assert circle(dict(edges) | {room: edges[room] for room in LEVEL}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_imports_go_from_the_front_to_the_ground() -> None:
    assert backwards("run-time") == set()


def test_exceptions_are_known() -> None:
    assert backwards("lazy") == LAZY
    assert backwards("type-only") == TYPE_ONLY


def test_scores_are_read_and_their_shards_planned_without_strategies_reports_and_torch() -> None:
    code = """
import sys
import saefilter.scoring.job, saefilter.scoring.workfolder, saefilter.artifacts.scores
others = ("saefilter.select", "saefilter.report", "torch")
loaded = [name for name in sys.modules if name in others or name.startswith(tuple(f"{one}." for one in others))]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_modules_stay_few() -> None:
    assert len(FILES) <= MOST_MODULES


def test_functions_stay_short() -> None:
    long = [
        f"{module}.{node.name}: {lines} lines"
        for module, path in FILES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (lines := node.end_lineno - node.lineno + 1) > MOST_LINES
        and not any(".command" in ast.unparse(one) for one in node.decorator_list)
    ]
    assert long == []


def test_names_can_be_searched_for() -> None:
    """`found` was the name of whatever a function found, in 129 of them."""
    named = [
        f"{module}.{node.name}"
        for module, path in FILES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and any(getattr(one, "id", getattr(one, "arg", "")) == "found" for one in ast.walk(node))
    ]
    assert len(named) <= MOST_FOUND, named
