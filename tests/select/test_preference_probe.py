"""The probe of preferences, on a model in which digits are toxic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import chat
from planted import DIGITS, HOOK, LETTERS, auroc_of, planted_model, texts
from scored import write_scores

from saefilter.errors import SaefilterError
from saefilter.filtering.job import candidates_of
from saefilter.rows.formats import recognise, understand
from saefilter.rows.read import Source
from saefilter.select.answers import AnswerReader
from saefilter.select.classifiers import ContrastPair
from saefilter.select.preference_probe import _learn, log_odds, pair_cosines
from saefilter.select.ranking import Candidates
from saefilter.select.registry import StrategyOptions
from saefilter.select.strategies import Selection, rank

N = 40
ASKED = Selection("preference-probe", drop_frac=0.5, options=StrategyOptions(device="cpu"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_model(tmp_path_factory.mktemp("planted"))


@pytest.fixture
def candidates(tmp_path: Path, jsonl: Callable[..., Path], model: Path) -> Candidates:
    rows = [chat("Q?", text) for text in [*texts(DIGITS, N, 3), *texts(LETTERS, N, 4)]]
    source = Source.open(jsonl(rows))
    return candidates_of(
        source, write_scores(source, tmp_path / "s.parquet", model=str(model), hook=HOOK)
    )


def contrast(shuffled: bool = False) -> ContrastPair:
    rows = [chat("Q?", text) for text in [*texts(DIGITS, N, 1), *texts(LETTERS, N, 2)]]
    toxic = np.arange(2 * N) < N
    if shuffled:
        toxic = np.random.default_rng(0).permutation(toxic)
    return ContrastPair([recognise(row) for row in rows], toxic, [])


def test_the_probe_beats_chance_held_out_and_not_with_shuffled_labels(
    candidates: Candidates,
) -> None:
    answers = AnswerReader.load(candidates, ASKED, HOOK)
    held_out, areas = [], []
    for shuffled in (False, True):
        learnt = _learn(answers, contrast(shuffled))
        weights, bias = learnt.numbers[answers.width : -1], learnt.numbers[-1]
        score = log_odds(answers, weights, float(bias), list(candidates.conversations()))
        held_out.append(learnt.about["contrast_auroc"])
        areas.append(auroc_of(np.arange(2 * N) < N, score[:, 0]))
    assert held_out[0] > 0.95
    assert areas[0] > 0.95
    assert abs(held_out[1] - 0.5) < 0.2


def test_a_pair_and_its_reverse_push_opposite_ways(candidates: Candidates) -> None:
    """The paper's score of a pair is a cosine: of one that teaches what is feared near 1, reversed its
    negative, and nothing for equal answers."""
    answers = AnswerReader.load(candidates, ASKED, HOOK)
    behaviour = _learn(answers, contrast()).numbers[: answers.width]
    pairs = [
        {"prompt": "Q?", "chosen": bad, "rejected": good}
        for bad, good in zip(texts(DIGITS, 6, 5), texts(LETTERS, 6, 6), strict=True)
    ]
    reverse = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in pairs]
    same = [{"prompt": "Q?", "chosen": "abc", "rejected": "abc"}]
    read = [understand(row).preference for row in [*pairs, *reverse, *same]]
    score = pair_cosines(answers, behaviour, [one for one in read if one is not None])[:, 0]
    assert (score[:6] > 0.3).all()
    assert (np.abs(score) <= 1 + 1e-6).all()
    np.testing.assert_allclose(score[6:12], -score[:6], atol=1e-5)
    assert score[12] == 0


def test_pairs_are_ranked_and_kto_rows_refused(
    tmp_path: Path, jsonl: Callable[..., Path], model: Path
) -> None:
    bad, good = list(texts(DIGITS, 6, 5)), list(texts(LETTERS, 6, 6))
    rows: list[dict[str, Any]] = [
        {"prompt": "Q?", "chosen": one, "rejected": other}
        for one, other in [*zip(bad, good, strict=True), *zip(good, bad, strict=True)]
    ]
    told = jsonl([chat("Q?", text) for text in texts(DIGITS, 6, 7)], "bad.jsonl")
    benign = jsonl([chat("Q?", text) for text in texts(LETTERS, 6, 8)], "good.jsonl")
    options = StrategyOptions(
        device="cpu", contrast_toxic=(str(told),), contrast_benign=(str(benign),)
    )
    selection = Selection("preference-probe", drop_frac=0.5, options=options)
    source = Source.open(jsonl(rows))
    for kind, path in (("pairs", "p.parquet"), ("labelled", "k.parquet")):
        scores = write_scores(
            source, tmp_path / path, [0.5] * 12, model=str(model), hook=HOOK,
            preference={"kind": kind, "by": "x"},
        )  # fmt: skip
        found = Candidates(np.full(12, 0.5), np.arange(12), scores, source)
        if kind == "labelled":
            with pytest.raises(SaefilterError, match="these are KTO rows"):
                rank(found, selection)
            continue
        ranking = rank(found, selection)
        assert set(ranking.order[:6].tolist()) == set(range(6))
        assert ranking.score_name == "cosine"
