"""What the report's page holds for looking through its rows: an empty section that only the script fills and shows,
and the script itself, which is put together from the files beside this one."""

from __future__ import annotations

import functools

from saefilter.report.explore import Explorer
from saefilter.report.fragments import own_text, section

DATA_ID = "explore-data"
PARTS = ("model", "dom", "table", "row", "cut", "map")
"""In the order in which they need each other."""


def explore_section(explorer: Explorer | None) -> str:
    """The section, hidden where no script runs; nothing without an explorer."""
    if explorer is None:
        return ""
    return section("explore", "Look through the rows", '<div id="explorer"></div>\n').replace(
        "<section ", "<section hidden ", 1
    )


@functools.cache
def explore_script() -> str:
    """The script as it is inlined: one function that leaves no names behind."""
    names = [*(f"explore_{part}.js" for part in PARTS), "explore.js"]
    parts = "\n".join(map(own_text, names))
    return f'(() => {{\n"use strict";\n{parts}\n}})();\n'
