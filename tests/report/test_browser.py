"""The report in a real browser: hostile rows run nothing and load nothing."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from example import example_report, hostile_report, sample

from saefilter.report.data import ThemeTotal
from saefilter.report.html import to_html

pytestmark = pytest.mark.browser

HOSTILE_ROW = "<script>alert(1)</script><img src=x onerror=alert(1)>"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chrome")
    assert chromium, "these tests were asked for and need Chromium: install it or set CHROMIUM"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield running
        running.close()


class Visit:
    """A page of the browser, with everything it did."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.page = browser.new_page(**context)
        self.dialogs: list[str] = []
        self.requests: list[str] = []
        self.problems: list[str] = []
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.goto(path.as_uri(), wait_until="load")
        for summary in self.page.locator("summary").all():
            summary.click()  # what is folded must be as harmless
        self.page.wait_for_timeout(200)

    def _dialog(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()


def written(path: Path, report: Any) -> Path:
    path.write_text(to_html(report), encoding="utf-8")
    return path


def test_hostile_rows_are_only_text(browser: Any, tmp_path: Path) -> None:
    report = example_report(
        dropped=[sample(0, text=HOSTILE_ROW)], borderline=[sample(1, text=HOSTILE_ROW)]
    )
    visit = Visit(browser, path := written(tmp_path / "report.html", report))
    assert visit.dialogs == []
    assert visit.requests == [path.as_uri()]
    assert visit.problems == []
    shown = visit.page.get_by_text(HOSTILE_ROW, exact=True)
    assert shown.count() == 4
    assert all(place.is_visible() for place in shown.all())
    assert visit.page.locator("script, img, iframe, link").count() == 0


def test_every_string_hostile(browser: Any, tmp_path: Path) -> None:
    visit = Visit(browser, path := written(tmp_path / "report.html", hostile_report()))
    assert (visit.dialogs, visit.problems) == ([], [])
    assert visit.requests == [path.as_uri()]


def test_policy_would_stop_what_escaping_missed(browser: Any, tmp_path: Path) -> None:
    """The second line of defence holds on its own."""
    path = written(tmp_path / "report.html", example_report())
    page = path.read_text(encoding="utf-8").replace("</main>", f"{HOSTILE_ROW}</main>")
    path.write_text(page, encoding="utf-8")
    visit = Visit(browser, path)
    assert visit.dialogs == []
    assert len(visit.problems) >= 2
    assert all("Content Security Policy" in problem for problem in visit.problems)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_style_applies_and_nothing_is_wider_than_the_screen(
    browser: Any, tmp_path: Path, scheme: str, width: int
) -> None:
    report = example_report(dropped=[sample(0, text="x" * 3000), *example_report().dropped])
    visit = Visit(
        browser,
        written(tmp_path / "report.html", report),
        viewport={"width": width, "height": 800},
        color_scheme=scheme,
    )
    script = "document.documentElement.scrollWidth"
    assert visit.page.evaluate(script) <= width
    background = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(244, 245, 247)", "dark": "rgb(17, 22, 28)"}[scheme]


@pytest.mark.parametrize("themes", [0, 12])
def test_paper_gets_a_summary_of_two_pages(browser: Any, tmp_path: Path, themes: int) -> None:
    """Of 40 rows with long texts; what the reader has opened is printed too."""
    dropped = [sample(i, truncated=i % 3 == 0) for i in range(40)]
    totals = [ThemeTotal(f"plays down danger number {i}", 0.3, 0.1) for i in range(themes)]
    made = {
        "versions": {f"package-{i}": "1.2.3" for i in range(12)},
        "scores_content_sha256": "0" * 64,
    }
    report = example_report(dropped=dropped, themes=totals, made_from=made)
    page = browser.new_page()
    page.goto(written(tmp_path / "report.html", report).as_uri())
    assert n_pages(page.pdf(format="A4")) == n_pages(page.pdf(format="Letter")) == 2
    page.emulate_media(media="print")
    assert not page.locator("article").last.is_visible()
    assert page.locator("table.paper").is_visible()
    page.emulate_media(media="screen")
    page.locator("summary").first.click()
    page.emulate_media(media="print")
    assert page.locator("details article").first.is_visible()


def n_pages(pdf: bytes) -> int:
    return len(re.findall(rb"/Type\s*/Page\b", pdf))
