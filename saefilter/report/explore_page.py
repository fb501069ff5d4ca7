"""What the report's page holds for looking through its rows: an empty section that only the script fills and shows,
and the script itself, which is put together from the files beside this one."""

from __future__ import annotations

import functools

from saefilter.report.fragments import own_text

DATA_ID = "explore-data"
ROOT_ID = "explorer"
"""Of the element that the script fills; it lies in a section that is hidden where no script runs."""
PARTS = ("model", "dom", "table", "row", "cut", "map")
"""In the order in which they need each other."""


@functools.cache
def explore_script() -> str:
    """The script as it is inlined: one function that leaves no names behind."""
    names = [*(f"explore_{part}.js" for part in PARTS), "explore.js"]
    parts = "\n".join(map(own_text, names))
    return f'(() => {{\n"use strict";\n{parts}\n}})();\n'
