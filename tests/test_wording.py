"""Sentences that readers stumbled over stay gone, from the code and from the documents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXTS = [
    path
    for folder in ("saefilter", "docs", "examples", "benchmarks")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".js", ".html", ".md")
] + [ROOT / "README.md"]


@pytest.mark.parametrize(
    "stumbled_over",
    [
        r"itself in the toxic set",
        r"beyond 95(\.0)?%, .* beyond 99",
        r"if (the data|they) were like the reference",
        r"as many or\W+more (would be|come) in harmless data",
        r"of the reference samples, only",
        r"of them weighted",
        r"Name an artifact of saefilter",
    ],
)
def test_no_reader_stumbles_over_it_again(stumbled_over: str) -> None:
    found = [
        path.relative_to(ROOT)
        for path in TEXTS
        if re.search(stumbled_over, re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8")))
    ]
    assert not found
