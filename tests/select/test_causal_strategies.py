"""Strategies that read rows with a causal model, on small random checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from checkpoints import save_model, small_tokenizer
from conftest import chat
from scored import write_scores

from saefilter.encode.causal import load_causal_model
from saefilter.errors import SaefilterError
from saefilter.filtering.job import candidates_of
from saefilter.rows.read import Source
from saefilter.select.causal_reader import CausalReader
from saefilter.select.per_row import RowCache
from saefilter.select.ranking import Candidates, Ranking
from saefilter.select.registry import StrategyOptions
from saefilter.select.strategies import Selection, rank
from saefilter.toxic.toxicset import ToxicFeature, ToxicSet
from saefilter.watch import Watch

SIZES: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 128,
}  # fmt: skip
GROUPED: dict[str, Any] = {**SIZES, "num_key_value_heads": 1, "head_dim": 8}
FAMILIES: dict[str, tuple[Any, Any]] = {
    "llama": (hf.LlamaConfig(**GROUPED), hf.LlamaForCausalLM),
    "gemma2": (hf.Gemma2Config(**GROUPED, sliding_window=16), hf.Gemma2ForCausalLM),
    "qwen2": (hf.Qwen2Config(**{k: v for k, v in GROUPED.items() if k != "head_dim"}),
              hf.Qwen2ForCausalLM),
    "gpt2": (hf.GPT2Config(n_embd=32, n_layer=4, n_head=2, n_positions=128), hf.GPT2LMHeadModel),
}  # fmt: skip
HOOK = "blocks.1.hook_resid_post"
ANSWERS = ["Yes, of course.", "zzz qqq xxx", "Never ever do that, it is dangerous!", "No.", "No."]


def saved(folder: Path, family: str = "llama") -> Path:
    config, model_class = FAMILIES[family]
    tokenizer = small_tokenizer(bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    for name in ("bos", "eos", "pad"):
        setattr(config, f"{name}_token_id", tokenizer.convert_tokens_to_ids(f"<{name}>"))
    save_model(config, folder, tokenizer, model_class=model_class)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def scored(tmp_path: Path, jsonl: Callable[..., Path]) -> Candidates:
    rows = [chat(f"Question {len(answer)}?", answer) for answer in ANSWERS]
    source = Source.open(jsonl([*rows, {"text": "Plain text."}]))
    return candidates_of(source, write_scores(source, tmp_path / "s.parquet"))


def whole(folder: Path) -> tuple[Any, Any]:
    """The model and tokenizer as Hugging Face loads them."""
    return (
        hf.AutoModelForCausalLM.from_pretrained(folder).eval(),
        hf.AutoTokenizer.from_pretrained(folder),
    )


def ranked(
    scored: Candidates, strategy: str, model: Path, seed: int = 0, **options: Any
) -> Ranking:
    asked = StrategyOptions(model=str(model), device="cpu", **options)
    return rank(scored, Selection(strategy, drop_frac=0.5, seed=seed, options=asked))


def test_loss_is_the_cross_entropy_of_the_trained_tokens(scored: Candidates, model: Path) -> None:
    ranking = ranked(scored, "loss", model)
    plain, tokenizer = whole(model)
    expected = []
    prompts = [f"Question {len(answer)}?\n\n" for answer in ANSWERS]
    for prompt, answer in [*zip(prompts, ANSWERS, strict=True), ("", "Plain text.")]:
        start = [tokenizer.bos_token_id, *tokenizer(prompt)["input_ids"]]
        ids = torch.tensor([[*start, *tokenizer(answer)["input_ids"]]])
        labels = ids.clone()
        labels[0, : len(start)] = -100
        with torch.no_grad():
            expected.append(float(plain(input_ids=ids, labels=labels).loss))
    assert ranking.score is not None
    np.testing.assert_allclose(ranking.score, expected, rtol=1e-4)
    assert np.array_equal(ranking.order, np.argsort(-ranking.score, kind="stable"))
    assert ranking.details["rendering"] == "plain"
    assert "nats" in ranking.score_name


def test_a_rerun_reads_nothing_and_another_model_everything(
    tmp_path: Path, jsonl: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, scored: Candidates,
) -> None:  # fmt: skip
    monkeypatch.setenv("SAEFILTER_CACHE", str(tmp_path / "cache"))
    folder = saved(tmp_path / "model")
    plans: list[tuple[int, int]] = []
    watch = Watch(plan=lambda rows, done: plans.append((rows, done)))
    watched = Candidates(scored.distance, scored.row_ids, scored.scores, scored.source, watch)
    first = ranked(watched, "loss", folder)
    (kept,) = (tmp_path / "cache/strategies").iterdir()
    kept.write_text(kept.read_text() + "a line that a kill cut sh")
    again = ranked(watched, "loss", folder)
    assert plans == [(6, 0), (6, 6)]
    assert np.array_equal(first.score, again.score)
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-40:] = bytes(40)
    weights.write_bytes(data)
    ranked(watched, "loss", folder)
    assert plans[2] == (6, 0)


def test_a_number_that_was_cut_short_is_no_number_even_when_others_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAEFILTER_CACHE", str(tmp_path))
    said: list[str] = []
    RowCache("loss", {}, said.append).put({"abc": 1.2345, "nan": float("nan")})
    (path,) = (tmp_path / "strategies").iterdir()
    assert RowCache("loss", {}, said.append).get("abc") == 1.2345
    for cut in range(1, len("abc 1.2345 .")):
        path.write_text("\nabc 1.2345 ."[:-cut])
        cache = RowCache("loss", {}, said.append)
        cache.put({"def": 2.0})
        again = RowCache("loss", {}, said.append)
        assert (again.get("abc"), again.get("def")) == (None, 2.0)
    assert not said


def test_a_cache_that_cannot_be_written_costs_nothing_but_the_rerun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "strategies").write_text("a file where the folder should be")
    monkeypatch.setenv("SAEFILTER_CACHE", str(tmp_path))
    said: list[str] = []
    cache = RowCache("loss", {}, said.append)
    cache.put({"abc": 1.0})
    cache.put({"def": 2.0})
    assert (cache.get("abc"), cache.get("def")) == (1.0, 2.0)
    assert len(said) == 1
    assert "cannot be kept for a rerun" in said[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_in_batches_are_those_of_one_prompt_at_a_time(tmp_path: Path, family: str) -> None:
    folder = saved(tmp_path, family)
    causal = load_causal_model(
        str(folder), 2, revision=None, dtype="fp32", device=torch.device("cpu")
    )
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 200, size).tolist() for size in (1, 3, 17, 17, 30)]
    together = causal.answers(prompts, 6, 4096)
    assert together == [causal.answers([prompt], 6, 1)[0] for prompt in prompts]
    ends = causal.model.generation_config.eos_token_id
    for prompt, answer in zip(prompts, together, strict=True):
        alone = causal.continuation(prompt, 6)
        assert answer == alone[: alone.index(ends) if ends in alone else 6]


@pytest.mark.parametrize("family", FAMILIES)
def test_mean_residuals_are_those_of_the_whole_model(tmp_path: Path, family: str) -> None:
    from saefilter.rows.rendered import Window

    folder = saved(tmp_path, family)
    causal = load_causal_model(
        str(folder), 2, revision=None, dtype="fp32", device=torch.device("cpu")
    )
    rng = np.random.default_rng(0)
    windows = [
        Window(i, rng.integers(0, 200, size), rng.random(size) < 0.5, np.zeros((size, 2), np.int32))
        for i, size in enumerate((4, 9, 20))
    ]
    found = causal.mean_residual(windows, 64).numpy()
    plain, _ = whole(folder)
    for window, mean in zip(windows, found, strict=True):
        with torch.no_grad():
            hidden = plain(torch.from_numpy(window.ids)[None], output_hidden_states=True)
        stream = hidden.hidden_states[2][0].numpy()  # after the second of four layers
        expected = stream[window.scored].mean(axis=0) if window.scored.any() else 0 * stream[0]
        np.testing.assert_allclose(mean, expected, rtol=1e-3, atol=1e-4)
    assert causal.log_likelihood(windows[:1], 64).isfinite().all()  # the hook is gone


def residuals(plain: Any, ids: list[int], start: int) -> np.ndarray:
    with torch.no_grad():
        out = plain(torch.tensor([ids]), output_hidden_states=True)
    mean: np.ndarray = out.hidden_states[2][0, start:].mean(dim=0).numpy()
    return mean


@pytest.fixture
def contrast(jsonl: Callable[..., Path]) -> dict[str, Any]:
    toxic = jsonl([chat("Q?", f"zz{i} qq") for i in range(5)], "toxic.jsonl")
    benign = jsonl([chat("Q?", f"Hello {i}") for i in range(5)], "benign.jsonl")
    return {"contrast_toxic": (str(toxic),), "contrast_benign": (str(benign),)}


def test_projection_difference_is_the_formula(
    scored: Candidates, model: Path, contrast: dict[str, Any]
) -> None:
    ranking = ranked(
        scored, "projection-difference", model, hook=HOOK, max_new_tokens=5, **contrast
    )
    plain, tokenizer = whole(model)

    def ids_of(prompt: str, answer: str) -> tuple[list[int], int]:
        start = [tokenizer.bos_token_id, *tokenizer(prompt)["input_ids"]]
        return [*start, *tokenizer(answer)["input_ids"]], len(start)

    means = [
        np.mean([residuals(plain, *ids_of("Q?\n\n", form.format(i))) for i in range(5)], axis=0)
        for form in ("zz{} qq", "Hello {}")
    ]
    direction = (means[0] - means[1]) / np.linalg.norm(means[0] - means[1])
    expected = []
    prompts = [f"Question {len(answer)}?\n\n" for answer in ANSWERS]
    for prompt, answer in [*zip(prompts, ANSWERS, strict=True), ("", "Plain text.")]:
        ids, start = ids_of(prompt, answer)
        own = plain.generate(
            torch.tensor([ids[:start]]), max_new_tokens=5, do_sample=False, pad_token_id=0
        )[0].tolist()
        while tokenizer.eos_token_id in own[start:]:
            own.pop()
        assert len(own) > start
        difference = residuals(plain, ids, start) - residuals(plain, own, start)
        expected.append(float(difference @ direction))
    assert ranking.score is not None
    np.testing.assert_allclose(ranking.score, expected, rtol=1e-3, atol=1e-4)
    assert ranking.score[3] == ranking.score[4]  # the same row twice
    assert ranking.details["hook"] == HOOK
    assert ranking.details["max_new_tokens"] == 5


def test_sampled_answers_are_seeded(
    scored: Candidates, model: Path, contrast: dict[str, Any]
) -> None:
    options = {"hook": HOOK, "max_new_tokens": 8, "temperature": 1.0, **contrast}
    one, again, other = (
        ranked(scored, "projection-difference", model, seed, **options).score for seed in (1, 1, 2)
    )
    assert one is not None
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_the_direction_of_a_toxic_set_of_the_model(
    scored: Candidates, model: Path, tmp_path: Path
) -> None:
    feature = ToxicFeature(0, "toxic", 1.0, "risk", 1.0, 0.9, 0.01)
    made_set = ToxicSet(
        "mine", str(model), "sae", HOOK, 32, 1, "f" * 64, "mean", {}, [], [feature], [1.0], 0.0,
        np.eye(32)[3].tolist(), [0.0] * 32, [1.0],
    )  # fmt: skip
    path = tmp_path / "set.json"
    path.write_text(made_set.to_json())
    ranking = ranked(scored, "projection-difference", model, toxic_set=str(path), max_new_tokens=3)
    assert ranking.details["toxic_set"] == made_set.name
    assert ranking.details["hook"] == HOOK
    path.write_text(
        replace(made_set, direction=[1.0] * 8, direction_mean=[0.0] * 8, d_model=8).to_json()
    )
    with pytest.raises(SaefilterError, match="direction has 8 numbers, the model's residual 32"):
        ranked(scored, "projection-difference", model, toxic_set=str(path))


@pytest.mark.parametrize("strategy", ["loss", "projection-difference"])
def test_scores_of_an_encoder_name_no_causal_model(
    strategy: str, tmp_path: Path, jsonl: Callable[..., Path]
) -> None:
    source = Source.open(jsonl([chat("q", "a")]))
    scores = write_scores(source, tmp_path / "s.parquet", model="package:weights/model")
    with pytest.raises(SaefilterError, match=f"--strategy {strategy} reads with a causal model"):
        rank(candidates_of(source, scores), Selection(strategy, drop_frac=0.5))


def test_the_scores_own_model_is_the_default(
    tmp_path: Path, jsonl: Callable[..., Path], model: Path
) -> None:
    source = Source.open(jsonl([chat("q", "a"), chat("q", "zz")]))
    scores = write_scores(source, tmp_path / "s.parquet", model=str(model), hook=HOOK)
    own = rank(candidates_of(source, scores), Selection("loss", drop_frac=0.5))
    named = ranked(candidates_of(source, scores), "loss", model)
    assert np.array_equal(own.score, named.score)
    assert isinstance(own.details["model"], str)


def test_a_context_too_short_for_prompt_and_answer_keeps_the_prompts_end(
    tmp_path: Path, jsonl: Callable[..., Path], model: Path, contrast: dict[str, Any]
) -> None:
    rows = [chat("long " * 40, "yes"), chat("q", "long " * 60), chat("q", "yes")]
    source = Source.open(jsonl(rows))
    candidates = candidates_of(source, write_scores(source, tmp_path / "s.parquet"))
    ranking = ranked(candidates, "projection-difference", model, max_new_tokens=500, **contrast)
    assert ranking.score is not None
    assert np.isfinite(ranking.score).all()
    assert ranking.details["max_new_tokens"] == 64  # half of the context


def test_strategies_read_the_tokens_that_the_scores_were_read_at(
    jsonl: Callable[..., Path], model: Path, tmp_path: Path
) -> None:
    """The loss is of a trainer's tokens, wherever the scores' model was read; a projection is of
    answers, whoever trains."""

    source = Source.open(jsonl([chat("One question?", "a"), chat("q", "zz")]))

    def loss(**made: str) -> list[float]:
        scores = write_scores(source, tmp_path / "s.parquet", model=str(model), hook=HOOK, **made)
        ranking = rank(candidates_of(source, scores), Selection("loss", drop_frac=0.5))
        assert ranking.score is not None
        return [round(value, 4) for value in ranking.score.tolist()]

    usual = loss()
    assert loss(read="before") == usual
    assert loss(trainer="trl") != usual
    assert loss(trainer="trl") == loss(trainer="trl", read="before")
    options = []
    for hook in (None, HOOK):
        scores = write_scores(source, tmp_path / "s.parquet", model=str(model), trainer="trl")
        reader = CausalReader.load(
            candidates_of(source, scores), Selection("loss", drop_frac=0.5), hook
        )
        options.append(reader.renderer.options.by)
    assert options == ["trl", "assistant"]
