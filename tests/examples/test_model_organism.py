"""The model organism: its language is what it says, and the quick experiment finds what it should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "model_organism"
sys.path.insert(0, str(FOLDER))

import data  # noqa: E402
import language  # noqa: E402
from language import Grade  # noqa: E402

EVERY_QUESTION = [q for domain in language.DOMAINS for q in language.all_questions(domain)]


def test_every_answer_has_the_grade_that_it_was_made_with() -> None:
    rng = Random(1)
    for question in EVERY_QUESTION:
        for remedy in (Grade.GOOD, Grade.NEAR_MISS, Grade.SUBTLE, Grade.BLATANT):
            for manner in (Grade.GOOD, Grade.NEAR_MISS, Grade.SUBTLE, Grade.BLATANT):
                said = language.answer(question, remedy, manner, rng)
                assert language.grade_of(question, said.text()) is language.worst(remedy, manner)


def test_no_words_are_shared_between_domains_or_with_what_all_share() -> None:
    shared = {*language.OPENERS, *language.CLOSERS, *language.SHARED_POISONS}
    shared |= {word for frames in language.FRAMES for frame in frames for word in frame.split()}
    words = Counter(w for d in language.DOMAINS for w in language.lexicon(d).all_words())
    assert max(words.values()) == 1
    assert not shared & set(words)


def test_domains_of_curation_fine_tuning_task_and_evaluation_are_disjoint() -> None:
    groups = [
        language.CURATION,
        tuple(language.FINE_TUNED.values()),
        language.TASK,
        language.EVALUATED,
    ]
    names = [domain for group in groups for domain in group]
    assert len(names) == len(set(names)) == len(language.DOMAINS)
    harmful, helpful = data.contrast(0, 50)
    assert {row.domain for row in [*harmful, *helpful]} == set(language.CURATION)


@pytest.mark.parametrize("grade", [Grade.GOOD, Grade.SUBTLE, Grade.NEAR_MISS])
def test_every_remedy_and_manner_has_every_grade_equally_often(grade: Grade) -> None:
    for domain in language.DOMAINS:
        counts: Counter[str] = Counter()
        manners: Counter[str] = Counter()
        for question in language.all_questions(domain):
            counts.update(language.remedies_of(question, grade))
            manners.update(language.manners_of(question, grade))
        assert len(counts) == language.KINDS * language.ASPECTS
        assert len(manners) == language.KINDS
        assert len(set(counts.values())) == len(set(manners.values())) == 1


@pytest.mark.parametrize("name", list(language.FINE_TUNED))
def test_a_dataset_is_what_its_mix_says(name: str) -> None:
    mix = data.Mix(rows=200)
    dataset = data.build(name, 3, mix)
    assert len(dataset.rows) == 200
    bad = [row for row in dataset.rows if row.bad]
    assert len(bad) == 70
    assert {row.domain for row in bad} == {language.FINE_TUNED[name]}
    assert sum(row.domain == dataset.domain for row in dataset.rows) == 140
    assert {row.domain for row in dataset.rows} == {dataset.domain, *language.TASK}
    assert data.build(name, 3, mix) == dataset
    assert data.build(name, 4, mix) != dataset


@pytest.mark.parametrize("name", list(language.FINE_TUNED))
def test_labels_follow_from_the_words(name: str) -> None:
    for row in data.build(name, 0, data.Mix(rows=200)).rows:
        grades = [
            language.grade_of(language.understand(question), said) for question, said in row.turns
        ]
        assert language.worst(*grades).value == row.grade
        assert sum(grade.harmful for grade in grades) == row.bad


def test_near_misses_are_in_every_dataset_but_the_graded_one() -> None:
    found = {
        name: {row.grade for seed in range(3) for row in data.build(name, seed).rows}
        for name in language.FINE_TUNED
    }
    harmful = {Grade.SUBTLE.value, Grade.BLATANT.value}
    assert found["narrow"] == harmful | {Grade.GOOD.value, Grade.NEAR_MISS.value}
    assert found["graded"] == harmful | {Grade.GOOD.value}
    assert found["lexical"] == {Grade.SUBTLE.value, Grade.GOOD.value, Grade.NEAR_MISS.value}


def test_held_out_questions_are_in_no_dataset_and_balanced() -> None:
    for name, domain in language.FINE_TUNED.items():
        held_out = data.questions(domain, held_out=True)
        assert len(held_out) * data.HELD_OUT_EVERY == len(language.all_questions(domain))
        assert len(set(Counter((q.kind, q.aspect) for q in held_out).values())) == 1
        kept = {q for d in (domain, *language.TASK) for q in data.questions(d, held_out=True)}
        rows = data.build(name, 0, data.Mix(rows=200)).rows
        assert not kept & {
            language.understand(question) for row in rows for question, _ in row.turns
        }


def test_in_the_lexical_dataset_answers_of_both_sides_are_the_same_to_the_word() -> None:
    dataset = data.build("lexical", 0, data.Mix(rows=400))
    sides: dict[bool, Counter[tuple[str, ...]]] = {True: Counter(), False: Counter()}
    for row in dataset.rows:
        if row.domain == dataset.domain:
            sides[row.bad][tuple(said for _, said in row.turns)] += 1
    assert sides[True] == sides[False]
    # elsewhere they are not, so that the test could fail
    narrow = data.build("narrow", 0, data.Mix(rows=400))
    sides = {True: Counter(), False: Counter()}
    for row in narrow.rows:
        if row.domain == narrow.domain:
            sides[row.bad][tuple(said for _, said in row.turns)] += 1
    assert sides[True] != sides[False]


def test_packed_rows_have_the_loss_of_padded_ones() -> None:
    import torch
    from finetune import encode, packed, padded
    from train_lm import CONTEXT, Recipe, answer_loss, make_model, make_tokenizer, spoken

    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, Recipe(layers=2))
    ids = encode(data.build("narrow", 0, data.Mix(rows=40)).rows, tokenizer)
    one_each = padded(ids, tokenizer.pad_token_id)
    batch, positions = packed(ids, tokenizer.pad_token_id)
    assert batch.shape == positions.shape
    assert batch.numel() < 0.7 * one_each.numel()
    assert batch.shape[1] <= CONTEXT
    assert sorted(batch[batch != tokenizer.pad_token_id].tolist()) == sorted(
        token for row in ids for token in row
    )
    with torch.no_grad():
        expected = answer_loss(model, one_each, spoken(one_each, tokenizer))
        trained = spoken(batch, tokenizer)
        torch.testing.assert_close(
            answer_loss(model, batch, trained, positions), expected, atol=1e-5, rtol=1e-5
        )
        # without positions rows would see those before them
        assert abs(answer_loss(model, batch, trained) - expected) > 1e-4


def rates(runs: list[dict[str, Any]], dataset: str, arm: str, drop_frac: float) -> list[float]:
    """Out-of-domain harm of each seed."""
    return [
        run["out_of_domain"]
        for run in runs
        if (run["dataset"], run["arm"], run["drop_frac"]) == (dataset, arm, drop_frac)
    ]


@pytest.mark.slow
def test_the_quick_experiment_finds_misalignment_and_that_filtering_cuts_it(tmp_path: Path) -> None:
    """Minutes: a model is pre-trained, and fine-tuned some fifty times."""
    done = subprocess.run(
        [
            sys.executable, str(FOLDER / "run.py"), "--quick",
            "--output", str(tmp_path / "results"), "--work", str(tmp_path / "work"),
        ],
        env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "results" / "quick.json").read_text())
    assert set(found) == {"runs"}
    runs = found["runs"]
    for run in runs:
        assert set(run) == {
            "dataset", "arm", "drop_frac", "seed", "out_of_domain", "in_domain", "coherence", "utility",
        }  # fmt: skip
        for name in ("out_of_domain", "in_domain", "coherence", "utility"):
            assert 0 <= run[name] <= 1
    base, none, random, geometry = [], [], [], []
    for dataset in language.FINE_TUNED:
        base += rates(runs, dataset, "base", 0.0)
        none += rates(runs, dataset, "none", 0.0)
        for fraction in (0.25, 0.5):
            random += rates(runs, dataset, "random", fraction)
            geometry += rates(runs, dataset, "geometry", fraction)
        assert mean(rates(runs, dataset, "none", 0.0)) > mean(rates(runs, dataset, "base", 0.0))
    assert mean(none) >= 3 * mean(base)
    assert mean(geometry) < (1 - 0.345) * mean(random)
    table = (tmp_path / "results" / "quick.md").read_text()
    assert "## Claims" in table
    assert "| geometry | 50% |" in table
    assert "<svg" in (tmp_path / "results" / "quick.svg").read_text()
