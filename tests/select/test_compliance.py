"""The compliance direction on a small model in which one layer writes it and the next takes it back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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
    words,
)
from transformers import AutoTokenizer

from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation, Message
from saefilter.select.compliance import (
    Learnt,
    direction_of,
    folds_of_groups,
    held_out_separation,
    learn,
    shifts,
)
from saefilter.stats.auroc import auroc

MARKED, WRITTEN, CONSTANT = 0, 1, 31
"""Dimensions: of the letters that mark a stance, of the compliance direction, and one to keep lengths alike."""


def complying(folder: Path, layer: int) -> Path:
    """Attention alone acts, evenly over all tokens so far: the layer, counted from 1, copies what marks a
    stance into a direction, and the next one takes it out again. `+` and `-` mark it by which of them comes
    first, so that no embedding tells."""

    def plant(model: Any) -> None:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        table = model.model.embed_tokens.weight
        with torch.no_grad():
            table.copy_(0.3 * torch.randn(table.shape, generator=torch.Generator().manual_seed(1)))
            table[:, MARKED] = 0
            table[:, CONSTANT] = 25
            for letter, value in (("+", 3.0), ("-", -3.0)):
                table[tokenizer(letter)["input_ids"][0], MARKED] = value
            for one in model.model.layers:
                one.input_layernorm.weight.fill_(1)
                for part in (one.self_attn.o_proj, one.self_attn.q_proj, one.self_attn.v_proj):
                    part.weight.zero_()
                one.mlp.down_proj.weight.zero_()
                one.self_attn.v_proj.weight[0, MARKED] = 1
            layers = model.model.layers
            layers[layer - 1].self_attn.o_proj.weight[WRITTEN, 0] = 20
            layers[layer].self_attn.o_proj.weight[WRITTEN, 0] = -20

    return small_llama(folder, plant)


def stances(seed: int, count: int) -> tuple[list[Conversation], list[Conversation]]:
    """Answers that comply, and such that refuse, each to a question of its own."""
    rng = np.random.default_rng(seed)
    asked, texts = words(rng, 2 * count), words(rng, 2 * count, "stuvwxyz")
    rows = [
        said(one, f"{first}{text}{last}")
        for one, text, (first, last) in zip(
            asked, texts, ["+-"] * count + ["-+"] * count, strict=True
        )
    ]
    return rows[:count], rows[count:]


@pytest.mark.parametrize("layer", [1, 3])
def test_the_direction_is_found_at_the_layer_that_writes_it(
    tmp_path: Path, jsonl: Callable[..., Path], layer: int
) -> None:
    folder = complying(tmp_path / "model", layer)
    reader = reader_of(candidates_in(jsonl([chat("q", "a")])), "compliance", folder)
    contrast = contrast_of(*stances(1, 30))
    learnt = learn(reader, contrast, None)
    assert learnt.layer == layer
    others = np.delete(learnt.separation, layer - 1)
    assert len(others) == LAYERS - 1
    assert learnt.separation[layer - 1] > 0.5
    assert np.abs(others).max() < 0.2
    assert learnt.direction[WRITTEN] > 0.9
    complied, refused = stances(2, 20)
    bad = np.arange(40) < 20
    rows = [*complied, *refused]
    assert auroc(bad, shifts(reader, rows, learnt)) > 0.95
    by_chance, separations = [], []
    for one in mixed(contrast, 12):
        found = learn(reader, one, None)
        separations.append(found.separation.max())
        by_chance.append(auroc(bad, shifts(reader, rows, found)))
    assert abs(np.mean(by_chance) - 0.5) < 0.2
    assert np.median(separations) < 0.2


def test_a_shift_is_the_answers_mean_less_the_prompts_last_token(
    tmp_path: Path, jsonl: Callable[..., Path]
) -> None:
    folder = complying(tmp_path / "model", 2)
    complied, refused = stances(3, 8)
    rows_of: Any = lambda side: [chat(one[0].content, one[1].content) for one in side]  # noqa: E731
    told = {
        "contrast_toxic": (str(jsonl(rows_of(complied), "toxic.jsonl")),),
        "contrast_benign": (str(jsonl(rows_of(refused), "benign.jsonl")),),
    }
    candidates = candidates_in(jsonl([chat("what", "-no+"), chat("why", "+so-"), {"text": "+a-"}]))
    ranking = ranked(candidates, "compliance", folder, **told)
    assert ranking.details["hook"] == "blocks.1.hook_resid_post"
    assert len(ranking.details["held_out_compliance_aware_score"]) == LAYERS
    reader = reader_of(candidates, "compliance", folder)
    plain, tokenizer = reader.model.model, reader.renderer.tokenizer

    def parts(prompt: str, answer: str) -> tuple[np.ndarray, np.ndarray]:
        start = [plain.config.bos_token_id, *tokenizer(prompt + "\n\n")["input_ids"]]
        ids = torch.tensor([[*start, *tokenizer(answer)["input_ids"]]])
        with torch.no_grad():
            hidden = plain(ids, output_hidden_states=True).hidden_states[2][0].numpy()
        return hidden[len(start) :].mean(axis=0), hidden[len(start) - 1]

    means = [
        np.mean([parts(one[0].content, one[1].content)[0] for one in side], axis=0)
        for side in (complied, refused)
    ]
    direction = (means[0] - means[1]) / np.linalg.norm(means[0] - means[1])
    assert ranking.score is not None
    for score, row in zip(ranking.score, (("what", "-no+"), ("why", "+so-")), strict=False):
        answer, before = parts(*row)
        assert score == pytest.approx(float((answer - before) @ direction), abs=1e-4)
    assert np.isnan(ranking.score[2])  # a text that answers nothing shifts nothing
    assert ranking.order.tolist() == [1, 0, 2]
    assert np.array_equal(
        ranked(candidates, "compliance", folder, **told).score, ranking.score, equal_nan=True
    )


def test_separation_is_the_share_of_variance_between_sides_where_nothing_was_learnt() -> None:
    rng = np.random.default_rng(0)
    side, fold = np.arange(400) % 2 == 0, np.arange(400) // 2 % 5
    noise = rng.normal(size=(400, 6)).astype(np.float32)
    for gap in (0.0, 2.0, 6.0):
        means = noise.copy()
        means[side, 2] += gap
        # of a gap between two halves of unit variance, g^2 / 4 lies between them
        expected = (gap**2 / 4) / (gap**2 / 4 + 1)
        assert held_out_separation(means, side, fold) == pytest.approx(expected, abs=0.05)
    many = rng.normal(size=(40, 500)).astype(np.float32)  # told apart where learnt, not where not
    side, fold = np.arange(40) % 2 == 0, np.arange(40) // 2 % 5
    place = many @ direction_of(many, side)
    assert place[side].min() > place[~side].max()
    assert abs(held_out_separation(many, side, fold)) < 0.3
    assert held_out_separation(many, side, np.zeros(40, dtype=np.int64)) == 0


def test_answers_to_one_prompt_share_a_fold_and_one_group_is_refused() -> None:
    complied, refused = stances(4, 12)
    pairs = [*complied, *((one[0], other[1]) for one, other in zip(complied, refused, strict=True))]
    fold = folds_of_groups(pairs)
    assert np.array_equal(fold[:12], fold[12:])
    assert set(fold) == set(range(5))
    same = [(Message("user", "the one question"), one[1]) for one in complied]
    with pytest.raises(SaefilterError, match="belong together") as caught:
        folds_of_groups(same)
    assert "--hook" in str(caught.value.remedy)


def test_what_was_learnt_is_kept_whole() -> None:
    learnt = Learnt(2, np.arange(4, dtype=np.float32), np.ones(7, dtype=np.float32))
    again = Learnt.of(learnt.numbers())
    assert again.layer == 2
    assert np.array_equal(again.separation, learnt.separation)
    assert np.array_equal(again.direction, learnt.direction)
