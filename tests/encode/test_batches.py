from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from saefilter.encode.batches import plan_batches


@given(st.lists(st.integers(1, 512)), st.integers(1, 4096))
def test_every_window_is_in_one_batch_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = plan_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[i] for i in batch)
        assert len(batch) == 1 or longest * len(batch) <= budget
    firsts = [lengths[batch[0]] for batch in batches]
    assert firsts == sorted(firsts, reverse=True)
