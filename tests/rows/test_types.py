from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from saefilter.rows.types import LONG, SHORT, common, field_paths, inferred, plain, type_of

DOUBLE = pa.float64()


def of(*values: Any) -> pa.DataType | None:
    kind = inferred(values)
    return None if kind is None else type_of(values, kind)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None], SHORT),
        ([2**53, -(2**53)], SHORT),
        ([2**53 + 1], LONG),
        ([0.5, 2**53], DOUBLE),
        ([0.5, 2**53 + 1], None),
        ([2**63], None),
        ([True, 1], None),
        ([1, True], None),
        ([0.5, True], None),
        ([[{"x": 1}], [{"x": True}]], None),
        (["a", 1], None),
        ([[1], "a"], None),
        ([[1], [], None], pa.list_(SHORT)),
        ([{"a": [2**60]}, {"b": 1}], pa.struct([("a", pa.list_(LONG)), ("b", SHORT)])),
    ],
)
def test_types_of_values_and_of_none_that_would_be_bent(values: list[Any], kind: Any) -> None:
    assert of(*values) == kind


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1], [2**60]),
        ([1], [0.5]),
        ([2**60], [0.5]),
        ([None], [{"a": 1}]),
        ([[]], [[None], ["a"]]),
        ([{"a": 1, "b": "x"}], [{"c": 0.5, "a": 1.5}]),
        ([{"a": 1}], [{"a": "x"}]),
        ([Decimal("1.5")], [Decimal("100.25")]),
        (["a"], [True]),
    ],
)
def test_what_two_have_in_common_is_the_type_of_both_together(one: Any, other: Any) -> None:
    together = of(*one, *other)
    assert common(of(*one), of(*other)) == together
    if together is not None:
        assert plain(together) == pa.array([*one, *other]).type


def test_times_and_dates_are_not_mixed() -> None:
    assert common(pa.date32(), pa.timestamp("us")) is None


def test_fields_have_paths_through_lists() -> None:
    assert field_paths(of([{"a": {"b": 1}}], [{"c": None}])) == {"/a", "/a/b", "/c"}
