"""Prefixes that windows share: found where they save most, and computed once without changing anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import VOCABULARY, configs, save_model
from hypothesis import given
from hypothesis import strategies as st

from saefilter.encode.batches import Batch, pad
from saefilter.encode.fast.prefixes import alike, plan
from saefilter.encode.model import TruncatedModel, load_truncated_model
from saefilter.rows.rendered import Window

CAUSAL = [family for family in configs() if family != "bert"]
sequences = st.lists(st.lists(st.integers(0, 1), max_size=6), max_size=7)


def window(row: int, ids: list[int], scored_from: int) -> Window:
    n = len(ids)
    scored = np.arange(n) >= scored_from
    return Window(row, np.array(ids), scored, np.zeros((n, 2), dtype=np.int32))


def best_single(items: list[list[int]]) -> int:
    """What the best of all groups saves."""
    prefixes = {tuple(item[:n]) for item in items for n in range(len(item) + 1)}
    return max(
        ((sum(tuple(i[: len(p)]) == p for i in items) - 1) * len(p) for p in prefixes), default=0
    )


@given(sequences, st.integers(1, 8))
def test_groups_are_alike_and_no_single_one_saves_more(items: list[list[int]], least: int) -> None:
    groups = alike(items, least)
    members = [m for group in groups for m in group.members]
    assert len(members) == len(set(members))
    for group in groups:
        assert len(group.members) > 1
        assert len({tuple(items[m][: group.prefix]) for m in group.members}) == 1
        assert (len(group.members) - 1) * group.prefix >= least
    saved = sum((len(group.members) - 1) * group.prefix for group in groups)
    best = best_single(items)
    assert saved >= best or best < least


def test_a_system_prompt_and_questions_under_it() -> None:
    """Two questions asked often are worth a group each; the others share the system prompt."""
    system = [1] * 10
    often, too = [[*system, q, q, *[q] * 18] for q in (2, 3)]
    items = [*[often] * 20, *[too] * 20, *([*system, q] for q in range(4, 14))]
    found = sorted((group.prefix, sorted(group.members)) for group in alike(items, 8))
    assert found == [
        (10, list(range(40, 50))), (30, list(range(20))), (30, list(range(20, 40)))
    ]  # fmt: skip


def test_many_nested_prefixes() -> None:
    """Deeper than Python's stack."""
    nested = [[7] * n for n in range(3000)]
    saved = sum((len(group.members) - 1) * group.prefix for group in alike(nested, 1))
    assert saved >= max((2999 - n) * n for n in range(3000))


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 1), max_size=20), st.integers(1, 9)), max_size=12),
    st.integers(16, 64),
)
def test_every_window_is_in_one_batch_with_its_prefix(
    rows: list[tuple[list[int], int]], budget: int
) -> None:
    windows = [
        window(row, [*prompt, *[2] * answer], len(prompt))
        for row, (prompt, answer) in enumerate(rows)
    ]
    batches = plan(windows, budget, lambda: True)
    assert sorted(w.row for batch in batches for w in batch.windows) == list(range(len(rows)))
    for batch in batches:
        assert len({tuple(w.ids[: batch.prefix]) for w in batch.windows}) == 1
        assert not any(w.scored[: batch.prefix].any() for w in batch.windows)
        assert len(batch.windows) == 1 or batch.cost <= budget
    for no in (lambda: False, None):
        assert not any(batch.prefix for batch in plan(windows, budget, no))


def test_padding_may_cost_more_than_a_prefix_saves() -> None:
    """Two rows that share 8 tokens, one of them much longer: apart they are computed without waste."""
    short, long = window(0, [1] * 8 + [2] * 2, 8), window(1, [1] * 8 + [2] * 60, 8)
    assert {batch.prefix for batch in plan([short, long], 128, lambda: True)} == {0}
    assert {batch.prefix for batch in plan([long, long], 128, lambda: True)} == {8}


def test_the_longest_window_comes_first() -> None:
    windows = [window(row, [1] * 9 + [2] * n, 9) for row, n in enumerate((7, 7, 7))]
    windows.append(window(3, [3] * 30, 20))
    first, *others = plan(windows, 64, lambda: True)
    assert [w.row for w in first.windows] == [3]
    assert [batch.prefix for batch in others] == [9]


def test_whether_a_model_shares_is_not_asked_where_nothing_is_alike() -> None:
    asked = []
    windows = [window(row, [row] * 40, 20) for row in range(4)]
    plan(windows, 64, lambda: bool(asked.append(1)))
    assert not asked
    assert plan([windows[0], windows[0]], 64, lambda: not asked.append(1))[0].prefix == 20
    assert asked


def scored_both_ways(model: TruncatedModel, prompt: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    first, *others = torch.randint(3, VOCABULARY - 1, (4, 30), generator=generator).tolist()
    rows = [first[:prompt] + other[prompt : 20 + 3 * i] for i, other in enumerate(others)]
    windows = [window(i, ids, prompt + 2) for i, ids in enumerate(rows)]
    whole = model.scored_residuals(pad(windows, 0))
    return model.scored_residuals(pad(windows, 0, prompt)), whole


@pytest.mark.parametrize("family", CAUSAL)
def test_what_follows_a_prefix_is_the_same(tmp_path: Path, family: str) -> None:
    save_model(configs()[family], tmp_path)
    model = load_truncated_model(str(tmp_path), 3)
    assert model.shares_prefixes()
    for prompt in (11, 2, 11):  # the first one again after another
        found, whole = scored_both_ways(model, prompt)
        assert whole.abs().max() > 0.1
        torch.testing.assert_close(found, whole, atol=1e-4, rtol=1e-4)


def test_bidirectional_models_share_nothing(tmp_path: Path) -> None:
    save_model(configs()["bert"], tmp_path)
    assert not load_truncated_model(str(tmp_path), 3).shares_prefixes()


def test_a_model_that_does_not_go_on_as_it_should_shares_nothing(tmp_path: Path) -> None:
    """One that forgets what it is given, and one that refuses it."""
    save_model(configs()["llama"], tmp_path)
    model = load_truncated_model(str(tmp_path), 3)
    forward = model.model.forward
    model.model.forward = lambda input_ids, attention_mask=None, **_: forward(input_ids)
    assert not model.shares_prefixes()
    other = load_truncated_model(str(tmp_path), 3)
    whole = other.model.forward
    other.model.forward = lambda input_ids, attention_mask=None: whole(input_ids)
    assert not other.shares_prefixes()


def test_rotary_scalings_by_length_share_nothing(tmp_path: Path) -> None:
    config = configs()["llama"]
    config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    save_model(config, tmp_path)
    assert not load_truncated_model(str(tmp_path), 3).shares_prefixes()


def test_halves_of_a_batch_keep_its_prefix() -> None:
    windows = [window(row, [1, 2, 3 + row], 2) for row in range(3)]
    one, two = Batch(windows, 2).halves()
    assert [w.row for w in one.windows + two.windows] == [0, 1, 2]
    assert one.prefix == two.prefix == 2
    assert (two.n_tokens, two.n_padded, two.n_saved) == (6, 6, 2)
