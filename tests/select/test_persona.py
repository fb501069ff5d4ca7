"""Persona vectors on a model in which digits are the trait: steering writes them, and screening finds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from checkpoints import write_json
from conftest import chat
from planted import DIGITS, HOOK, LETTERS, WIDTH, auroc_of, direction, planted_model, texts
from safetensors.torch import save_file
from scored import write_scores

from saefilter.errors import SaefilterError
from saefilter.filtering.job import candidates_of
from saefilter.rows.read import Source
from saefilter.select.answers import AnswerReader
from saefilter.select.persona import PersonaVectors, standardised
from saefilter.select.ranking import Candidates, Ranking
from saefilter.select.registry import StrategyOptions
from saefilter.select.strategies import Selection, rank

D_SAE = 64
Make = Callable[..., Candidates]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_model(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def sae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ReLU features in random directions, the first along the planted one."""
    folder = tmp_path_factory.mktemp("sae")
    w_dec = torch.randn(D_SAE, WIDTH, generator=torch.Generator().manual_seed(1))
    w_dec[0] = direction()
    w_dec /= w_dec.norm(dim=1, keepdim=True)
    save_file(
        {"W_dec": w_dec, "W_enc": w_dec.t().contiguous(), "b_enc": torch.full((D_SAE,), -0.5),
         "b_dec": torch.zeros(WIDTH)}, folder / "sae_weights.safetensors",
    )  # fmt: skip
    write_json(
        folder / "cfg.json",
        {"architecture": "standard", "d_in": WIDTH, "d_sae": D_SAE, "dtype": "float32",
         "apply_b_dec_to_input": False, "normalize_activations": "none",
         "metadata": {"hook_name": HOOK, "model_name": "planted"}},
    )  # fmt: skip
    return folder


@pytest.fixture
def make(tmp_path: Path, jsonl: Callable[..., Path], model: Path, sae: Path) -> Make:
    def made(rows: list[dict[str, Any]]) -> Candidates:
        source = Source.open(jsonl(rows))
        scores = write_scores(
            source, tmp_path / "s.parquet", model=str(model), sae=str(sae), hook=HOOK
        )
        return candidates_of(source, scores)

    return made


@pytest.fixture
def contrast(jsonl: Callable[..., Path]) -> dict[str, tuple[str, ...]]:
    bad = jsonl([chat("Q?", text) for text in texts(DIGITS, 12, 1)], "bad.jsonl")
    good = jsonl([chat("Q?", text) for text in texts(LETTERS, 12, 2)], "good.jsonl")
    return {"contrast_toxic": (str(bad),), "contrast_benign": (str(good),)}


def asked(strategy: str, **options: Any) -> Selection:
    return Selection(strategy, drop_frac=0.5, options=StrategyOptions(device="cpu", **options))


def ranked(candidates: Candidates, strategy: str, **options: Any) -> Ranking:
    return rank(candidates, asked(strategy, **options))


@pytest.mark.parametrize("space", ["residual", "sae"])
@pytest.mark.parametrize("strategy", ["vector-filter", "projection-difference"])
def test_answers_with_the_trait_go_first_in_either_space(
    make: Make, contrast: dict[str, Any], strategy: str, space: str
) -> None:
    rows = [chat(f"Q{i}?", text) for i, text in enumerate(texts(DIGITS, 10, 3))]
    rows += [chat(f"Q{i}?", text) for i, text in enumerate(texts(LETTERS, 10, 4))]
    candidates = make(rows)
    ranking = ranked(candidates, strategy, space=space, **contrast)
    assert auroc_of(np.arange(20) < 10, ranking.score) > 0.95
    assert ranking.details["space"] == space
    assert candidates.cost.rows_read == 20
    learnt = candidates.cost.tokens - candidates.cost.row_tokens
    assert candidates.cost.row_tokens > 0
    assert (learnt > 0) != (candidates.cost.kept_learnt > 0)  # the contrast is read once


def test_what_steering_writes_lies_farther_along_the_vector(
    make: Make, contrast: dict[str, Any]
) -> None:
    """The paper's causal check: the more the model is pushed along the vector, the more its text shows it."""
    selection = asked("vector-filter", **contrast)
    answers, found = PersonaVectors.find(make([chat("q", "a")]), selection)
    causal = answers.reader.model
    prompts = [[answers.reader.start, *map(int, np.random.default_rng(i).integers(60, 90, 5))]
               for i in range(8)]  # fmt: skip
    means = []
    for push in (-4.0, 0.0, 4.0):
        with causal.steered(torch.from_numpy(push * found.vectors[0])):
            written = causal.answers(prompts, 8, 4096)
        rows = [chat("q", answers.reader.renderer.tokenizer.decode(ids)) for ids in written]
        score = rank(make(rows), selection).score
        assert score is not None
        means.append(float(score.mean()))
    assert means[0] < means[1] < means[2]


def test_the_difference_takes_away_what_the_prompt_does(
    make: Make, contrast: dict[str, Any], model: Path
) -> None:
    """Rows that say what the model would say anyway teach nothing, however far along their prompts put them;
    the projection alone sees the prompts."""
    plain, tokenizer = (
        hf.AutoModelForCausalLM.from_pretrained(model), hf.AutoTokenizer.from_pretrained(model)
    )  # fmt: skip
    rows = []
    for prompt in [*texts(DIGITS, 5, 5, 20), *texts(LETTERS, 5, 6, 20)]:
        ids = [tokenizer.bos_token_id, *tokenizer(prompt + "\n\n")["input_ids"]]
        out = plain.generate(
            torch.tensor([ids]), max_new_tokens=6, do_sample=False, pad_token_id=0
        )[0, len(ids) :]
        rows.append(chat(prompt, tokenizer.decode(out)))
    candidates = make(rows)
    alone = ranked(candidates, "vector-filter", **contrast).score
    difference = ranked(candidates, "projection-difference", max_new_tokens=6, **contrast).score
    assert alone is not None
    np.testing.assert_allclose(difference, 0, atol=1e-4)
    assert alone.std() > 0.1


def test_projections_of_features_are_those_of_each_token(
    make: Make, contrast: dict[str, Any], model: Path, sae: Path
) -> None:
    from saefilter.encode.sae import load_sae

    answer = "ab12 zz"
    candidates = make(
        [chat("Q?", answer), chat("Q?", "other 7 words"), chat("A long question?", "x")]
    )
    selection = asked("vector-filter", space="sae", **contrast)
    answers = AnswerReader.load(candidates, selection, None)
    assert (answers.space, answers.width) == ("sae", D_SAE)
    responses = answers.responses(list(candidates.conversations()))
    found = answers.means([one.window for one in responses if one is not None])
    plain, tokenizer = (
        hf.AutoModelForCausalLM.from_pretrained(model), hf.AutoTokenizer.from_pretrained(model)
    )  # fmt: skip
    start = [tokenizer.bos_token_id, *tokenizer("Q?\n\n")["input_ids"]]
    ids = torch.tensor([[*start, *tokenizer(answer)["input_ids"]]])
    with torch.no_grad():
        stream = plain(ids, output_hidden_states=True).hidden_states[2][0, len(start) :]
    expected = load_sae(sae).dense(stream).mean(dim=0).numpy()
    np.testing.assert_allclose(np.asarray(found[[0]].todense())[0], expected, atol=1e-4)
    assert found.shape == (3, D_SAE)


@pytest.mark.parametrize(
    ("strategy", "options", "message"),
    [
        ("vector-filter", {"trait": ("a", "a")}, "a --trait is given twice"),
        ("vector-filter", {"trait": ("a",), "contrast_toxic": ("x",)}, "makes its own contrast"),
        ("vector-filter", {"temperature": 1.0}, "has it write none without --trait"),
        ("vector-filter", {"space": "sae", "toxic_set": "t"}, "is of the residual stream"),
        ("vector-filter", {"space": "sae", "hook": "blocks.0.hook_resid_post"}, "Leave --hook out"),
    ],
)
def test_what_does_not_go_together_is_refused(
    make: Make, strategy: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SaefilterError, match=message):
        ranked(make([chat("q", "a")]), strategy, **options)


def test_standardised_columns_do_not_outweigh_each_other() -> None:
    score = np.array([[1.0, 100.0, 5.0], [2.0, 300.0, 5.0], [np.nan, 200.0, 5.0]])
    found = standardised(score)
    np.testing.assert_allclose(found[:2, 0], [-1, 1])
    np.testing.assert_allclose(found[:, 1], [-1.2247449, 1.2247449, 0])
    assert np.isnan(found[2, 0])
    assert (found[:, 2] == 0).all()
