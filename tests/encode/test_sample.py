"""An even sample of a text's scored tokens."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import transformers as hf
from checkpoints import VOCABULARY, configs, into_cache, save_model, small_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from test_encoder import write_sae

from saefilter.encode.encoder import Encoder
from saefilter.encode.presets import resolve
from saefilter.encode.sample import by_text, digest_of, drawn, ended, sampled
from saefilter.rows.rendered import Window

SEEDS = [number.to_bytes(4, "little") for number in range(4000)]


def window(scored: list[bool], row: int = 0, start: int = 3) -> Window:
    n = len(scored)
    spans = np.stack([np.arange(n), np.arange(n) + 1], axis=1).astype(np.int32)
    ids = (np.arange(start, start + n) * 7) % VOCABULARY
    return Window(row, ids.astype(np.int64), np.array(scored), spans)


def places(windows: list[Window]) -> list[tuple[int, int]]:
    """Which tokens are scored, by their ids."""
    return [(int(w.ids[0]), int(place)) for w in windows for place in np.flatnonzero(w.scored)]


def test_every_set_of_places_is_as_likely_as_any_other() -> None:
    found = [tuple(drawn(5, 2, seed).tolist()) for seed in SEEDS]
    pairs = list(itertools.combinations(range(5), 2))
    counts = np.array([found.count(pair) for pair in pairs])
    expected = len(SEEDS) / len(pairs)
    assert counts.sum() == len(SEEDS)
    assert ((counts - expected) ** 2 / expected).sum() < 27.9  # chi-square of 9, p = 0.001


@given(
    st.lists(st.lists(st.booleans(), min_size=1, max_size=12), min_size=1, max_size=4),
    st.integers(1, 20), st.booleans(),
)  # fmt: skip
def test_a_sample_is_of_the_scored_tokens_and_of_that_size(
    masks: list[list[bool]], size: int, cut: bool
) -> None:
    windows = [window(mask, start=3 + number) for number, mask in enumerate(masks)]
    found = sampled(windows, size, cut=cut)
    total = sum(map(sum, masks))
    assert len(places(found)) == min(size, total)
    assert set(places(found)) <= set(places(windows))
    if total > size:
        assert all(own.scored.any() for own in found)
        assert not cut or all(own.scored[-1] for own in found)
    else:
        assert found == windows
    again = sampled([own._replace(row=9) for own in windows], size, cut=cut)
    assert places(again) == places(found)  # it is the text's, not the row's number


def test_equal_texts_have_one_digest_and_others_do_not() -> None:
    one, other = window([True, False, True]), window([True, True, False])
    assert digest_of([one]) == digest_of([one._replace(row=4, spans=one.spans + 1)])
    parts = [one.ids[:1], one.ids[1:]]
    apart = [Window(0, ids, one.scored[: len(ids)], one.spans[: len(ids)]) for ids in parts]
    assert len({digest_of(some) for some in ([one], [other], [one, one], apart, [])}) == 5
    assert by_text([one, other._replace(row=2)], 3)[1] == []


def test_what_comes_after_the_last_scored_token_is_no_part_of_what_is_read() -> None:
    one = ended(window([False, True, False, True, False, False]))
    assert one.scored.tolist() == [False, True, False, True]
    assert len(one.ids) == len(one.spans) == 4
    for whole in (window([False, True]), window([False, False])):
        assert ended(whole) is whole


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = small_tokenizer(bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    save_model(configs()["llama"], folder, tokenizer, model_class=hf.LlamaForCausalLM)
    into_cache(folder, "tiny/llama-sampled")
    sae = write_sae(tmp_path_factory.mktemp("sae"))
    return Encoder(resolve(None, "tiny/llama-sampled", sae), device="cpu", dtype="fp32")


def test_over_many_samples_the_mean_is_the_full_one(encoder: Encoder) -> None:
    """Of a real model and SAE, in two windows of one text; what comes after the last token that is drawn
    is not read, and changes nothing."""
    windows = [window([False, *[True] * 23]), window([*[False] * 3, *[True] * 9], start=5)]
    full = encoder.encode(windows, 1)
    assert encoder.cuts_ends()
    samples = [sampled(windows, 6, cut=True, seed=seed) for seed in SEEDS[:1500]]
    texts = [own._replace(row=number) for number, some in enumerate(samples) for own in some]
    found = encoder.encode(texts, len(samples))
    assert (found.n_tokens == 6).all()
    assert found.tally.tokens < len(samples) * 36
    for estimate, truth in (
        (found.features.toarray(), full.features.toarray()[0]),
        (found.residual, full.residual[0]),
    ):
        error = estimate.std(axis=0) / np.sqrt(len(samples))
        np.testing.assert_array_less(np.abs(estimate.mean(axis=0) - truth), 4.5 * error + 1e-5)
        # without replacement: the variance of the mean of 6 of 32 is (1 - 6/32) s^2 / 6
    whole = [sampled(windows, 6, cut=False, seed=seed) for seed in SEEDS[:20]]
    again = encoder.encode(
        [own._replace(row=number) for number, some in enumerate(whole) for own in some], 20
    )
    torch.testing.assert_close(again.features.toarray(), found.features[:20].toarray())
