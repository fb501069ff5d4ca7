from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources

import pytest
from example import HOSTILE, empty_report, example_report, hostile_report, sample
from hypothesis import given, settings
from hypothesis import strategies as st

from saefilter.report.charts import histogram, ticks
from saefilter.report.data import (
    Closest,
    FeatureEvidence,
    Histogram,
    Report,
    ThemeEvidence,
    ThemeTotal,
)
from saefilter.report.fragments import style_sheet
from saefilter.report.html import to_html
from saefilter.rows.excerpts import Turn
from saefilter.text import clean, percent, percentile_words

VOID = {"meta", "wbr"}
TAGS = (
    "html head meta title style body main header p h1 h2 h3 bdi aside ul li dl dt dd div section "
    "figure svg desc g rect line text table caption thead tbody tr th td article span b mark "
    "details summary wbr"
)
ATTRIBUTES = (
    "lang charset http-equiv content name class id aria-labelledby aria-label aria-hidden role "
    "tabindex width height x y dx rx x1 x2 y1 y2 text-anchor scope"
)
EVERY_REPORT = [example_report, hostile_report, empty_report]


class Page(HTMLParser):
    """A parsed page. Fails on tags that do not match."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.references: set[str] = set()
        self.meta: dict[str, str] = {}
        self.texts: dict[str, list[str]] = {}
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags[tag] += 1
        self.attributes |= found.keys()
        self.ids += [found["id"]] if "id" in found else []
        self.references |= set(found.get("aria-labelledby", "").split())
        if tag == "meta":
            self.meta[found.get("http-equiv") or found.get("name", "")] = found.get("content", "")
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.texts[tag][-1] += data

    def handle_comment(self, data: str) -> None:
        pytest.fail(f"a comment: {data}")


@pytest.mark.parametrize("make", EVERY_REPORT)
def test_only_our_tags_and_attributes(make: Callable[[], Report]) -> None:
    page = Page(to_html(make()))
    assert page.tags.keys() <= set(TAGS.split())
    assert page.attributes <= set(ATTRIBUTES.split())  # no style=, no on...=, no href=, no src=
    assert len(page.ids) == len(set(page.ids))
    assert page.references <= set(page.ids)


@pytest.mark.parametrize("make", EVERY_REPORT)
def test_policy_allows_the_inlined_style_and_nothing_else(make: Callable[[], Report]) -> None:
    page = Page(to_html(make()))
    digest = base64.b64encode(hashlib.sha256(page.texts["style"][0].encode()).digest()).decode()
    policy = page.meta["Content-Security-Policy"]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "unsafe" not in policy
    assert len(page.texts["style"]) == 1


def test_style_sheet_loads_nothing_and_cannot_end_itself() -> None:
    assert not re.search(r"url\(|@import|@font-face|</|<!--", style_sheet(), re.IGNORECASE)


def test_no_template_goes_round_the_escaping() -> None:
    templates = [*resources.files("saefilter.report").joinpath("templates").iterdir()]
    assert len(templates) >= 7
    for template in templates:
        text = template.read_text(encoding="utf-8")
        # What is joined before it is shown would be escaped, but not cleaned.
        assert not re.search(
            r"\|\s*(safe|join|xmlattr|urlize|tojson)\b|autoescape|\bMarkup\b", text
        )


def test_hostile_text_shows_as_text() -> None:
    text = to_html(hostile_report())
    page = Page(text)
    shown = " ".join(clean(HOSTILE).split())
    for tag in ("h1", "title", "aside", "dl", "article", "table", "section"):
        assert any(shown in " ".join(found.split()) for found in page.texts[tag]), tag
    assert "<script" not in text
    assert "<img" not in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


@settings(deadline=None)  # a page takes milliseconds, but not on every machine
@given(st.text(st.characters(exclude_categories=[])), st.lists(st.text(max_size=5), max_size=4))
def test_any_text_survives_and_stays_text(text: str, words: list[str]) -> None:
    report = example_report(
        dropped=[sample(0, turns=[Turn("assistant", text, True)], words=words)],
        borderline=[],
        notes=[text],
    )
    page = Page(to_html(report).encode().decode())
    assert page.texts["article"][0].count(clean(text)) >= 1
    assert page.tags.keys() <= set(TAGS.split())


def test_text_from_data_is_isolated_from_the_direction_of_its_surroundings() -> None:
    page = Page(to_html(example_report()))
    assert "support-chats.jsonl" in page.texts["bdi"]
    assert any(text.startswith("Chest pain") for text in page.texts["bdi"])


def marks(text: str, words: list[str], *, scored: bool = True) -> list[str]:
    view = sample(0, turns=[Turn("assistant", text, scored)], words=words)
    report = example_report(dropped=[view], borderline=[])
    return Page(to_html(report)).texts["mark"][1:]  # the first one is the legend


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("Poison, POISON and antipoison poisons", ["poison"], ["Poison", "POISON"]),
        ("a&b <b>amp</b> &amp;", ["amp", "b"], ["b", "b", "amp", "b", "amp"]),
        ("snake_case and x2", ["snake", "x"], ["snake"]),
        ("a.c abc (x) 50%", ["a.c", "(x)", "50%"], ["a.c", "(x)", "50%"]),
        ("Größe größer", ["größe"], ["Größe"]),
        ("stop stopping stop-loss", ["stop", "stop-loss"], ["stop", "stop-loss"]),
        ("nothing here", ["", " ", "\x00"], []),
    ],
)
def test_weighty_words_are_marked_where_they_stand_alone(
    text: str, words: list[str], expected: list[str]
) -> None:
    assert marks(text, words) == expected


def test_only_what_was_scored_is_marked() -> None:
    assert marks("poison", ["poison"], scored=False) == []


def test_says_what_happened() -> None:
    page = Page(to_html(example_report()))
    assert page.texts["h1"] == ["Dropped 200 of the 2,000 rows in support-chats.jsonl"]
    body = " ".join(page.texts["body"][0].split())
    for part in (
        "1,788 rows kept, 12 quarantined because they could not be scored.",
        "the 10% of scored rows closest to toxic features: distances up to 0.355",
        "minilm is a proxy",
        "closer than 99.9% of harmless reference samples",
        "next to toxic feature “harm, poison, overdose” #811, cosine 0.71",
        "a feature of the toxic set",
        "99.3% of what adds to the scores is of the toxic set's own features, 0.62% of features that",
        "7 rows: not JSON",
        "support-chats.filtered.dropped.jsonl",
        "9f2c4c0f4d5a3f2b",
        "saefilter 0.1.0",
    ):
        assert part in body, part
    assert {"99%", "167", "8.4%", "20 (1%)"} <= {*page.texts["th"], *page.texts["td"]}
    assert len(page.texts["article"]) == 24 + 6
    assert len(page.texts["details"]) == 3


def test_empty_report() -> None:
    body = Page(to_html(empty_report())).texts["body"][0]
    assert "No row was scored" in body
    assert "No row was dropped." in body
    assert "no harmless reference samples" in body
    for absent in ("Before you rely", "Quarantined rows", "Closest kept", "Features of", "nan"):
        assert absent not in body


def test_rows_without_percentile_features_words_or_turns() -> None:
    bare = sample(0, percentile=None, features=[], words=[], turns=[])
    text = Page(to_html(example_report(dropped=[bare], borderline=[]))).texts["article"][0]
    assert "No text to show." in text
    assert "No single feature." in text
    assert "harmless" not in text


def test_where_no_feature_matters_alone_it_is_said() -> None:
    (usual, *_) = sample(0).features
    weak = [replace(usual, share=share) for share in (0.064, 0.05, 0.05)]
    strong = [replace(usual, share=0.4), *weak]
    said = "Many weak signs: no feature has more than 6.4% of what brings it close. The largest:"
    for features, expected in ((weak, True), (strong, False)):
        report = example_report(dropped=[sample(0, features=features)], borderline=[])
        text = Page(to_html(report)).texts["article"][0]
        assert (said in text) is expected


def test_themes_come_before_features_with_their_words_and_the_closest_example() -> None:
    theme = ThemeEvidence("plays down a danger", 0.41, 0.15, ["stress", "<b>run"])
    like = Closest(f"It should be cosy. {HOSTILE}", "Charcoal inside?", "plays down a danger", 0.44)
    view = sample(0, themes=[theme], closest=like)
    text = to_html(
        example_report(dropped=[view], borderline=[], themes=[ThemeTotal("x", 0.3, 0.1)])
    )
    page = Page(text)
    assert "<script" not in text
    assert "<b>run" not in text
    (card,) = page.texts["article"]
    assert card.index("plays down a danger") < card.index("Closest to") < card.index("Single feat")
    for said in ("41%", "15% in harmless rows", "Charcoal inside?", "It should be cosy.", "0.44"):
        assert said in card
    assert "stress" in page.texts["mark"]
    assert "Themes of the dropped rows" in text


def test_a_row_in_which_no_theme_stands_out_has_the_closest_example_all_the_same() -> None:
    like = Closest("It should be cosy.", "", "plays down a danger", 0.2)
    (usual, *_) = sample(0).features
    weak = [replace(usual, share=0.06)]
    for features, said in ((weak, "Many weak signs: no feature"), ([usual], "No theme stands out")):
        view = sample(0, features=features, themes=[], closest=like)
        (card,) = Page(to_html(example_report(dropped=[view], borderline=[]))).texts["article"]
        assert said in card
        assert "It should be cosy." in card
        assert "The largest:" not in card


def test_random_selection_has_no_threshold() -> None:
    chosen = {"strategy": "random", "drop_count": 200, "seed": 7, "threshold": 0.7}
    text = to_html(example_report(selection=chosen))
    assert "drawn at random (seed 7)" in text
    assert 'class="threshold"' not in text


def test_numbers_that_are_not_finite_do_not_break_the_page() -> None:
    bad = float("nan")
    view = sample(
        0, distance=bad, percentile=bad, features=[FeatureEvidence(1, "a", bad, 2, "b", bad)]
    )
    Page(to_html(example_report(dropped=[view], histogram=Histogram([bad, bad], [1], [0]))))


def test_text_in_the_place_of_a_number_is_refused() -> None:
    evil = FeatureEvidence("<b>", "a", 0.5, 2, "b", 0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        to_html(example_report(dropped=[sample(0, features=[evil])]))


def test_histogram_draws_every_bar_and_the_threshold() -> None:
    counts = Histogram([0.0, 0.25, 0.5, 1.0], [0, 1, 1000], [3, 1, 0])
    page = Page(histogram(counts, 0.3))
    assert page.tags["rect"] == 4 + 2  # and two in the legend
    assert page.tags["line"] >= 3
    assert "0.250 to 0.500: 1 dropped, 1 kept" in page.texts["title"]
    assert "dropped up to 0.300" in page.texts["text"]
    heights = [float(h) for h in re.findall(r'height="([\d.]+)"/></g>', histogram(counts, None))]
    assert min(heights) >= 1.5  # one row in a thousand can be seen


@given(st.floats(-5, 5), st.floats(1e-6, 100), st.integers(2, 9))
def test_ticks_are_round_and_inside(low: float, span: float, wanted: int) -> None:
    found = ticks(low, low + span, wanted)
    assert len(found) <= 2.6 * wanted
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in found)


def test_shares_and_percentiles_never_round_to_all_or_nothing() -> None:
    shares = (0, 0.00001, 0.0052, 0.05, 0.126, 0.984, 0.9999, 1)
    assert [percent(share) for share in shares] == [
        "0%", "under 0.01%", "0.52%", "5%", "13%", "98.4%", "99.9%", "100%",
    ]  # fmt: skip
    assert percentile_words(99.97) == "closer than 99.9% of harmless reference samples"
    assert percentile_words(100.0) == "closer than every harmless reference sample"
    assert percentile_words(0.0) == "not closer than any harmless reference sample"
    assert percentile_words(None) == ""


def test_says_which_marks_rest_on_few_reference_samples() -> None:
    few = to_html(example_report(reference_rows=200))
    assert "closer than 99% rests on 2 reference samples." in few  # and 99.9% they cannot tell
    assert "Rough" not in to_html(example_report(reference_rows=50_000))
