"""Linear maps on a CPU: torch's numbers, in sizes that are few."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from saefilter.encode.fast import linear
from saefilter.encode.fast.linear import BLOCK_ROWS, STEP_ROWS, Linear, blocks, padded


def parts(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows, weight and bias."""
    generator = torch.Generator().manual_seed(n)
    return tuple(torch.randn(*size, generator=generator) for size in ((n, 24), (40, 24), (40,)))  # type: ignore[return-value]


@pytest.mark.parametrize("by_one_dnn", [True, False])
@pytest.mark.parametrize("gelu", [True, False])
@pytest.mark.parametrize("n", [0, 1, 8, 255, 256, 257, 700])
def test_it_is_torchs_own(
    monkeypatch: pytest.MonkeyPatch, n: int, gelu: bool, by_one_dnn: bool
) -> None:
    if not by_one_dnn:
        monkeypatch.setattr(linear, "has_one_dnn", lambda: False)
    x, weight, bias = parts(n)
    expected = functional.linear(x, weight, bias)
    if gelu:
        expected = functional.gelu(expected)
    got = Linear(weight, bias, gelu=gelu).of_all(x)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_a_weight_that_is_a_transpose() -> None:
    x, weight, bias = parts(9)
    got = Linear(weight.t().contiguous().t(), bias).of_all(x)
    torch.testing.assert_close(got, functional.linear(x, weight, bias), atol=1e-5, rtol=1e-5)


def test_other_precisions_go_through_torch() -> None:
    x, weight, bias = (part.bfloat16() for part in parts(9))
    got = Linear(weight, bias).of_all(x)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, functional.linear(x, weight, bias), atol=0.1, rtol=0.05)


@given(st.integers(0, 5000))
def test_blocks_hold_every_row_in_few_sizes(n: int) -> None:
    x = torch.arange(n, dtype=torch.float32)[:, None]
    whole = padded(x)
    assert torch.equal(whole[:n], x)
    assert not whole[n:].any()
    cut = [whole[block] for block in blocks(n)]
    assert torch.equal(torch.cat([whole[:0], *cut]), whole)
    sizes = {len(part) for part in cut}
    assert sizes <= set(range(STEP_ROWS, BLOCK_ROWS + 1, STEP_ROWS))


def test_torch_has_one_dnn_where_ci_runs() -> None:
    """What the fallback costs would pass unseen. Other processors have none."""
    if linear.platform.machine() == "x86_64":
        assert linear.has_one_dnn()
