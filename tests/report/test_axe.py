"""The pages under axe-core: names, contrast, order and keyboard, in both themes, on a desk and on a phone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chromium import Visit, running_browser  # noqa: F401 - a fixture
from example import example_report, hostile_report, sample
from test_compare_page import comparison  # noqa: F401 - a fixture
from test_explore_page import report as explored  # noqa: F401 - a fixture
from test_geometry_page import full_report

from saefilter.compare.data import Comparison
from saefilter.report.compare import compare_html
from saefilter.report.data import Closest, ThemeEvidence, ThemeTotal
from saefilter.report.geometry import geometry_html
from saefilter.report.html import to_html

pytestmark = pytest.mark.browser

SCREENS = [("light", 360), ("dark", 1200)]


def complaints(page: Any) -> list[str]:
    """What axe-core finds wrong with a page as it is shown now."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found]


def hold(browser: Any, path: Path) -> None:
    """No complaint about it, and nothing is wider than the screen, with everything opened."""
    for scheme, width in SCREENS:
        screen = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
        visit = Visit(browser, path, **screen)
        visit.unfold()
        for row in visit.page.locator(".room .entry").all()[:1]:
            row.click()  # what the explorer shows of one
        assert complaints(visit.page) == [], (scheme, width)
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width, scheme
        visit.page.close()


def test_the_report(browser: Any, tmp_path: Path) -> None:
    theme = ThemeEvidence("plays down a danger", 0.41, 0.15, ["stress", "poison"])
    like = Closest("It should be cosy.", "Charcoal inside?", "plays down a danger", 0.44)
    loss = {"value": "forum " * 9, "rows": 10, "dropped": 3, "times": 2.0, "warned": True,
            "first": 2, "quarantined": 0}  # fmt: skip
    told = example_report(
        dropped=[sample(0, themes=[theme], closest=like), *(sample(i) for i in range(1, 14))],
        themes=[ThemeTotal("plays down a danger", 0.3, 0.1)],
        per=[{"column": "source", "values": [loss]}],
    )
    for number, report in enumerate((told, hostile_report())):
        path = tmp_path / f"{number}.html"
        path.write_text(to_html(report), encoding="utf-8")
        hold(browser, path)


def test_the_report_with_its_explorer(browser: Any, explored: Path) -> None:  # noqa: F811
    hold(browser, explored)


def test_the_comparison(browser: Any, comparison: Comparison, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "compare.html"
    path.write_text(compare_html(comparison), encoding="utf-8")
    hold(browser, path)


def test_the_geometry(browser: Any, tmp_path: Path) -> None:
    one = full_report()
    two = replace(one, spaces=[*one.spaces, replace(one.spaces[0], preset="smollm2-135m")])
    for number, report in enumerate((one, two)):
        path = tmp_path / f"{number}.html"
        path.write_text(geometry_html(report), encoding="utf-8")
        hold(browser, path)


def test_all_is_reached_and_opened_by_keyboard(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(to_html(example_report()), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    reached: list[str] = []
    while len(reached) < 200 and reached[-1:] != ["BODY"]:
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.tagName")
        if name == "SUMMARY":
            page.keyboard.press("Enter")
        reached.append(name)
    assert page.locator("details[open]").count() == page.locator("details").count()
    assert "DIV" in reached  # a long text, which scrolls
