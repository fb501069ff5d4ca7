"""The headline says what the p-values come to."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from example import HOSTILE
from test_html import ATTRIBUTES, TAGS, Page

from saefilter.diagnose.result import (
    DataFeature,
    GeometryReport,
    MapPoint,
    SampleProximity,
    SpaceDiagnosis,
    corrected,
)
from saefilter.geometry.spillover import Spillover
from saefilter.report.geometry import geometry_html, headline
from saefilter.text import clean


def space(chance: float, topics: float) -> SpaceDiagnosis:
    """As the diagnosis makes it, for two p-values."""
    null = {"mean": 0.0, "deviation": 0.01, "effect": 2.0}
    return SpaceDiagnosis(
        preset="minilm", model="m", sae="s", hook="h", toxic_set="t", d_sae=10, toxic_features=2,
        closer=max(chance, topics) < 0.05, decided=True, enough=True, verdict="v", significant=3,
        apart_p=0.001, mean=0.4, matched=0.38, in_set=0, chance=null | {"p_value": chance},
        topics=null | {"p_value": topics}, p_value=max(chance, topics),
        p_corrected=max(chance, topics), interval=(0.01, 0.03), groups="9 rows in 9 groups",
        effective=(9.0, 9.0), data_features=[], matched_proximity=[0.1, 0.2], spillover=[],
        samples=SampleProximity("contrast", 0.6, 0.5, 0.7, 0.1, 0.1),
        map=[MapPoint(0.0, 0.0, "toxic", 1, "a"), MapPoint(1.0, 1.0, "data", 2, "b")],
    )  # fmt: skip


def report(*spaces: SpaceDiagnosis) -> GeometryReport:
    return GeometryReport("data.jsonl", "good.jsonl", 9, 9, 0, {}, corrected([*spaces]), [])


@pytest.mark.parametrize(
    ("chance", "topics", "says"),
    [
        (0.001, 0.02, "Closer to toxic features than harmless data"),
        (0.001, 0.2, "it may be the topic"),
        (0.3, 0.2, "As a whole no closer"),
    ],
)
def test_headline_says_what_the_p_values_come_to(chance: float, topics: float, says: str) -> None:
    assert says in headline(report(space(chance, topics)))


def test_two_saes_are_two_tests() -> None:
    made = report(space(0.001, 0.03), space(0.4, 0.9))
    assert [one.p_corrected for one in made.spaces] == [0.06, 0.9]
    assert not any(one.closer for one in made.spaces)
    assert "0.060" in geometry_html(made)
    too_few = replace(
        space(0.01, 0.01), enough=False, decided=False, closer=False, p_value=None, chance=None,
        topics=None, interval=None,
    )  # fmt: skip
    assert headline(report(too_few)).startswith("Cannot tell")
    # a test that could not be made is none to correct for
    assert report(space(0.001, 0.03), too_few).spaces[0].p_corrected == 0.03


def full_report() -> GeometryReport:
    """With every table longer than what is shown at once; labels as long as real ones."""
    label = "harm, poison, overdose, ignore, refuse"
    pushes = [Spillover(i, f"{label} {i}", 0.1 - 0.01 * i, 0.05, 0.2) for i in range(20)]
    features = [
        DataFeature(i, f"{label} {i}", 0.5, 0.4 + 0.01 * i, 7, f"lie, cheat, deceive {i}", i % 3 == 0)
        for i in range(20)
    ]  # fmt: skip
    return report(replace(space(0.001, 0.03), spillover=pushes, data_features=features))


def test_labels_stay_text() -> None:
    made = full_report()
    (one,) = made.spaces
    hostile = replace(
        one,
        preset=HOSTILE, hook=HOSTILE, verdict=HOSTILE, groups=HOSTILE, notes=[HOSTILE],
        spillover=[replace(push, label=HOSTILE) for push in one.spillover],
        data_features=[replace(of, label=HOSTILE, toxic_label=HOSTILE) for of in one.data_features],
        map=[replace(point, label=HOSTILE) for point in one.map],
    )  # fmt: skip
    text = geometry_html(replace(made, input=HOSTILE, against=HOSTILE, spaces=[hostile, hostile]))
    page = Page(text)  # fails on tags that do not match
    assert set(page.tags) <= {*TAGS.split(), "circle"}
    assert page.attributes <= {*ATTRIBUTES.split(), "cx", "cy", "r"}
    assert len(page.ids) == len(set(page.ids))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    shown = " ".join(clean(HOSTILE).split())
    for tag in ("h1", "h2", "title", "aside", "table", "circle", "p"):
        assert any(shown in " ".join(found.split()) for found in page.texts[tag]), tag
