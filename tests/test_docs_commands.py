"""Every command on every page: the command line takes it, and what can be run here does what is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documented import (
    BLOCK,
    PAGES,
    ROOT,
    TYPED,
    command_of,
    mentioned_in,
    missing_lines,
    parsed,
    prepare,
    run,
    shown_in,
)

from saefilter.encode.presets import preset_names

RUN = [page for page in PAGES if any(one.why_not is None for one in shown_in(page))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_command_line_takes_what_a_page_shows(page: Path) -> None:
    for one in shown_in(page):
        try:
            values = parsed(one.words)
        except Exception as error:
            pytest.fail(f"{one.where}\n{error}")
        for preset in [values.get("preset")] if isinstance(values.get("preset"), str) else []:
            assert preset in preset_names(), one.where


def test_no_command_hides_from_these_tests() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        hidden = re.findall(r"^(?: {4,}|\t)(?:\$ )?saefilter .*", re.sub(BLOCK, "", text), re.M)
        for block in BLOCK.finditer(text):
            if block["language"].strip() not in (*TYPED, "text", "python"):
                hidden += re.findall(r"^(?:\$ )?saefilter .*", block["body"], re.M)
        assert not hidden, (page.name, hidden, "put commands into a fenced block")


def test_what_sentences_say_of_a_command_is_there() -> None:
    for page in PAGES:
        for words in mentioned_in(page):
            command, left = command_of(words)
            known = {name for parameter in command.params for name in parameter.opts}
            named = {re.sub(r"=.*|[,.)]+$", "", word) for word in left if word.startswith("--")}
            assert named - {"--help", "--version"} <= known, (page.name, words)
            if getattr(command, "commands", None) and left and left[0][0].islower():
                pytest.fail(f"{page.name}: no such command: {' '.join(words)}")


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    prepare(tmp_path)
    for one in shown_in(page):
        if one.why_not is None:
            said = run(one, tmp_path)
            assert not missing_lines(one.shown, said), f"{one.where}\n{said}"
