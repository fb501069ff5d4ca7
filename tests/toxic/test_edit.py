from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toxic_sets import made, small

from saefilter.errors import SaefilterError
from saefilter.rows.inputs import open_input
from saefilter.toxic.edit import add, diff, merge, read_labels, relabel, remove, reweight
from saefilter.toxic.toxicset import ToxicSet


def test_every_change_keeps_its_reason_and_drops_the_percentiles() -> None:
    one = add(small(), 3, "toxic", 0.2, "", "fires on scams")
    assert one.features[-1].label == "near"  # the label it had as a neighbour
    assert one.neighbour_labels == {}
    one = reweight(one, {3: 0.7}, "too quiet")
    one = remove(one, [5], "a topic")
    assert [(f.index, f.weight) for f in one.features] == [(2, 0.5), (3, 0.7)]
    assert one.calibration is None
    said = [line.split(" ", 1)[1] for line in one.history]
    assert said == [
        "added feature 3 (toxic, weight 0.2): fires on scams",
        "reweighted 3 to 0.7: too quiet",
        "removed 5: a topic",
    ]
    assert small().calibration is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: add(one, 6, "toxic", 0, "", "x"), "outside 0..5"),
        (lambda one: add(one, 2, "toxic", 0, "", "x"), "is in the set already"),
        (lambda one: add(one, 3, "toxic", 0, "", "  "), "needs its reason"),
        (lambda one: remove(one, [3, 4], "x"), "has no feature 3, 4"),
        (lambda one: remove(one, [2], "x"), "no toxic feature would be left"),
        (lambda one: reweight(one, {2: -1.0}, "x"), "negative"),
        (lambda one: merge([one, replace(one, fingerprint="0" * 64)], "m", "x"), "belongs to"),
        (lambda one: merge([one, replace(one, pool="max")], "m", "x"), "--pool"),
        (lambda one: diff(one, replace(one, fingerprint="0" * 64)), "cannot be compared"),
    ],
)
def test_changes_that_make_no_sense_are_refused(
    change: Callable[[ToxicSet], object], message: str
) -> None:
    with pytest.raises(SaefilterError, match=message):
        change(small())


def test_merging_averages_signed_weights() -> None:
    one = made((0, "toxic", 0.4), (1, "toxic", 0.2), (2, "benign", 0.6))
    other = made((0, "toxic", 0.2), (1, "benign", 0.6), (3, "toxic", 0.5))
    both = merge([one, other], "both", "x")
    found = {f.index: (f.side, round(f.weight, 6)) for f in both.features}
    assert found == {
        0: ("toxic", 0.3), 1: ("benign", 0.2), 2: ("benign", 0.3), 3: ("toxic", 0.25),
    }  # fmt: skip
    assert both.history[-1].endswith("merged small and small: x")


def test_a_merged_features_effect_is_that_of_a_set_on_its_side() -> None:
    """A feature that two sets put on different sides: it had the weight of one, the effect of the other."""
    one, other = (
        made((0, "toxic", 0.2), (1, "toxic", 0.2)),
        made((0, "toxic", 0.2), (1, "benign", 0.6)),
    )
    other = replace(
        other, features=[other.features[0], replace(other.features[1], effect_size=-0.1)]
    )
    feature = merge([one, other], "both", "x").features[1]
    assert (feature.index, feature.side, feature.effect_size) == (1, "benign", -0.1)


@given(st.floats(0.1, 10), st.floats(0.01, 5))
@settings(deadline=None, max_examples=25)
def test_merging_sets_of_different_spread_keeps_what_an_activation_adds(
    spread: float, weight: float
) -> None:
    """A merged set scores a row as the mean of the two does, whatever spreads they were fitted on."""
    one, other = made((0, "toxic", weight)), made((0, "toxic", weight), scale=spread)
    both = merge([one, other], "both", "x")
    pushes = [s.features[0].weight / s.scale[0] for s in (one, other, both)]
    assert pushes[2] == pytest.approx(np.mean(pushes[:2]))


def test_difference_tells_what_is_where() -> None:
    one = made((0, "toxic", 0.4), (1, "toxic", 0.2), (2, "toxic", 0.1))
    other = made((0, "toxic", 0.4), (1, "benign", 0.2), (2, "toxic", 0.3), (3, "toxic", 0.1))
    found = diff(one, other)
    assert ([f.index for f in found.only_first], [f.index for f in found.only_second]) == ([], [3])
    assert [b.index for _, b in found.other_side] == [1]
    assert [b.index for _, b in found.reweighted] == [2]
    assert found.same == 1


def test_labels_of_neuronpedia_exports_and_of_tables(tmp_path: Path) -> None:
    export = [
        {"modelId": "gemma-2-2b", "layer": "12-gemmascope-res-16k", "index": str(i),
         "description": f"phrases of kind {i}", "explanationModelName": "gpt-4o-mini"}
        for i in (2, 3)
    ]  # fmt: skip
    export.append({**export[0], "description": "a second explanation"})
    (tmp_path / "list.json").write_text(json.dumps(export))
    lines = "".join(json.dumps(entry) + "\n" for entry in export).encode()
    (tmp_path / "lines.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "table.csv").write_text("index,label\n2,phrases of kind 2\n3,phrases of kind 3\n")
    for name in ("list.json", "lines.jsonl.gz", "table.csv"):
        labels = read_labels(open_input(tmp_path / name))
        assert labels == {2: "phrases of kind 2", 3: "phrases of kind 3"}, name
    changed, count = relabel(small(), labels, "labels from table.csv")
    assert count == 2
    assert changed.labels() == {2: "phrases of kind 2", 3: "phrases of kind 3", 5: "careful"}
    assert changed.calibration == small().calibration


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", r"t\.csv:2: the columns are a, b"),
        ("index,label\nx,2\n", "'x' is no feature index"),
        ("index,label\n", "no labels"),
    ],
)
def test_a_table_without_labels_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(SaefilterError, match=message):
        read_labels(open_input(tmp_path / "t.csv"))
