"""The report in a real browser: hostile rows run nothing and load nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from chromium import Visit, running_browser  # noqa: F401 - a fixture
from example import example_report, hostile_report, sample

from saefilter.report.data import ThemeTotal
from saefilter.report.html import to_html

pytestmark = pytest.mark.browser

HOSTILE_ROW = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def opened(browser: Any, path: Path, **context: Any) -> Visit:
    """With everything unfolded."""
    visit = Visit(browser, path, **context)
    visit.unfold()
    return visit


def written(path: Path, report: Any) -> Path:
    path.write_text(to_html(report), encoding="utf-8")
    return path


def test_hostile_rows_are_only_text(browser: Any, tmp_path: Path) -> None:
    report = example_report(
        dropped=[sample(0, text=HOSTILE_ROW)], borderline=[sample(1, text=HOSTILE_ROW)]
    )
    visit = opened(browser, path := written(tmp_path / "report.html", report))
    assert visit.dialogs == []
    assert visit.requests == [path.as_uri()]
    assert visit.problems == []
    shown = visit.page.get_by_text(HOSTILE_ROW, exact=True)
    assert shown.count() == 4
    assert all(place.is_visible() for place in shown.all())
    assert visit.page.locator("script, img, iframe, link").count() == 0


def test_every_string_hostile(browser: Any, tmp_path: Path) -> None:
    visit = opened(browser, path := written(tmp_path / "report.html", hostile_report()))
    assert (visit.dialogs, visit.problems) == ([], [])
    assert visit.requests == [path.as_uri()]


def test_policy_would_stop_what_escaping_missed(browser: Any, tmp_path: Path) -> None:
    """The second line of defence holds on its own."""
    path = written(tmp_path / "report.html", example_report())
    page = path.read_text(encoding="utf-8").replace("</main>", f"{HOSTILE_ROW}</main>")
    path.write_text(page, encoding="utf-8")
    visit = opened(browser, path)
    assert visit.dialogs == []
    assert len(visit.problems) >= 2
    assert all("Content Security Policy" in problem for problem in visit.problems)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_style_applies_and_nothing_is_wider_than_the_screen(
    browser: Any, tmp_path: Path, scheme: str, width: int
) -> None:
    report = example_report(dropped=[sample(0, text="x" * 3000), *example_report().dropped])
    visit = opened(
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
