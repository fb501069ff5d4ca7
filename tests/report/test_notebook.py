"""What a notebook shows of scores, of filtered rows and of a verdict."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from conftest import chat
from scored import ROWS, write_scores

import saefilter
from saefilter import Filtered, Scores
from saefilter.gate.verdict import RuleVerdict, Verdict, WorstRow
from saefilter.rows.held import hold
from saefilter.rows.read import Source

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}\u202egnp\x1b[31m & \"'"


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def scores(tmp_path: Path) -> Scores:
    """Of a frame; row 7 is the closest and hostile, row 3 cannot be read."""
    rows = [*ROWS[:20]]
    rows[7] = chat(HOSTILE, HOSTILE)
    rows[3] = {"messages": []}
    held = hold(pd.DataFrame(rows), tmp_path)
    distances = [0.5 + i / 100 for i in range(20)]
    distances[7] = 0.01
    write_scores(held.source, tmp_path / "s.parquet", distances, train_on="answers")
    return Scores.open(tmp_path / "s.parquet")


def test_scores_show_where_rows_lie_and_what_the_closest_say(scores: Scores) -> None:
    assert repr(scores) == "Scores(20 rows: 19 scored, 1 quarantined; minilm, metric contrast)"
    shown = scores._repr_html_()
    assert shown is not None
    seen = Tags(shown)
    assert seen.tags <= {
        "div", "p", "b", "bdi", "svg", "g", "title", "rect", "line", "text", "table", "caption",
        "thead", "tbody", "tr", "th", "td",
    }  # fmt: skip
    assert not {
        name for name in seen.attributes if name.startswith("on") or name in ("src", "href")
    }
    assert (
        "alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}[U+202E]gnp[31m & \"'" in seen.text
    )
    bars = re.findall(r"<title>[\d.]+ to [\d.]+: (\d+) row", shown)
    assert (bars[0], sum(map(int, bars))) == ("1", 19)
    rows = re.findall(r"<tr><td[^>]*><bdi>(\d+)</bdi></td><td[^>]*><bdi>([\d.]+)", shown)
    assert rows[:3] == [("7", "0.010"), ("0", "0.500"), ("1", "0.510")]
    assert len(rows) == 10
    assert "question 1\n→ answer 1" in seen.text


def test_a_file_that_is_gone_leaves_the_words(scores: Scores) -> None:
    scores.file.unlink()
    assert scores._repr_html_() is None
    assert repr(scores).startswith("Scores(20 rows")


def test_filtered_rows_show_the_dropped_among_the_others(scores: Scores) -> None:
    kept = [i for i in range(20) if i not in (3, 7, 19)]
    result = Filtered(pd.DataFrame(ROWS[:17]), None, kept, [7, 19], {3: "no text: 1"}, scores)
    assert repr(result) == "Filtered(17 kept, 2 dropped, 1 quarantined; each a DataFrame)"
    shown = result._repr_html_()
    assert shown is not None
    assert "17 rows kept, 2 dropped, 1 quarantined" in shown
    assert "Quarantined, no text: 1 row" in shown
    assert re.findall(r"<tr><td[^>]*><bdi>(\d+)</bdi>", shown) == ["7", "19"]
    assert "of them dropped" in shown


def test_a_verdict_says_pass_or_fail_first() -> None:
    worst = WorstRow(4, "0", "<b>d</b>.jsonl", 5, True, 0.9, 99.5, themes=("risk <i>",))
    rules = (
        RuleVerdict("max-flagged", 7.5, 5, "%", False, "3 of 40 rows", 3, (worst,)),
        RuleVerdict("min-scored", 100, 95, "%", True, "40 of 40 rows"),
    )
    verdict = Verdict("d", 40, 40, 0, "minilm", "m", "t", "contrast", "p", rules, ("a <note>",))
    assert repr(verdict) == "Verdict(FAIL: max-flagged 7.5% > 5%)"
    shown = verdict._repr_html_()
    assert shown.index("FAIL: 40 of 40 rows scored") < shown.index("7.5% &gt; 5%")
    assert "&lt;b&gt;d&lt;/b&gt;.jsonl:5" in shown
    assert "risk &lt;i&gt;" in shown
    assert "a &lt;note&gt;" in shown


def test_a_named_file_is_read_again_unless_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": "one two"}\n{"text": "three"}\n')
    write_scores(Source.open(path), tmp_path / "s.parquet")
    shown = Scores.open(tmp_path / "s.parquet")._repr_html_() or ""
    assert ("one two" in shown, "three" in shown) == (True, True)
    path.write_text('{"text": "one two"}\n{"text": "secret"}\n')
    shown = Scores.open(tmp_path / "s.parquet")._repr_html_() or ""
    assert ("one two" in shown, "secret" in shown) == (True, False)
    assert saefilter.Scores is Scores
