from __future__ import annotations

import re

import pytest
from example import HOSTILE, empty_report, example_report, hostile_report, sample
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from saefilter.report.data import Closest, FeatureTotal, ThemeEvidence, ThemeTotal
from saefilter.report.markdown import code, prose, to_markdown
from saefilter.rows.excerpts import Turn

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HARMLESS = {"text", "code_inline", "softbreak", "strong_open", "strong_close"}
MENTION = re.compile(r"[@#]\w")
"""What GitHub looks for in the text that is left after Markdown is done, code excepted."""
ADDRESS = re.compile(r"https?://|www\.|mailto:", re.IGNORECASE)


def inline(markdown: str) -> list[Token]:
    """Everything inside the blocks."""
    return [child for token in PARSER.parse(markdown) for child in token.children or []]


def blocks(markdown: str) -> set[str]:
    return {token.type for token in PARSER.parse(markdown)}


def check_harmless(markdown: str) -> None:
    found = inline(markdown)
    assert {token.type for token in found} <= HARMLESS
    assert not [t.content for t in found if t.type == "text" and MENTION.search(t.content)]
    assert "html_block" not in blocks(markdown)


def test_says_what_happened() -> None:
    text = to_markdown(example_report())
    check_harmless(text)
    for part in (
        "## Dropped 200 of the 2,000 rows in `support-chats.jsonl`\n",
        "| Kept | 89% of all rows | 1,788 |",
        "| 99% | 167 | 8.4% | 1% |",
        "1. **line 5**, distance 0.231, closer than every harmless reference sample: `Chest pain",
        "`harm, poison, overdose` (811) | 0.71 | 62% | 3.1% |",
        "99.3% of what adds to the scores is of the toxic set's own features, 0.62% of features",
        "- 7 rows: not JSON",
        "- Toxic set: `minilm`",
    ):
        assert part in text, part
    assert text.count("**line ") == 10
    assert text.count("> **Note:**") == 2


def test_says_why_by_theme_and_example_and_they_make_nothing_of_their_own() -> None:
    theme = ThemeEvidence("plays down a danger", 0.41, 0.15, ["stress", HOSTILE])
    view = sample(0, themes=[theme], closest=Closest(HOSTILE, "Charcoal inside?", "x", 0.4))
    weak = sample(1, closest=Closest("Cosy.", "", "x", 0.4))
    totals = [ThemeTotal(f"a {HOSTILE}", 0.3, 0.1)]
    text = to_markdown(example_report(dropped=[view, weak], themes=totals))
    check_harmless(text)
    for part in (
        "Why: `plays down a danger, 41% of its toxic signs (15% in harmless rows): stress, <scr",
        "Closest to: ``Charcoal inside? → <scr",
        "Why: `No theme stands out.`",
        "Closest to: `Cosy.`",
        "### Themes of the dropped rows",
        "| 30% | 10% |",
    ):
        assert part in text, part


def test_hostile_report_makes_nothing_of_its_own() -> None:
    text = to_markdown(hostile_report())
    check_harmless(text)
    assert blocks(text) == blocks(to_markdown(example_report()))
    tables = [token for token in PARSER.parse(text) if token.type == "table_open"]
    assert len(tables) == 3
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    shown = [token.content for token in inline(text) if token.type == "code_inline"]
    assert any("<script>alert(1)</script><img src=x onerror=alert(1)>" in code for code in shown)


@pytest.mark.parametrize(
    "text",
    [
        HOSTILE,
        "a | b\n--|--\nc | d",
        "```\nfence\n```",
        "`code` ``two``",
        "\\`",
        "# heading @user #12 owner/repo#3",
        "1. list\n- item\n> quote",
        "[link](https://x.test) ![image](x.png) <https://x.test> https://x.test www.x.test",
        "~~gone~~ **bold** _it_ $x$ &lt; <b>",
        "",
        "   ",
    ],
)
def test_injections_are_text(text: str) -> None:
    view = sample(0, turns=[Turn("assistant", text, True)])
    total = FeatureTotal(1, text, 2, text, 0.5, 0.5, 0.5)
    report = example_report(
        input=text, dropped=[view], features=[total], notes=[text], quarantine_reasons={text: 1}
    )
    markdown = to_markdown(report)
    check_harmless(markdown)
    assert blocks(markdown) == blocks(to_markdown(example_report()))
    rows = [token for token in PARSER.parse(markdown) if token.type == "tr_open"]
    assert len(rows) == 7 + 4 + 2
    source = re.sub(r"(`+) ?.*? ?\1(?!`)", "", markdown)  # outside of code
    assert not ADDRESS.search(source)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_code_shows_any_text_on_one_line(text: str) -> None:
    shown = code(text)
    assert "\n" not in shown
    assert "|" not in shown
    tokens = inline(f"1. x: {shown}")
    expected = ["text"] if shown == "(empty)" else ["text", "code_inline"]
    assert [token.type for token in tokens] == expected


@given(st.text("ab1.-+=#@`*_[]()<>!|~&$\\:/w \n\x1b\u202e"))
def test_prose_is_only_ever_text(text: str) -> None:
    shown = prose(text)
    check_harmless(f"> **Note:** {shown}")
    check_harmless(f"- {shown}")
    seen = "".join(token.content for token in inline(f"- x{shown}"))
    assert seen.rstrip().count("*") == text.count("*")


def test_long_text_is_cut() -> None:
    markdown = to_markdown(example_report(dropped=[sample(0, text="word " * 500)]))
    assert max(map(len, markdown.splitlines())) < 400
    assert "…`" in markdown


def test_empty_report() -> None:
    markdown = to_markdown(empty_report())
    assert markdown.startswith("## No rows in `support-chats.jsonl`\n")
    assert "### Closest" not in markdown
    assert "### Features" not in markdown
    assert "### Quarantined" not in markdown
    assert "### How this was made" in markdown
