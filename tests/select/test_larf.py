"""LARF on a small model one of whose layers was trained to refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import configs, save_model, small_tokenizer
from conftest import chat
from small_causal import (
    LAYERS,
    candidates_in,
    contrast_of,
    mixed,
    ranked,
    reader_of,
    said,
    small_llama,
    train_layer,
    words,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

from saefilter.encode.causal import layer_stack
from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation
from saefilter.select.larf import Learnt, last_tokens, learn, safety_sensitivity, scale_slopes, unit
from saefilter.select.layered import anchors
from saefilter.select.projection_difference import last_responses
from saefilter.stats.auroc import auroc

SAFE, UNSAFE = "n", "y"


def refusing(folder: Path, layer: int) -> Path:
    """A model whose layer, counted from 1, alone was trained to answer `n`; what the others do was drawn."""

    def plant(model: Any) -> None:
        start = [model.config.bos_token_id]
        texts = []
        with torch.no_grad():
            model.model.embed_tokens.weight.mul_(100)  # what a layer adds is a part, not all
            for one in model.model.layers:  # what is not planted does little
                one.self_attn.o_proj.weight.mul_(0.1)
                one.mlp.down_proj.weight.mul_(0.1)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        for prompt in words(np.random.default_rng(1), 32):
            ids = [*start, *tokenizer(prompt + "\n\n")["input_ids"]]
            texts.append(([*ids, *tokenizer(SAFE)["input_ids"]], len(ids)))
        train_layer(model, layer - 1, texts, 25)

    return small_llama(folder, plant)


def pairs(seed: int, count: int) -> tuple[list[Conversation], list[Conversation]]:
    """Unsafe and safe answers to the same prompts, each with two letters after it, of which unsafe answers
    have other ones more often."""
    rng = np.random.default_rng(seed)
    asked = words(rng, count)
    unsafe, safe = words(rng, count, "uuuuuvw"), words(rng, count, "uvwwwww")
    return (
        [said(one, f"{UNSAFE} {end[:2]}") for one, end in zip(asked, unsafe, strict=True)],
        [said(one, f"{SAFE} {end[:2]}") for one, end in zip(asked, safe, strict=True)],
    )


def rows_of(conversations: list[Conversation]) -> list[dict[str, Any]]:
    return [chat(one[0].content, one[1].content) for one in conversations]


@pytest.mark.parametrize("layer", [1, 2, 4])
def test_the_layer_where_safety_was_planted_is_found(
    tmp_path: Path, jsonl: Callable[..., Path], layer: int
) -> None:
    folder = refusing(tmp_path / "model", layer)
    contrast = contrast_of(*pairs(2, 24))
    reader = reader_of(candidates_in(jsonl([chat("q", "a")])), "larf", folder)
    sensitivity = safety_sensitivity(reader, contrast)
    assert sensitivity.shape == (LAYERS, 2)
    assert int(np.abs(sensitivity[:, 0]).argmax()) + 1 == layer
    assert sensitivity[layer - 1, 0] > 0  # more of it, more refusals
    learnt = learn(reader, contrast, None)
    assert learnt.layer == layer
    assert learnt.stands_out


def test_sides_that_mean_nothing_make_no_layer_sensitive_and_rank_at_chance(
    tmp_path: Path, jsonl: Callable[..., Path]
) -> None:
    folder = refusing(tmp_path / "model", 2)
    contrast = contrast_of(*pairs(2, 24))
    reader = reader_of(candidates_in(jsonl([chat("q", "a")])), "larf", folder)
    toxic, benign = pairs(3, 30)
    vectors = unit(last_tokens(reader, [*toxic, *benign], 2)[0])
    bad = np.arange(60) < 30
    assert auroc(bad, vectors @ learn(reader, contrast, 2).direction) > 0.75
    told = np.abs(safety_sensitivity(reader, contrast)[:, 0]).max()
    by_chance, slopes, stand_out = [], [], []
    for one in mixed(contrast, 20):
        by_chance.append(auroc(bad, vectors @ learn(reader, one, 2).direction))
        learnt = learn(reader, one, None)
        slopes.append(np.abs(learnt.sensitivity[:, 0]).max())
        stand_out.append(learnt.stands_out)
        assert learnt.stands_out or learnt.layer == LAYERS // 2
    assert abs(np.mean(by_chance) - 0.5) < 0.15
    assert np.median(slopes) < told / 4
    assert np.mean(stand_out) <= 0.1


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "gpt_neox"])
def test_slopes_are_what_scaling_a_layer_does(
    tmp_path: Path, jsonl: Callable[..., Path], family: str
) -> None:
    """By what the paper does: scale each layer a little up and down, and look."""
    config = configs()[family]
    tokenizer = small_tokenizer(bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    model_class = AutoModelForCausalLM._model_mapping[type(config)]
    save_model(config, tmp_path / "model", tokenizer, model_class=model_class)
    reader = reader_of(candidates_in(jsonl([chat("q", "a")])), "larf", tmp_path / "model")
    conversations = [said("one", "two three"), said("four five six", "s")]
    windows = [one.window for one in last_responses(reader, conversations) if one]
    slopes = scale_slopes(reader.model, windows, 256)
    for number, layer in enumerate(layer_stack(reader.model.model)):
        means = []
        for scale in (1.01, 0.99):

            def scaled(_module: Any, args: Any, output: Any, by: float = scale) -> Any:
                after = output[0] if isinstance(output, tuple) else output
                moved = args[0] + by * (after - args[0])
                return (moved, *output[1:]) if isinstance(output, tuple) else moved

            handle = layer.register_forward_hook(scaled)
            means.append(reader.model.log_likelihood(windows, 256).numpy())
            handle.remove()
        expected = (means[0] - means[1]) / 0.02
        np.testing.assert_allclose(slopes[:, number], expected, rtol=0.02, atol=2e-3)


def test_the_score_is_the_mean_cosine_to_unsafe_less_that_to_safe(
    tmp_path: Path, jsonl: Callable[..., Path]
) -> None:
    folder = refusing(tmp_path / "model", 2)
    toxic, benign = pairs(4, 6)
    rows = [chat("what", "y sure"), chat("why", "n"), {"text": "plain"}]
    candidates = candidates_in(jsonl(rows))
    told = {
        "contrast_toxic": (str(jsonl(rows_of(toxic), "toxic.jsonl")),),
        "contrast_benign": (str(jsonl(rows_of(benign), "benign.jsonl")),),
    }
    ranking = ranked(candidates, "larf", folder, **told)
    assert ranking.details["hook"] == "blocks.1.hook_resid_post"
    assert len(ranking.details["sensitivity"]) == LAYERS
    reader = reader_of(candidates, "larf", folder)
    plain = reader.model.model

    def last(prompt: str, answer: str) -> np.ndarray:
        tokens = reader.renderer.tokenizer(prompt + answer)["input_ids"]
        ids = torch.tensor([[plain.config.bos_token_id, *tokens]])
        with torch.no_grad():
            hidden = plain(ids, output_hidden_states=True).hidden_states[2]
        return unit(hidden[0, -1].numpy())

    sides = [
        [last(one[0].content + "\n\n", one[1].content) for one in side] for side in (toxic, benign)
    ]
    texts = [("what\n\n", "y sure"), ("why\n\n", "n"), ("", "plain")]
    expected = []
    for prompt, answer in texts:
        unsafe, safe = (np.mean([last(prompt, answer) @ one for one in side]) for side in sides)
        expected.append(unsafe - safe)
    assert ranking.score is not None
    np.testing.assert_allclose(ranking.score, expected, atol=1e-5)
    again = ranked(candidates, "larf", folder, **told)
    assert np.array_equal(again.score, ranking.score)
    asked = ranked(candidates, "larf", folder, hook="blocks.3.hook_resid_post", **told)
    assert asked.details["sensitivity"] == []
    assert not np.array_equal(asked.score, ranking.score)


def test_contrast_rows_that_cannot_be_read_and_a_hook_that_is_not_there(
    tmp_path: Path, jsonl: Callable[..., Path]
) -> None:
    folder = small_llama(tmp_path / "model")
    candidates = candidates_in(jsonl([chat("q", "a")]))
    told = {
        "contrast_toxic": (str(jsonl([chat("long " * 300, "a")] * 5, "toxic.jsonl")),),
        "contrast_benign": (str(jsonl([chat("q", "b")] * 5, "benign.jsonl")),),
    }
    with pytest.raises(SaefilterError, match="no toxic contrast row can be read"):
        ranked(candidates, "larf", folder, **told)
    with pytest.raises(SaefilterError, match="has 4 layers"):
        ranked(candidates, "larf", folder, hook="blocks.9.hook_resid_post")


def test_anchors_stay_paired_and_what_was_learnt_is_kept_whole() -> None:
    contrast = contrast_of(*pairs(5, 40))
    few = anchors(contrast, 10)
    assert len(few.conversations) == 20
    assert few.toxic.sum() == 10
    assert [one[0] for one in few.conversations[:10]] == [one[0] for one in few.conversations[10:]]
    learnt = Learnt(3, np.arange(8, dtype=np.float32).reshape(4, 2), np.ones(7, dtype=np.float32))
    again = Learnt.of(learnt.numbers())
    assert again.layer == 3
    assert np.array_equal(again.sensitivity, learnt.sensitivity)
    assert np.array_equal(again.direction, learnt.direction)
