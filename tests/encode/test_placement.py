"""Which precision is chosen unasked, and why."""

from __future__ import annotations

import pytest

from saefilter.encode import placement
from saefilter.encode.placement import place
from saefilter.encode.presets import load_preset


def chosen(amx: bool, ranks_in_bf16: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    # matrix units are a matter of the machine, and both kinds are asked about here
    monkeypatch.setattr(placement, "cpu_multiplies_bf16", lambda: amx)
    found = place(1000, 0, device="cpu", dtype="auto", ranks_in_bf16=ranks_in_bf16)
    return found.dtype, found.reasons[-1]


@pytest.mark.parametrize(
    ("amx", "ranks", "dtype", "reason"),
    [
        (False, True, "fp32", "nearly as fast as anything"),
        (True, True, "bf16", "matrix units"),
        (True, False, "fp32", "--dtype bf16 is faster"),
    ],
)
def test_a_cpu_takes_bf16_where_it_is_faster_and_ranks_the_same(
    amx: bool, ranks: bool, dtype: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, why = chosen(amx, ranks, monkeypatch)
    assert found == dtype
    assert reason in why


def test_a_model_that_does_not_fit_in_fp32_is_taken_in_bf16() -> None:
    found = place(10**13, 0, device="cpu", dtype="auto")  # 40 TB
    assert found.dtype == "bf16"
    assert "are free" in found.reasons[-1]


def test_what_is_asked_for_is_taken_without_a_word() -> None:
    found = place(1000, 0, device="cpu", dtype="fp16")
    assert (found.dtype, found.reasons) == ("fp16", ())


def test_bf16_was_measured_for_the_default_alone() -> None:
    assert load_preset("minilm").ranks_in_bf16
    assert not load_preset("gemma-2-2b").ranks_in_bf16
