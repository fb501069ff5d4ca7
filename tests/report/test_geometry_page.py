"""The headline says what the p-values come to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from saefilter.diagnose.result import (
    GeometryReport,
    MapPoint,
    SampleProximity,
    SpaceDiagnosis,
    corrected,
)
from saefilter.report.geometry import geometry_html, headline


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
        (0.3, 0.2, "No closer"),
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
