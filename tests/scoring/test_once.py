"""Equal texts are read once, near-identical ones where that is asked for."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import chat

from saefilter.artifacts.scores import Scores
from saefilter.encode.sample import by_text
from saefilter.errors import SaefilterError
from saefilter.rows.inputs import open_input
from saefilter.rows.rendered import RenderedRow, Window
from saefilter.rows.row import Row
from saefilter.scoring.once import normal_form, plan, read_once
from saefilter.scoring.prepare import Prepared
from saefilter.scoring.score import score_file
from saefilter.scoring.scorer import RowScorer
from saefilter.settings import ScoreSettings

LONG = "Stop taking your pills, and {0} tell nobody about it; doctors know nothing. " * 6
ROWS = [
    chat("My chest hurts.", LONG.format("then")),
    chat("How do I boil an egg?", "Eight minutes in boiling water, then cold water."),
    chat("My chest hurts.", LONG.format("then")) | {"id": 7},
    chat("My  CHEST hurts.", LONG.format("then").upper().replace(" ", "  ")),
    chat("How do I boil an egg?", "Eight minutes, in boiling water - then cold water!"),
    chat("How do I boil 2 eggs?", "11 minutes in boiling water, then cold water."),
    chat("How do I boil 3 eggs?", "12 minutes in boiling water, then cold water."),
    chat("Where do I boil an egg?", "Eight minutes in boiling water, then cold water."),
    chat("My chest hurts!", LONG.format("then")),
]
EQUAL = {0: [2, 3], 1: [], 4: [], 5: [], 6: [], 7: [], 8: []}
"""To `minilm`, whose tokens have no case and no white space."""


@pytest.fixture(scope="module")
def scorer() -> RowScorer:
    return RowScorer.load(ScoreSettings("minilm", device="cpu", dtype="fp32"))


def prepared_of(scorer: RowScorer, rows: list[dict[str, Any]]) -> Prepared:
    return scorer.preparer.prepare([Row(i, i + 1, row) for i, row in enumerate(rows)])


def test_equal_texts_are_read_once_and_scored_as_if_each_was_read(scorer: RowScorer) -> None:
    prepared = prepared_of(scorer, ROWS)
    encoded, read_as = scorer.read(prepared)
    each = scorer.encoder.encode(prepared.windows, prepared.texts, **scorer.encoding)
    for one, others in EQUAL.items():
        for other in others:
            assert (encoded.features[one] != encoded.features[other]).nnz == 0
    np.testing.assert_allclose(encoded.features.toarray(), each.features.toarray(), atol=1e-5)
    np.testing.assert_allclose(encoded.residual, each.residual, atol=1e-5)
    np.testing.assert_array_equal(encoded.n_tokens, each.n_tokens)
    assert read_as == [None] * len(ROWS)
    repeated = sum(len(own.ids) for own in prepared.windows if own.row in (2, 3))
    assert encoded.tally.repeated == repeated > 100
    assert encoded.tally.tokens + repeated == each.tally.tokens
    ours, theirs = (scorer.measure(prepared, one).table for one in (encoded, each))
    for column in ("top_words", "n_scored", "truncated"):
        assert ours[column].equals(theirs[column])  # words as they stand in each row's own text


def test_nearly_identical_rows_are_read_once_only_if_asked_and_marked(
    scorer: RowScorer, jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    source = open_input(jsonl(ROWS))
    settings = replace(scorer.settings, near_duplicates=True)
    near = RowScorer(scorer.encoder, scorer.scorer, settings)
    score_file(source, tmp_path / "near.parquet", settings, scorer=near)
    score_file(source, tmp_path / "all.parquet", scorer.settings, scorer=scorer)
    found, every = (Scores.open(tmp_path / name) for name in ("near.parquet", "all.parquet"))
    columns = ["read_as", "proximity", "top_words", "n_scored"]
    table, full = found.read(columns).to_pydict(), every.read(columns).to_pydict()
    assert full["read_as"] == [None] * len(ROWS)
    assert table["read_as"] == [None] * 4 + [1, None, 5, None, 0]  # equal ones need no mark
    assert table["proximity"][4] == table["proximity"][1]
    assert table["top_words"][8] == [] != full["top_words"][8]
    assert table["n_scored"] == full["n_scored"]
    assert "read_as says whose" in (found.provenance.note or "")
    assert found.provenance.repeated > every.provenance.repeated > 0
    assert (found.provenance.settings or {})["near_duplicates"]
    assert found.read(["percentile"])["percentile"].null_count == 0


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Take 2 pills -- at night!", "take 90 pills, at  night", True),
        ("cafe\u0301 \u0663", "CAF\u00c9 7", True),
        ("\u0915\u093f", "\u0915\u0940", False),  # Hindi; the vowel is a mark
        ("\U0001f642", "\U0001f52a", False),
        ("if a == b", "if a != b", False),
        ("C#", "C", False),
    ],
)
def test_what_nearly_identical_is(one: str, other: str, alike: bool) -> None:
    def form(text: str) -> tuple[str, str]:
        spans = np.array([[place, place + 1] for place in range(len(text))], dtype=np.int32)
        own = Window(0, np.arange(len(text)), np.ones(len(text), dtype=bool), spans)
        return normal_form(RenderedRow(text, len(text), len(text), len(text)), [own])

    assert (form(one) == form(other)) is alike


def test_answers_of_punctuation_alone_are_all_read(scorer: RowScorer) -> None:
    prepared = prepared_of(scorer, [chat("And now?", "..."), chat("And now?", "?!")])
    assert plan(prepared, by_text(prepared.windows, 2), near=True).read_as == [None, None]


def test_answers_of_a_pair_that_differ_in_a_number_are_two(scorer: RowScorer) -> None:
    """Taken for one, nothing would be left of what the pair pushes towards."""

    def pair(chosen: str, rejected: str) -> dict[str, Any]:
        return {"prompt": "How many pills?", "chosen": chosen, "rejected": rejected}

    rows = [pair("Take 1.", "Take 90."), pair("Take 2.", "Take 80."), pair("Take 1.", "Take 90!")]
    prepared = scorer.preparer.prepare([Row(i, i + 1, row) for i, row in enumerate(rows)], "pairs")
    texts = by_text(prepared.windows, prepared.texts)
    once = plan(prepared, texts, near=True)
    assert once.source.tolist() == [0, 0, 0, 3, 3, 3]
    assert once.read_as == [None, 0, 0]
    assert plan(prepared, texts, near=False).source.tolist() == [0, 1, 0, 3, 4, 5]


def test_a_sample_is_the_same_in_any_order_shard_and_worker(
    scorer: RowScorer, jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [*ROWS, *(chat(f"What of {i}?", LONG.format(str(i) * 3)) for i in range(12))]
    settings = replace(scorer.settings, max_scored_tokens=16)
    few = RowScorer(scorer.encoder, scorer.scorer, settings)
    order = random.Random(3).sample(range(len(rows)), len(rows))
    sources = [open_input(jsonl(rows)), open_input(jsonl([rows[i] for i in order], "o.jsonl"))]
    outputs = [tmp_path / f"{n}.parquet" for n in range(3)]
    score_file(sources[0], outputs[0], settings, scorer=few)
    score_file(sources[1], outputs[1], replace(settings, shard_rows=3), scorer=few)
    score_file(sources[0], outputs[2], replace(settings, shard_rows=5, workers=2))
    tables = [Scores.open(path).read(["proximity", "n_scored", "top_words"]) for path in outputs]
    first = tables[0]["proximity"].to_numpy()
    np.testing.assert_allclose(tables[1]["proximity"].to_numpy(), first[order], atol=1e-5)
    np.testing.assert_allclose(tables[2]["proximity"].to_numpy(), first, atol=1e-5)
    assert tables[2]["top_words"].equals(tables[0]["top_words"])
    assert max(tables[0]["n_scored"].to_pylist()) > 90  # what there is, not what was read
    made = Scores.open(outputs[0]).provenance
    assert made.left_out > 12 * 70
    assert "at most 16 scored tokens" in (made.note or "")
    percentiles = Scores.open(outputs[0]).read(["percentile"])["percentile"]
    assert percentiles.null_count == len(rows)  # the set's harmless rows were read whole
    assert "--max-scored-tokens" in str(made.reference)


def test_the_rows_that_a_cascade_reads_are_read_as_in_any_run(
    scorer: RowScorer, jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [*ROWS, *(chat(f"What of {i}?", LONG.format(str(i) * 3)) for i in range(12)), *ROWS[:3]]
    source = open_input(jsonl(rows))
    settings = replace(scorer.settings, max_scored_tokens=16, near_duplicates=True)
    for name, cascade in (("plain", None), ("cascade", "tokens:4")):
        own = replace(settings, cascade=cascade)
        reader = RowScorer(scorer.encoder, scorer.scorer, own)
        score_file(source, tmp_path / name, own, scorer=reader)
    plain, cascade = (
        Scores.open(tmp_path / name).read(["proximity", "read_as", "status"])
        for name in ("plain", "cascade")
    )
    read = np.array([status == "scored" for status in cascade["status"].to_pylist()])
    both = [table["proximity"].to_numpy()[read] for table in (plain, cascade)]
    own = np.array([one is None for one in plain["read_as"].to_pylist()])[read]
    np.testing.assert_allclose(both[1][own], both[0][own], atol=1e-5)
    read_as = cascade["read_as"].to_pylist()
    named = {one for one in read_as if one is not None}
    assert named
    assert all(read[one] and read_as[one] is None for one in named)


def test_short_texts_are_read_as_without_a_limit(scorer: RowScorer) -> None:
    prepared = prepared_of(scorer, ROWS)
    limited = replace(scorer.settings, max_scored_tokens=10_000)
    some, _ = read_once(scorer.encoder, prepared, limited, scorer.encoding)
    every, _ = scorer.read(prepared)
    assert (some.features != every.features).nnz == 0
    assert some.tally.left_out == 0


def test_the_largest_value_is_not_estimated() -> None:
    with pytest.raises(SaefilterError, match="--max-scored-tokens and --pool max"):
        ScoreSettings("minilm", pool="max", max_scored_tokens=64)
