"""Steering a tiny causal model in which a direction was planted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers as hf
from checkpoints import save_model, small_tokenizer
from conftest import chat
from toxic_sets import made

from saefilter.curate.sources import ContrastRows
from saefilter.curate.steer import Probe, steer
from saefilter.encode.causal import CausalModel, load_causal_model
from saefilter.encode.presets import load_preset
from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation, recognise
from saefilter.rows.render import PlainRenderer, load_tokenizer
from saefilter.rows.rendered import RenderOptions

D_MODEL = 32
DIRECTION = np.eye(D_MODEL, dtype=np.float32)[5]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[CausalModel, PlainRenderer]:
    """A random Llama in which dimension 5 of the residual stream speaks for the letters v to z."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = small_tokenizer(bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    config = hf.LlamaConfig(
        hidden_size=D_MODEL, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1,
        head_dim=8, intermediate_size=32,
    )  # fmt: skip
    whole = save_model(config, folder, tokenizer, model_class=hf.LlamaForCausalLM)
    letters = tokenizer.convert_tokens_to_ids(list("vwxyz"))
    with torch.no_grad():
        whole.lm_head.weight[:, 5] = 0
        whole.lm_head.weight[letters, 5] = 2
    whole.save_pretrained(folder)
    causal = load_causal_model(
        str(folder), 2, revision=None, dtype="fp32", device=torch.device("cpu")
    )
    renderer = PlainRenderer(
        load_tokenizer(str(folder), None), context=128, options=RenderOptions(64, "assistant")
    )
    return causal, renderer


def answers(alphabet: str, seed: int) -> list[Conversation]:
    rng = np.random.default_rng(seed)
    return [
        recognise(chat("Say it.", " ".join("".join(rng.choice(list(alphabet), 4)) for _ in "abc")))
        for _ in range(8)
    ]


@pytest.fixture(scope="module")
def probe(model: tuple[CausalModel, PlainRenderer]) -> Probe:
    rows = ContrastRows(answers("vwxyz", 1), answers("abcde", 2), [])
    return Probe.of(*model, rows, strength=0.5)


def test_a_planted_direction_steers_and_a_random_one_of_equal_length_does_not(
    probe: Probe,
) -> None:
    effect = probe.effect(DIRECTION)
    random = probe.controls(D_MODEL, 20, seed=1)
    assert effect > 0.1
    assert probe.effect(-DIRECTION) < -0.05
    assert effect > 2 * np.abs(random).max()  # of 32 dimensions, one is never far
    assert abs(random.mean()) < effect / 5
    assert float(probe.push(DIRECTION).norm()) == pytest.approx(probe.length)


def test_log_likelihoods_are_those_of_the_plain_model_and_steering_ends(
    model: tuple[CausalModel, PlainRenderer], probe: Probe
) -> None:
    causal, _ = model
    window = probe.windows[0]
    ids = torch.from_numpy(window.ids)[None]
    log_p = torch.log_softmax(causal.model(input_ids=ids).logits.float(), dim=-1)[0, :-1]
    each = log_p[torch.arange(len(log_p)), ids[0, 1:]].detach().numpy()
    expected = each[window.scored[1:]].mean()
    causal.log_likelihood([window], 512, probe.push(DIRECTION))
    for batch_tokens in (64, 4096):
        found = causal.log_likelihood(probe.windows, batch_tokens)
        assert float(found[0]) == pytest.approx(float(expected), abs=1e-5)
    prompt = window.ids[: int(np.flatnonzero(window.scored)[0])].tolist()
    pushed = causal.continuation(prompt, 6, probe.push(DIRECTION) * 20)
    letters = set(range(256)) & set(np.flatnonzero(
        causal.model.lm_head.weight[:, 5].detach().numpy() == 2).tolist())  # fmt: skip
    assert set(pushed) <= letters
    assert causal.continuation(prompt, 6) == causal.continuation(prompt, 6)


def test_features_that_do_nothing_are_marked(probe: Probe) -> None:
    directions = np.eye(6, D_MODEL, dtype=np.float32)
    directions[0] = DIRECTION
    directions[5] = -DIRECTION
    toxic_set = made((0, "toxic", 1.0), (1, "toxic", 1.0), (5, "benign", 1.0), (2, "toxic", 1.0))
    measured = steer(toxic_set, probe, directions, [0, 1, 5], controls=20)
    found = {one.index: one for one in measured.features}
    assert found[0].steering_p is not None
    assert found[0].steering_p < 0.05
    assert found[5].steering_p is not None
    assert found[5].steering_p < 0.05  # it pulls back, as a benign feature should
    assert found[1].steering_p is not None
    assert found[1].steering_p > 0.05
    assert found[2].steering is None
    assert "20 random directions" in measured.history[-1]


def test_what_continues_no_texts_is_refused() -> None:
    with pytest.raises(SaefilterError, match="does not continue texts"):
        load_causal_model(
            load_preset("minilm").model_path(), 4, revision=None, dtype="fp32",
            device=torch.device("cpu"),
        )  # fmt: skip


def test_too_few_continuations_are_refused(model: tuple[CausalModel, PlainRenderer]) -> None:
    rows = ContrastRows(answers("vwxyz", 1), answers("abcde", 2)[:2], [])
    with pytest.raises(SaefilterError, match="only 2 benign continuations"):
        Probe.of(*model, rows)
