"""The faces of a comparison: well-formed, self-contained, and deaf to what rows say."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chromium import Visit, running_browser  # noqa: F401 - a fixture
from conftest import chat
from example import HOSTILE
from scored import write_scores
from test_html import ATTRIBUTES, TAGS, Page

from saefilter.compare.compare import compare
from saefilter.compare.data import Comparison
from saefilter.report.compare import compare_html
from saefilter.report.compare_text import compare_markdown, print_comparison
from saefilter.report.console import SafeConsole
from saefilter.report.fragments import style_sheet
from saefilter.rows.read import Source
from saefilter.select.registry import StrategyOptions

OWN_TAGS = {*TAGS.split(), "polyline"}
OWN_ATTRIBUTES = {
    *ATTRIBUTES.split(), "points", "vector-effect", "viewbox", "preserveaspectratio", "title",
    "colspan", "rowspan",
}  # fmt: skip


@pytest.fixture(params=[True, False], ids=["labelled", "unlabelled"])
def comparison(
    request: pytest.FixtureRequest, tmp_path: Path, jsonl: Callable[..., Path]
) -> Comparison:
    """Hostile rows under hostile names."""
    rows = [{**chat(HOSTILE, f"{HOSTILE} {i}"), "bad": i % 2} for i in range(20)]
    source = Source.open(jsonl(rows))
    distances = [i / 20 for i in range(20)]
    scores = [
        write_scores(source, tmp_path / "a.parquet", distances, note=HOSTILE, preset=HOSTILE),
        write_scores(source, tmp_path / "b.parquet", distances[::-1], metric=HOSTILE),
    ]
    options = StrategyOptions(label="bad" if request.param else None)
    return compare(source, scores, ["closest", "random"], options)


def test_the_page_is_ours_and_loads_nothing(comparison: Comparison) -> None:
    text = compare_html(comparison)
    page = Page(text)  # fails on tags that do not match
    assert set(page.tags) <= OWN_TAGS
    assert page.attributes <= OWN_ATTRIBUTES
    assert page.references <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)
    digest = base64.b64encode(hashlib.sha256(style_sheet().encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in page.meta["Content-Security-Policy"]
    lines = 3 * 2 if comparison.base_rate is not None else 2
    assert page.tags["polyline"] == lines
    for points in re.findall(r'points="([^"]*)"', text):
        for point in points.split():
            x, y = map(float, point.split(","))
            assert -1e-9 <= x <= 1000
            assert -1e-9 <= y <= 1000


def test_rows_stay_text_in_markdown_json_and_on_the_console(comparison: Comparison) -> None:
    markdown = compare_markdown(comparison)
    outside = re.sub(r"(`+).*?\1", "", markdown)
    assert not re.search(r"(?<!\\)<(script|img|/style)", outside)
    assert "\x1b" not in markdown
    found = json.loads(comparison.to_json())
    assert len(found["arms"]) == 3
    assert "\x1b" not in comparison.to_json()
    console = SafeConsole(file=io.StringIO(), width=200)
    print_comparison(console, comparison)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in shown
    assert "3 strategies side by side on data.jsonl" in shown
    assert ("AUROC" in shown) == (comparison.base_rate is not None)


def test_the_table_says_the_figures(comparison: Comparison) -> None:
    page = Page(compare_html(comparison))
    cells = page.texts["td"]
    if comparison.base_rate is None:
        assert "AUROC" not in " ".join(page.texts["th"])
        return
    assert "AUROC" in page.texts["th"]
    first = comparison.arms[0]
    assert any(cell.startswith(f"{first.auroc:.3f} (") for cell in cells)
    assert "precision of dropping at random" in " ".join(page.texts["p"])


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 1200])
def test_a_browser_shows_it_without_a_request_or_a_complaint(
    browser: Any,
    comparison: Comparison,
    tmp_path: Path,
    width: int,
) -> None:
    path = tmp_path / "compare.html"
    path.write_text(compare_html(comparison), encoding="utf-8")
    visit = Visit(browser, path, viewport={"width": width, "height": 800})
    visit.unfold()
    assert (visit.dialogs, visit.problems) == ([], [])
    assert visit.requests == [path.as_uri()]
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    drawn = visit.page.locator("polyline").first.evaluate(
        "one => one.getBoundingClientRect().width"
    )
    assert drawn > width / 3
