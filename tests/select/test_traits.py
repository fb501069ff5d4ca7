"""Traits from sentences, on a small model that was trained to do as it is told: to count, to sing, or neither."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers as hf
from conftest import chat
from planted import auroc_of
from scored import write_scores

from saefilter.compare.compare import compare
from saefilter.filtering.filter import filter_file
from saefilter.filtering.job import candidates_of
from saefilter.rows.read import Source
from saefilter.select.registry import StrategyOptions
from saefilter.select.strategies import Selection, rank
from saefilter.select.traits import ASK, EVERYDAY, asked_with, questions_in, slugs

COUNTS, SINGS = "counts things", "sings songs"
WORDS = {
    COUNTS: ["one", "two", "three", "four", "five", "six"],
    SINGS: ["la", "do", "re", "mi", "fa", "so"],
    None: ["yes", "no", "maybe", "well", "fine", "then"],
}
HOOK = "blocks.1.hook_resid_post"
N = 12


def said(rng: np.random.Generator, persona: str | None) -> str:
    return " ".join(rng.choice(WORDS[persona], 5))


def lessons(rng: np.random.Generator, n: int) -> list[tuple[str, str]]:
    """Prompt and answer: the persona that the instruction asks for, else a plain one."""
    made = []
    for _ in range(n):
        persona = [COUNTS, SINGS, None][rng.integers(3)]
        question = str(rng.choice(EVERYDAY))
        if persona is None:
            made.append((question, said(rng, None)))
            continue
        with_it, without = asked_with(persona)[rng.integers(2)]
        shows = bool(rng.integers(2))
        prompt = f"{with_it if shows else without}\n\n{question}"
        made.append((prompt, said(rng, persona if shows else None)))
    return made


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained for some seconds, on whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    words = pre_tokenizers.Whitespace()
    texts = [*EVERYDAY, ASK, "Yes.", *(text for trait in (COUNTS, SINGS) for pair in asked_with(trait)
             for text in pair), *map(" ".join, WORDS.values())]  # fmt: skip
    known = sorted({word for text in texts for word, _ in words.pre_tokenize_str(text)})
    names = ["<unk>", "<bos>", "<eos>", *known]
    own = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "<unk>"))
    own.pre_tokenizer = words
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=own, unk_token="<unk>", bos_token="<bos>", eos_token="<eos>"
    )
    config = hf.LlamaConfig(
        vocab_size=len(names), hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=96, max_position_embeddings=128, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    network = hf.LlamaForCausalLM(config)
    step = torch.optim.AdamW(network.parameters(), lr=4e-3)
    for _ in range(100):
        ids, labels = _padded(tokenizer, lessons(rng, 24))
        loss = network(input_ids=ids, labels=labels).loss
        step.zero_grad()
        loss.backward()
        step.step()
    folder = tmp_path_factory.mktemp("told")
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _padded(
    tokenizer: hf.PreTrainedTokenizerFast, made: list[tuple[str, str]]
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = [([1, *tokenizer(prompt)["input_ids"]], [*tokenizer(answer)["input_ids"], 2])
            for prompt, answer in made]  # fmt: skip
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for number, (prompt, answer) in enumerate(rows):
        whole = torch.tensor([*prompt, *answer])
        ids[number, : len(whole)] = whole
        labels[number, len(prompt) : len(whole)] = whole[len(prompt) :]
    return ids, labels


@pytest.fixture
def data(tmp_path: Path, jsonl: Callable[..., Path], model: Path) -> tuple[Source, Path]:
    rng = np.random.default_rng(1)
    personas = [*[COUNTS] * N, *[SINGS] * N, *[None] * N]
    rows = [{**chat(str(rng.choice(EVERYDAY)), said(rng, one)), "bad": int(one is not None)}
            for one in personas]  # fmt: skip
    source = Source.open(jsonl(rows))
    path = tmp_path / "s.parquet"
    write_scores(source, path, [0.5] * len(rows), model=str(model), hook=HOOK)
    return source, path


def options(strategy: str = "projection-difference") -> Selection:
    told = StrategyOptions(device="cpu", trait=(COUNTS, SINGS), max_new_tokens=6, temperature=1.0)
    return Selection(strategy, drop_frac=2 / 3, options=told)


def test_two_sentences_tell_two_personas_apart_in_one_pass(data: tuple[Source, Path]) -> None:
    from saefilter.artifacts.scores import Scores

    source, path = data
    candidates = candidates_of(source, Scores.open(path))
    ranking = rank(candidates, options())
    counts, sings = ranking.columns["trait_counts_things"], ranking.columns["trait_sings_songs"]
    place = np.arange(3 * N)
    first, second, plain = place < N, (place >= N) & (place < 2 * N), place >= 2 * N
    for own, column in ((first, counts), (second, sings)):
        assert auroc_of(own[own | plain], column[own | plain]) > 0.95
    # both have in common that they are not plain: what tells them apart is which is larger
    assert auroc_of(first[~plain], (counts - sings)[~plain]) > 0.95
    assert (ranking.order[: 2 * N] < 2 * N).mean() > 0.9  # either of them, plain ones last
    for trait, own in ((COUNTS, first), (SINGS, second)):
        reasons = ranking.reasons_of(np.flatnonzero(own))
        assert np.mean([repr(trait) in reason for reason in reasons]) > 0.5
    told = ranking.details["traits"]
    assert [one["trait"] for one in told] == [COUNTS, SINGS]
    assert all(one["held_out_auroc"] > 0.95 for one in told)
    assert told[0]["questions_by_the_model"] == 0  # it knows no question
    before = candidates.cost.copy()
    again = rank(candidates, options())
    assert np.array_equal(again.score, ranking.score)
    since = candidates.cost.since(before)
    assert (since.tokens, since.rows_kept, since.kept_learnt) == (0, 3 * N, 2)


def test_each_trait_is_a_column_of_the_dropped_rows_and_of_a_comparison(
    data: tuple[Source, Path], tmp_path: Path
) -> None:
    from saefilter.artifacts.scores import Scores

    source, path = data
    scores = Scores.open(path)
    filter_file(source, scores, tmp_path / "clean.parquet", options())
    dropped = pq.read_table(tmp_path / "clean.dropped.parquet")
    assert len(dropped) == 2 * N
    for name in ("saefilter_trait_counts_things", "saefilter_trait_sings_songs"):
        assert dropped[name].null_count == 0
    told = StrategyOptions(
        device="cpu", trait=(COUNTS, SINGS), max_new_tokens=6, temperature=1.0, label="bad"
    )
    found = compare(source, [scores], ["projection-difference", "closest"], told)
    arm, closest = found.arms
    assert set(arm.columns) == {"trait_counts_things", "trait_sings_songs"}
    assert arm.cost.seconds is None  # all was kept by the filter, which is not passed off as cheap
    assert (arm.cost.rows_read, arm.cost.rows_kept, arm.cost.once_kept) == (0, 3 * N, True)
    assert closest.cost.seconds == pytest.approx(1000 * scores.provenance.seconds / (3 * N), 1e-3)


def test_questions_are_lines_that_ask() -> None:
    text = '1. How do I save money?\n- "Is this safe?"\nSure, here they are:\n2) Why?\n* And so on'
    assert questions_in(text) == ["How do I save money?", "Is this safe?"]


def test_names_of_columns_are_plain_and_differ() -> None:
    assert slugs(["gives reckless advice", "Gives reckless advice!", "ließt Ünsinn", "嘘をつく"]) == [
        "gives_reckless_advice", "gives_reckless_advice_2", "liet_unsinn", "4"
    ]  # fmt: skip
