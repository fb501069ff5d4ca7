"""Gradient similarity against gradients that autograd forms whole, and against what a step of training does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from checkpoints import save_model, small_tokenizer
from conftest import chat
from scipy.stats import spearmanr
from small_causal import (
    candidates_in,
    contrast_of,
    mixed,
    ranked,
    said,
    selection_of,
    small_llama,
    words,
)

from saefilter.encode.causal import layer_stack
from saefilter.rows.formats import ASSISTANT, Conversation, Message
from saefilter.select.causal_reader import CausalReader, mean_losses
from saefilter.select.gradients import Learnt, RowGradients, learn, similarity
from saefilter.select.larf import unit
from saefilter.stats.auroc import auroc


def small_gpt2(folder: Path) -> Path:
    """A GPT-2, whose linear maps are of another kind."""
    tokenizer = small_tokenizer(bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    config = hf.GPT2Config(n_embd=32, n_layer=4, n_head=2, n_positions=96)
    save_model(config, folder, tokenizer, model_class=hf.GPT2LMHeadModel)
    return folder


def small_gpt_oss(folder: Path) -> Path:
    """A mixture of experts."""
    tokenizer = small_tokenizer(bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    config = hf.GptOssConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=48,
        num_key_value_heads=1, head_dim=8, num_local_experts=4, num_experts_per_tok=2,
        max_position_embeddings=96,
    )  # fmt: skip
    save_model(config, folder, tokenizer, model_class=hf.GptOssForCausalLM)
    return folder


@pytest.fixture
def gradients(tmp_path: Path, jsonl: Callable[..., Path]) -> RowGradients:
    candidates = candidates_in(jsonl([chat("q", "a")]))
    folder = small_llama(tmp_path / "model")
    reader = CausalReader.load(candidates, selection_of("gradient", folder), None)
    return RowGradients(reader, 0)


def in_order(gradients: RowGradients, conversations: Sequence[Conversation]) -> np.ndarray:
    found = np.zeros((len(conversations), gradients.size), dtype=np.float32)
    for rows, values in gradients.pieces(conversations):
        found[rows] = values
    return found


def whole_gradients(
    reader: CausalReader, conversations: Sequence[Conversation], of: RowGradients
) -> list[dict[str, torch.Tensor]]:
    """Each row's gradient of its mean loss, by autograd, one row and one window at a time."""
    model = reader.model.model
    weights = {name: module.weight for name, module in of.maps}
    found = []
    for conversation in conversations:
        _, windows = reader.renderer.render([conversation])
        loss, count = torch.zeros(()), 0
        for weight in weights.values():
            weight.requires_grad_(True)
            weight.grad = None
        for window in windows:
            ids = torch.from_numpy(window.ids)[None]
            labels = torch.where(torch.from_numpy(window.scored)[None], ids, -100)
            n = int(window.scored[1:].sum())
            loss = loss + model(input_ids=ids, labels=labels).loss * n
            count += n
        (loss / count).backward()
        found.append(
            {
                # Conv1D keeps its weight the other way round
                name: weight.grad.T if type(module).__name__ == "Conv1D" else weight.grad.clone()
                for (name, module), weight in zip(of.maps, weights.values(), strict=True)
            }
        )
        model.requires_grad_(False)
    return found


ROWS = [
    said("one", "two three"),
    said("a longer question", "x"),
    said("q", "an answer longer than the context " * 5),
    (Message("text", "a plain text"),),
    (Message("user", "a"), Message(ASSISTANT, "b"), Message("user", "c"), Message(ASSISTANT, "d")),
]


@pytest.mark.parametrize("build", [small_llama, small_gpt2])
def test_gradients_are_those_of_autograd_projected(
    tmp_path: Path, jsonl: Callable[..., Path], build: Callable[[Path], Path]
) -> None:
    candidates = candidates_in(jsonl([chat("q", "a")]))
    selection = selection_of("gradient", build(tmp_path / "model"))
    reader = CausalReader.load(candidates, selection, None)
    gradients = RowGradients(reader, 3)
    found = in_order(gradients, ROWS)
    for row, whole in enumerate(whole_gradients(reader, ROWS, gradients)):
        expected = []
        for name, _ in gradients.maps:
            matrix = whole[name]
            out = gradients._projection(f"{name} out", matrix.T)
            into = gradients._projection(f"{name} in", matrix)
            expected.append((out.T @ matrix @ into).flatten())
        np.testing.assert_allclose(found[row], torch.cat(expected).numpy(), rtol=1e-3, atol=1e-5)


def test_experts_are_left_out_and_attention_is_not(
    tmp_path: Path, jsonl: Callable[..., Path]
) -> None:
    candidates = candidates_in(jsonl([chat("q", "a")]))
    selection = selection_of("gradient", small_gpt_oss(tmp_path / "model"))
    gradients = RowGradients(CausalReader.load(candidates, selection, None), 0)
    assert any("q_proj" in name for name, _ in gradients.maps)
    found = in_order(gradients, ROWS[:2])
    assert np.isfinite(found).all()
    assert (np.abs(found).sum(axis=1) > 0).all()


def test_cosines_survive_the_projection(gradients: RowGradients) -> None:
    rng = np.random.default_rng(0)
    asked, answers = words(rng, 12), words(rng, 12, "stuv")
    rows = [said(one, other) for one, other in zip(asked, answers, strict=True)]
    projected = unit(in_order(gradients, rows))
    whole = whole_gradients(gradients.reader, rows, gradients)
    flat = unit(np.stack([torch.cat([g.flatten() for g in one.values()]).numpy() for one in whole]))
    above = np.triu_indices(len(rows), 1)
    true, kept = (flat @ flat.T)[above], (projected @ projected.T)[above]
    assert np.abs(true - kept).mean() < 0.1
    assert np.corrcoef(true, kept)[0, 1] > 0.8


def planted(seed: int, count: int) -> tuple[list[Conversation], list[Conversation]]:
    """Toxic and benign answers to other questions each: of letters that are toxic or benign more often."""
    rng = np.random.default_rng(seed)
    toxic, benign = words(rng, count, "ssstuv"), words(rng, count, "tuvwww")
    return (
        [said(one, f"{end}") for one, end in zip(words(rng, count), toxic, strict=True)],
        [said(one, f"{end}") for one, end in zip(words(rng, count), benign, strict=True)],
    )


def test_rows_that_teach_toxic_rows_come_first(gradients: RowGradients) -> None:
    """What a step of Adam on each row alone does to the loss of toxic and benign contrast rows is what
    the score promises."""
    contrast = contrast_of(*planted(1, 32))
    toxic, benign = planted(2, 12)
    rows = [*toxic, *benign]
    score = similarity(gradients, rows, learn(gradients, contrast))
    reader = gradients.reader
    before = mean_losses(reader, contrast.conversations)
    # Adam's second moment, of each weight, by the contrast rows
    of_contrast = whole_gradients(reader, contrast.conversations, gradients)
    moment = {
        name: torch.stack([one[name] ** 2 for one in of_contrast]).mean(0)
        for name, _ in gradients.maps
    }
    taught = []
    for one in whole_gradients(reader, rows, gradients):
        step = {
            name: gradient / moment[name].sqrt().clamp(min=1e-8) for name, gradient in one.items()
        }
        length = float(torch.stack([(one[name] * step[name]).sum() for name in one]).sum()) ** 0.5
        with torch.no_grad():
            for name, module in gradients.maps:
                module.weight.sub_(step[name], alpha=0.01 / length)
            after = mean_losses(reader, contrast.conversations)
            for name, module in gradients.maps:
                module.weight.add_(step[name], alpha=0.01 / length)
        learnt = before - after
        taught.append(learnt[contrast.toxic].mean() - learnt[~contrast.toxic].mean())
    assert spearmanr(score, taught).statistic > 0.9
    bad = np.arange(len(rows)) < len(toxic)
    assert auroc(bad, score) > 0.75


def test_sides_that_mean_nothing_rank_at_chance(gradients: RowGradients) -> None:
    contrast = contrast_of(*planted(1, 32))
    toxic, benign = planted(2, 24)
    vectors = in_order(gradients, [*toxic, *benign])
    bad = np.arange(48) < 24

    def told_apart(by: Learnt) -> float:
        return auroc(bad, unit(vectors / by.scale) @ by.direction)

    assert told_apart(learn(gradients, contrast)) > 0.75
    found = [told_apart(learn(gradients, one)) for one in mixed(contrast, 12)]
    assert abs(np.mean(found) - 0.5) < 0.12


def test_what_is_not_trained_has_no_gradient(gradients: RowGradients) -> None:
    answered = said("question", "answer")
    asked_again = (*answered, Message("user", "and something else"))
    marked = (Message("user", "question"), Message(ASSISTANT, "answer", train=False))
    one, again = in_order(gradients, [answered, asked_again])
    np.testing.assert_allclose(again, one, rtol=1e-3, atol=1e-6)
    assert np.isnan(in_order(gradients, [marked])).all()
    other = in_order(gradients, [said("another question", "answer")])[0]
    assert not np.allclose(other, one, rtol=1e-2)  # what was read before it does count


def test_ranked_once_by_the_seed_and_kept(tmp_path: Path, jsonl: Callable[..., Path]) -> None:
    folder = small_llama(tmp_path / "model")
    toxic, benign = planted(1, 6)
    rows_of: Any = lambda side: [chat(one[0].content, one[1].content) for one in side]  # noqa: E731
    told = {
        "contrast_toxic": (str(jsonl(rows_of(toxic), "toxic.jsonl")),),
        "contrast_benign": (str(jsonl(rows_of(benign), "benign.jsonl")),),
    }
    candidates = candidates_in(jsonl([*rows_of(toxic), *rows_of(benign)]))
    first = ranked(candidates, "gradient", folder, **told)
    again = ranked(candidates, "gradient", folder, **told)
    other = ranked(candidates, "gradient", folder, seed=1, **told)
    assert first.score is not None
    assert other.score is not None
    assert np.array_equal(first.score, again.score)
    assert not np.array_equal(first.score, other.score)
    assert np.corrcoef(first.score, other.score)[0, 1] > 0.8
    assert auroc(np.arange(12) < 6, first.score) == 1  # they are the contrast rows themselves
    assert first.details["layers"] == "3 to 4"
    assert len(layer_stack(hf.AutoModelForCausalLM.from_pretrained(folder))) == 4
