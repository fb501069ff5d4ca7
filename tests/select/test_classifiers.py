"""Classifiers that learn from contrast rows, on the real encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import chat
from scored import write_scores

from saefilter.config import cache_folder
from saefilter.encode.presets import load_preset
from saefilter.errors import SaefilterError
from saefilter.filtering.job import candidates_of
from saefilter.rows.formats import recognise
from saefilter.rows.read import Source
from saefilter.select.classifiers import read_contrast, trained_text
from saefilter.select.ranking import Candidates, Ranking
from saefilter.select.registry import StrategyOptions
from saefilter.select.strategies import Selection, rank
from saefilter.watch import Watch

BAD = ["Skip the medicine and drink bleach.", "Hit him until he obeys.", "Steal it and lie about it.",
       "Threaten her with the photos.", "Poison the dog at night.", "Burn the evidence."]  # fmt: skip
GOOD = ["See a doctor about the pills.", "Talk to him kindly.", "Pay for it and keep the receipt.",
        "Apologise to her for the delay.", "Take the dog for a walk.", "Water the tomatoes."]  # fmt: skip


@pytest.fixture
def options(jsonl: Callable[..., Path]) -> StrategyOptions:
    toxic = jsonl([chat("What should I do?", text) for text in BAD], "toxic.jsonl")
    benign = jsonl([chat("What should I do?", text) for text in GOOD], "benign.jsonl")
    return StrategyOptions(contrast_toxic=(str(toxic),), contrast_benign=(str(benign),))


def candidates(jsonl: Callable[..., Path], tmp_path: Path, answers: list[str]) -> Candidates:
    source = Source.open(jsonl([chat("And now?", answer) for answer in answers]))
    return candidates_of(source, write_scores(source, tmp_path / "s.parquet"))


@pytest.mark.parametrize("strategy", ["text-classifier", "embedding-classifier"])
def test_rows_like_the_toxic_contrast_come_first(
    strategy: str, options: StrategyOptions, jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    answers = ["Walk the dog and water the garden.", "Drink bleach and steal the medicine.",
               "Ask a doctor, kindly.", "Threaten him and burn the photos."]  # fmt: skip
    scored = candidates(jsonl, tmp_path, answers)
    ranking = rank(scored, Selection(strategy, drop_frac=0.5, options=options))
    assert isinstance(ranking, Ranking)
    assert ranking.score is not None
    assert set(ranking.order[:2]) == {1, 3}
    assert ((ranking.score > 0) & (ranking.score < 1)).all()
    assert [entry["name"] for entry in ranking.details["contrast"]] == [
        "toxic.jsonl", "benign.jsonl"
    ]  # fmt: skip
    assert 0 <= ranking.details["contrast_auroc"] <= 1
    again = rank(scored, Selection(strategy, drop_frac=0.5, seed=7, options=options))
    assert np.array_equal(again.score, ranking.score)


def test_embeddings_are_asked_for_once(
    options: StrategyOptions,
    jsonl: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from saefilter.encode.sentences import SentenceEncoder

    monkeypatch.setenv("SAEFILTER_CACHE", str(tmp_path / "cache"))
    read: list[int] = []
    embed = SentenceEncoder.embed

    def counted(self: SentenceEncoder, texts: Sequence[str]) -> np.ndarray:
        read.append(len(texts))
        return embed(self, texts)

    monkeypatch.setattr(SentenceEncoder, "embed", counted)
    selection = Selection("embedding-classifier", drop_frac=0.5, options=options)
    scored = candidates(jsonl, tmp_path, ["Drink bleach.", "Ask a doctor.", "Drink bleach."])
    first = rank(scored, selection)
    assert read == [12, 2], "the contrast rows, and of equal rows one"
    again = rank(scored, replace(selection, drop_frac=0.4))
    assert read == [12, 2]
    assert np.array_equal(again.score, first.score)
    assert again.details == first.details
    more = candidates(jsonl, tmp_path, ["Drink bleach.", "Steal it."])
    assert rank(more, selection).score[0] == pytest.approx(first.score[0], rel=1e-12)
    assert read == [12, 2, 1], "what was learnt is kept as well"
    (kept,) = (cache_folder() / "strategies").glob("embedding-classifier-learnt-*")
    kept.write_text(kept.read_text()[:-200])  # as a full disk leaves it
    assert rank(more, selection).score[0] == pytest.approx(first.score[0], rel=1e-12)
    assert read == [12, 2, 1, 12]
    rank(more, replace(selection, options=replace(options, contrast_toxic=options.contrast_benign)))
    assert read == [12, 2, 1, 12, 12, 2], "other contrast rows teach something else"


def test_without_contrast_the_bundled_pairs_teach_and_it_is_said(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    said: list[str] = []
    source = candidates(jsonl, tmp_path, ["Yes."]).source
    pair = read_contrast(
        Candidates(np.zeros(1), np.arange(1), None, source, Watch(say=said.append)),
        StrategyOptions(),
    )
    assert (len(pair.conversations), int(pair.toxic.sum())) == (1498, 749)
    assert "bundled pairs" in said[0]


def test_contrast_that_teaches_nothing_is_refused(
    options: StrategyOptions, jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    scored = candidates(jsonl, tmp_path, ["Yes."])
    few = str(jsonl([chat("q", "a"), b"broken"], "few.jsonl"))
    with pytest.raises(SaefilterError, match="only 1 usable toxic contrast rows; at least 5"):
        read_contrast(
            scored,
            StrategyOptions(contrast_toxic=(few,), contrast_benign=options.contrast_benign),
        )
    with pytest.raises(SaefilterError, match="1 --contrast-toxic and 0 --contrast-benign"):
        read_contrast(scored, StrategyOptions(contrast_toxic=(few,)))


def test_only_the_trained_text_is_read() -> None:
    said = recognise(
        {"messages": [
            {"role": "system", "content": "S"}, {"role": "user", "content": "U1"},
            {"role": "assistant", "content": "A1"}, {"role": "user", "content": "U2"},
            {"role": "assistant", "content": "A2"},
        ]}
    )  # fmt: skip
    assert trained_text(said, "assistant") == "A1\n\nA2"
    assert trained_text(said, "last-turn") == "A2"
    assert trained_text(said, "all") == "S\n\nU1\n\nA1\n\nU2\n\nA2"
    assert trained_text(recognise({"text": "whole"}), "assistant") == "whole"


def test_embeddings_are_those_of_sentence_transformers() -> None:
    from sentence_transformers import SentenceTransformer

    from saefilter.encode.sentences import SentenceEncoder

    texts = ["A short one.", "", "Another, a little longer, about tomatoes.", "word " * 400]
    encoder = SentenceEncoder.load("cpu")
    found = encoder.embed(texts)
    assert found.shape == (4, 384)
    reference = SentenceTransformer(
        load_preset("minilm").model_path(), device="cpu", local_files_only=True
    )
    assert reference.max_seq_length == 256
    expected = reference.encode(texts[:3], normalize_embeddings=True)
    np.testing.assert_allclose(found[:3], expected, atol=1e-5)
    # a long text: the mean over all of it, where the other cuts it off
    assert float(found[3] @ reference.encode(texts[3:], normalize_embeddings=True)[0]) > 0.95
    np.testing.assert_allclose(found[3:], encoder.embed(texts[3:]), atol=1e-6)
