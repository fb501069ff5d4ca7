"""Looking through the rows in a real browser: search, sort, filters, cut, decisions, and hostile rows."""

from __future__ import annotations

import json
import random
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromium
import numpy as np
import pyarrow.parquet as pq
import pytest
from chromium import running_browser  # noqa: F401 - a fixture
from conftest import chat
from example import hostile_report
from scored import write_scores

from saefilter.filtering.filter import filter_file
from saefilter.filtering.job import candidates_of
from saefilter.report.explore import Outcome, explorer_of
from saefilter.report.explore_page import DATA_ID
from saefilter.report.html import to_html
from saefilter.rows.read import Source
from saefilter.select.ranking import Ranked
from saefilter.select.strategies import Selection, choose

pytestmark = pytest.mark.browser

EVIL = (
    "</script><script>alert(1)</script><img src=x onerror=alert(1)><!-- <script> "
    "\u2028 \u202eevil \\u003c \" ' ` ${alert(1)} javascript:alert(1)"
)
N_ROWS, N_EQUAL, N_DROPPED = 400, 5, 40


def rows_of_every_kind() -> list[dict[str, Any]]:
    """400 rows and 5 more that equal the first; one is hostile wherever it can be."""
    draw = random.Random(3)
    rows = [
        {
            **chat(f"question {i}", f"answer {i} word " + "and more " * draw.randint(1, 60)),
            "origin": draw.choice(["forum", "books"]),
        }
        for i in range(N_ROWS)
    ]
    rows[7] = {**chat(EVIL, EVIL + " needle"), "origin": EVIL[:60]}
    rows[8] = {**chat("q", "a"), "origin": EVIL[:60]}
    return rows + rows[:1] * N_EQUAL


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report as `filter` writes it, of data with a hostile name."""
    folder = tmp_path_factory.mktemp("explored")
    data = folder / "it's <b>data.jsonl"
    rows = rows_of_every_kind()
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = Source.open(data)
    distances = [i / 1000 for i in range(N_ROWS)] + [0.0] * N_EQUAL
    scores = write_scores(source, folder / "s.scores.parquet", distances)
    filter_file(source, scores, folder / "out.jsonl", Selection(drop_count=N_DROPPED))
    return folder / "out.report.html"


class Visit(chromium.Visit):
    """The page, and what it shows."""

    def lines(self) -> list[str]:
        """The text of the rows that are elements, from the first in the table."""
        return [
            " ".join(text.split()) for text in self.page.locator(".room .entry").all_inner_texts()
        ]

    def status(self) -> str:
        return str(self.page.locator("#explorer .status").inner_text())

    def cut(self) -> str:
        return str(self.page.locator("#explore-cut-words").inner_text())

    def search(self, words: str) -> None:
        self.page.locator("#explore-search").fill(words)
        self.page.wait_for_timeout(250)

    def move_cut(self, place: int) -> None:
        self.page.locator("#explore-cut").evaluate(
            "(slider, place) => { slider.value = place; slider.dispatchEvent(new Event('input')); }",
            place,
        )

    def keys(self, *keys: str) -> None:
        self.page.locator(".table").focus()
        for key in keys:
            self.page.keyboard.press(key)


@pytest.fixture
def visit(browser: Any, report: Path) -> Iterator[Visit]:
    visited = Visit(browser, report)
    yield visited
    assert visited.wrong == []
    visited.page.context.close()


def test_only_rows_in_sight_are_elements(visit: Visit) -> None:
    assert visit.status() == "400 of 400 rows, equal ones as one"
    assert 10 < len(visit.lines()) < 80
    assert "goes ×6" in visit.lines()[0]
    visit.keys("s", "End")
    assert "answer 399" in visit.lines()[-1]
    assert "answer 399" in visit.page.locator(".opened .turns").inner_text()
    visit.page.locator("#explore-group").uncheck()
    assert visit.status() == "405 of 405 rows"


def test_search_filters_and_order(visit: Visit) -> None:
    page = visit.page
    visit.search('"ANSWER 123" word')
    assert (visit.status(), len(visit.lines())) == ("1 of 400 rows, equal ones as one", 1)
    page.get_by_role("button", name="Reset").click()
    page.wait_for_timeout(250)
    page.locator("#explore-state").select_option("stays")
    assert visit.status().startswith("365 of")
    assert "answer 35" in visit.lines()[0]  # 6 equal rows and 34 others went
    page.locator("#explore-near").fill("0.1")
    page.locator("#explore-far").fill("0.199")
    assert visit.status().startswith("100 of")
    page.get_by_role("button", name="Distance").click()
    assert "answer 199" in visit.lines()[0]
    assert (
        page.get_by_role("columnheader", name="Distance").get_attribute("aria-sort") == "descending"
    )
    page.locator("#explore-source").select_option(label="books")
    n_books = int(visit.status().split()[0])
    page.locator("#explore-source").select_option(label="forum")
    assert 0 < n_books < 100 == n_books + int(visit.status().split()[0])
    page.locator("#explore-short").fill("6")
    assert visit.status().startswith("0 of")
    visit.keys("s", "d", "Enter", "Home", "End", "?")  # nothing to open, and nothing breaks


def test_a_row_opens_to_its_text_and_evidence(visit: Visit) -> None:
    visit.search("line 13")
    visit.page.locator(".room .entry").first.click()
    opened = visit.page.locator(".opened")
    assert opened.locator("h3").inner_text() == "Line 13"
    assert opened.locator(".turn.scored mark").first.inner_text() == "word"
    assert opened.locator(".turn:not(.scored) mark").count() == 0
    assert "next to toxic feature “reckless” #7" in opened.locator(".evidence").inner_text()
    assert "dropped by this report" in opened.locator(".facts").inner_text()
    assert visit.page.locator(".room .entry[aria-selected=true]").count() == 1


def test_the_cut_counts_and_says_the_command_that_does_it(visit: Visit, tmp_path: Path) -> None:
    assert visit.cut().startswith("40 of 405 rows go (9.9%)")
    visit.move_cut(200)
    count = int(visit.cut().split()[0])
    assert count > N_DROPPED
    assert f"{count - N_DROPPED} more than in this report" in visit.cut()
    visit.page.locator("#explore-state").select_option("changed")
    assert visit.status().startswith(f"{count - N_DROPPED} of")
    command = visit.page.locator("#explore-command").inner_text()
    assert command.startswith(
        "saefilter filter 'it'\\''s <b>data.jsonl' --scores s.scores.parquet "
    )
    asked = float(command.partition("--min-distance=")[2].split()[0])
    assert command.endswith(" -o out.reviewed.jsonl")
    folder = visit.path.parent
    source = Source.open(folder / "it's <b>data.jsonl")
    scores = write_scores(
        source, tmp_path / "s.parquet", [i / 1000 for i in range(N_ROWS)] + [0.0] * N_EQUAL
    )
    filter_file(source, scores, tmp_path / "out.parquet", Selection(min_distance=asked))
    assert pq.read_metadata(tmp_path / "out.dropped.parquet").num_rows == count
    visit.page.get_by_role("button", name="As reported").click()
    assert visit.cut().startswith("40 of 405 rows go")


def test_decisions_are_made_by_keys_exported_and_taken_up(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    visit.keys("s", "k", "s", "d", "d", "u")
    visit.keys("b", "r")
    page.keyboard.type("an <i>odd</i> one")
    page.locator("#explore-reviewer").fill("Ada")
    assert (
        "With your decisions 34 go." in visit.cut()
    )  # 6 equal rows are spared; the others went anyway
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Export 3 decisions").click()
    assert waiting.value.suggested_filename == "it_s__b_data.decisions.json"
    waiting.value.save_as(path := tmp_path / "decisions.json")
    said = json.loads(path.read_text(encoding="utf-8"))
    scores = pq.read_table(visit.path.parent / "s.scores.parquet").to_pylist()
    assert (said["kind"], said["version"], said["reviewer"]) == ("saefilter decisions", 1, "Ada")
    assert said["input_sha256"] == Source.open(visit.path.parent / said["input"]).sha256()
    told = [
        (one.pop("row_hash"), one.pop("decision"), one.pop("reason")) for one in said["decisions"]
    ]
    hashes = [row["row_hash"] for row in scores]
    assert told == [
        (hashes[0], "keep", ""),
        (hashes[2], "drop", ""),
        (hashes[3], "drop", "an <i>odd</i> one"),
    ]
    assert all(one.keys() == {"line", "file", "at"} for one in said["decisions"])

    page.reload()
    assert "Taken up where you left off: 3 decided" in page.locator(".decisions").inner_text()
    other = page.context.browser.new_page()
    other.goto(visit.path.as_uri())
    assert other.get_by_role("button", name="Export 0 decisions").is_disabled()
    other.locator("#explore-load").set_input_files(path)
    other.get_by_role("button", name="Export 3 decisions").wait_for()
    path.write_text(json.dumps({**json.loads(path.read_text()), "input_sha256": "0" * 64}))
    other.locator("#explore-load").set_input_files(path)
    other.get_by_text("These decisions are about other data.").wait_for()
    other.context.close()


def test_a_reason_is_typed_right_after_a_decision_and_decides_nothing_itself(visit: Visit) -> None:
    visit.keys("s", "d", "r")  # d has led on to the next row
    visit.page.keyboard.type("scams and dud advice")
    visit.page.keyboard.press("Enter")
    assert visit.page.locator("#explore-reason").input_value() == "scams and dud advice"
    assert visit.page.get_by_role("button", name="Export 1 decision").is_enabled()
    visit.page.keyboard.press("s")  # from where it was
    assert "answer 1 " in visit.page.locator(".opened .turns").inner_text()


def test_what_is_loaded_is_checked_and_what_is_not_counted_is_said(
    visit: Visit, tmp_path: Path
) -> None:
    page, hashes = visit.page, pq.read_table(visit.path.parent / "s.scores.parquet")["row_hash"]
    sha256 = Source.open(visit.path.parent / "it's <b>data.jsonl").sha256()
    known = {"row_hash": hashes[9].as_py(), "line": 10, "decision": "keep"}
    head = {"kind": "saefilter decisions", "version": 1, "input_sha256": sha256, "reviewer": "Ada"}
    path = tmp_path / "d.json"

    def load(*decisions: Any, **changes: Any) -> str:
        path.write_text(json.dumps({**head, **changes, "decisions": decisions}), encoding="utf-8")
        page.locator("#explore-load").set_input_files(path)
        page.wait_for_timeout(150)
        return str(page.locator(".decisions [role=status]").inner_text())

    for wrong in (None, {**known, "row_hash": [known["row_hash"]]}, {**known, "decision": "Drop"}):
        assert load(known, wrong).startswith("The file is damaged")
    assert load(known, version=2) == "This is no decisions file of saefilter."
    assert page.get_by_role("button", name="Export 0 decisions").is_disabled()
    assert load(known, {**known, "row_hash": "0" * 16}) == "Loaded: 2 decided."
    assert "39 go, not counting 1 on rows that are not listed here." in visit.cut()
    assert page.locator("#explore-reviewer").input_value() == "Ada"


def test_equal_rows_that_are_not_in_the_page_are_told_and_counted(
    browser: Any, tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    rows = [chat(f"q{i % 30}", f"answer {i % 30}") for i in range(120)]  # each four times
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = Source.open(data)
    scores = write_scores(source, tmp_path / "s.parquet", [i % 30 / 100 for i in range(120)])
    filter_file(source, scores, tmp_path / "out.jsonl", Selection(drop_count=8), report_rows=40)
    filter_file(source, scores, tmp_path / "split.jsonl", Selection(drop_count=7))
    visit = Visit(browser, tmp_path / "split.report.html")
    assert visit.cut().startswith("7 of 120 rows go (5.8%), those dropped by this report. Rows as")
    assert visit.cut().endswith("by the command 8 go.")
    visit.move_cut(3)
    assert "12 of 120 rows go (10%), those closer than" in visit.cut()
    assert "by the command" not in visit.cut()
    visit.page.context.close()
    visit = Visit(browser, tmp_path / "out.report.html")
    assert "by the command" not in visit.cut()
    visit.keys("End", "d")
    told = visit.page.locator(".opened .body").inner_text()
    assert "not listed here" in told
    assert "×4" in visit.lines()[-1]
    assert "With your decisions 12 go." in visit.cut()
    assert visit.wrong == []
    visit.page.context.close()


def test_the_command_applies_the_decisions_and_the_next_report_has_them(
    browser: Any, visit: Visit
) -> None:
    visit.keys("s", "k", "End", "d")
    visit.page.locator("#explore-reviewer").fill("Ada")
    visit.move_cut(60)
    going = int(visit.cut().partition("With your decisions ")[2].split()[0])
    with visit.page.expect_download() as waiting:
        visit.page.get_by_role("button", name="Export 2 decisions").click()
    folder = visit.path.parent
    waiting.value.save_as(folder / waiting.value.suggested_filename)
    command = shlex.split(visit.page.locator("#explore-command").inner_text())
    ran = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr

    with (folder / "out.reviewed.dropped.jsonl").open(encoding="utf-8") as file:
        dropped = list(file)
    assert len(dropped) == going
    assert json.loads(dropped[-1])["saefilter_reason"] == "dropped in review by Ada"
    assert not any("answer 0 word" in row for row in dropped)
    after = Visit(browser, folder / "out.reviewed.report.html")
    assert f"With your decisions {going:,} go." in after.cut()
    assert after.page.locator("#explore-reviewer").input_value() == "Ada"
    after.keys("s", "u")  # without a decision the cut holds: 6 equal rows
    assert f"With your decisions {going + 6:,} go." in after.cut()
    after.page.reload()
    assert f"With your decisions {going + 6:,} go." in after.cut()
    assert after.wrong == []
    after.page.context.close()


def test_hostile_rows_are_only_text(visit: Visit) -> None:
    visit.search("needle")
    visit.keys("s")
    opened = visit.page.locator(".opened")
    assert opened.locator(".turn").count() == 2
    assert "</script><script>alert(1)</script><img src=x" in opened.inner_text()
    assert "[U+202E]evil \\u003c" in opened.inner_text()
    assert visit.page.locator("#explore-source option", has_text="</script>").count() == 1
    assert visit.page.locator("img, iframe, link, #explorer script").count() == 0


def test_every_string_is_hostile(browser: Any, tmp_path: Path) -> None:
    """Whatever the page is given, as text, as a name, as a word to look for: it is text."""
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(chat(f"q{i}", EVIL)) + "\n" for i in range(9)))
    source = Source.open(data)
    scores = write_scores(source, tmp_path / "s.parquet")
    ranked = Ranked(
        choose(candidates_of(source, scores), Selection(drop_count=2)).ranking,
        candidates_of(source, scores),
    )
    kept = np.arange(9) > 2
    explorer = explorer_of(
        source, scores, ranked, kept=kept, dropped=~kept, outcome=Outcome(EVIL, EVIL),
        distance=scores.column("distance"), percentile=scores.column("percentile"),
    )  # fmt: skip
    assert explorer is not None
    words = [EVIL, "evil", *"\\^$.*+?()[]{}|/-", "a-b", ""]
    for detail in explorer.details:
        detail |= {
            "words": words,
            "themes": [[0, 0.5, 0.1, words]],
            "closest": [0, 0.3],
            "reason": 0,
        }
    explorer.names.update(
        themes=[EVIL],
        examples=[[EVIL, EVIL, EVIL]],
        reasons=[EVIL],
        features=[[1, EVIL, 2, EVIL, 0.5]],
    )
    explorer.about.update(input=EVIL, scores=EVIL, by=EVIL, reference=EVIL, reviewer=EVIL)
    path = tmp_path / "report.html"
    path.write_text(to_html(hostile_report(), explorer), encoding="utf-8")
    visit = Visit(browser, path)
    visit.keys("s", "d", "s")
    visit.page.locator("#explorer .evidence summary").click()
    opened = visit.page.locator(".opened")
    assert opened.locator("mark", has_text="evil").count() >= 1
    assert "Closest to" in opened.inner_text()
    assert visit.page.locator("#explorer").locator("img, script, b b").count() == 0
    assert visit.wrong == []
    visit.page.context.close()


def test_without_script_the_page_is_as_before(browser: Any, report: Path) -> None:
    visit = Visit(browser, report, java_script_enabled=False)
    assert not visit.page.locator("#explore").is_visible()
    assert visit.page.locator("#dropped article").count() == N_DROPPED
    visit.page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_nothing_is_wider_than_the_screen(
    browser: Any, report: Path, scheme: str, width: int
) -> None:
    visit = Visit(browser, report, viewport={"width": width, "height": 800}, color_scheme=scheme)
    visit.keys("s")
    visit.page.locator(".map summary").click()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    text = visit.page.locator(".room .said").first.bounding_box()
    assert text["width"] > 150
    visit.page.context.close()


def test_another_script_does_not_run(browser: Any, report: Path, tmp_path: Path) -> None:
    """The policy allows the script that is ours, to the letter, and the data cannot end their block."""
    page = report.read_text(encoding="utf-8")
    assert page.count(f'id="{DATA_ID}"') == 1
    assert page.count("<script") == page.count("</script>") == 2
    changed = tmp_path / "changed.html"
    changed.write_text(page.replace('"use strict";', '"use strict"; '), encoding="utf-8")
    visit = Visit(browser, changed)
    assert not visit.page.locator("#explore").is_visible()
    assert len(visit.wrong) == 1
    assert "Content Security Policy" in visit.wrong[0]
    visit.page.context.close()


@pytest.mark.slow
def test_the_fullest_page_is_soon_there(browser: Any, tmp_path: Path) -> None:
    """5,000 long rows of 6,000: below 10 MB, painted within a second, and every answer within another."""
    rows = [chat(f"question {i}", f"answer {i} " + "and so on " * 400) for i in range(6000)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = Source.open(data)
    scores = write_scores(source, tmp_path / "s.parquet", [i / 6000 for i in range(6000)])
    filter_file(source, scores, tmp_path / "out.jsonl", Selection(drop_frac=0.1))
    path = tmp_path / "out.report.html"
    assert 8e6 < path.stat().st_size < 10e6
    visit = Visit(browser, path)
    assert visit.status() == "5,000 of 5,000 rows"
    paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    assert visit.page.evaluate(paint) < 1000
    hint = visit.page.locator("#explorer .hint").first.inner_text()
    assert "the nearest 4,000, and 1,000 drawn at random" in hint
    visit.page.set_default_timeout(1000)
    visit.search('"answer 3999 "')
    visit.page.get_by_text("1 of 5,000 rows").wait_for()
    visit.page.get_by_role("button", name="Reset").click()
    visit.page.get_by_text("5,000 of 5,000 rows").wait_for()
    visit.move_cut(900)
    assert visit.cut().startswith("5,400 of 6,000 rows go (90%)")
    assert visit.wrong == []
    visit.page.context.close()
