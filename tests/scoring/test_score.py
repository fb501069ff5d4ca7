"""Scoring with the real model, SAE, FAISS and toxic set of preset `minilm`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import chat
from hypothesis import given, settings
from hypothesis import strategies as st
from scored import ROWS as SCORED_ROWS
from scored import write_scores

from saefilter.artifacts.scores import SCHEMA, Scores
from saefilter.encode.sae_source import find_sae
from saefilter.errors import SaefilterError
from saefilter.geometry.metrics import KERNEL_THRESHOLD
from saefilter.rows.formats import recognise
from saefilter.rows.read import Source
from saefilter.rows.row import Row
from saefilter.scoring.engine import LocalEngine
from saefilter.scoring.job import Job, memory_limit, plan_shards, read_shards
from saefilter.scoring.score import score_file
from saefilter.scoring.scorer import RowScorer
from saefilter.scoring.shard import score_shard
from saefilter.scoring.summary import summarise
from saefilter.settings import ScoreSettings

ROWS = [
    chat("My chest hurts.", "It is nothing. Skip the doctor and go for a run."),
    chat("My chest hurts.", "Please call an ambulance now; chest pain can be serious."),
    chat("How do I boil an egg?", "Eight minutes in boiling water, then cold water."),
    {"text": "People like them should be driven out of this town for good."},
    {"prompt": "Capital of France?", "completion": "Paris."},
    chat("Tell me a story.", "Once upon a time there was a lighthouse keeper. " * 12),
]


@pytest.fixture(scope="module")
def scorer() -> RowScorer:
    return RowScorer.load(ScoreSettings("minilm", device="cpu", dtype="fp32"))


def measured(scorer: RowScorer, rows: list[dict[str, Any]], **encoding: Any) -> pa.Table:
    """The rows' scores, as a shard of them would be written."""
    prepared = scorer.preparer.prepare([Row(i, i + 1, row) for i, row in enumerate(rows)])
    encoded = scorer.encoder.encode(
        prepared.windows, len(prepared), **{**scorer.encoding, **encoding}
    )
    return scorer.measure(prepared, encoded).table


def proximities(scorer: RowScorer, rows: list[dict[str, Any]]) -> np.ndarray:
    return measured(scorer, rows)["proximity"].to_numpy()


@given(order=st.permutations(range(len(ROWS))), batch_tokens=st.integers(16, 2000))
@settings(deadline=None, max_examples=12)
def test_scores_depend_on_neither_batch_size_nor_order(
    scorer: RowScorer, order: list[int], batch_tokens: int
) -> None:
    expected = proximities(scorer, ROWS)
    other = RowScorer(
        scorer.encoder, scorer.scorer, replace(scorer.settings, batch_tokens=batch_tokens)
    )
    np.testing.assert_allclose(
        proximities(other, [ROWS[i] for i in order]), expected[order], atol=1e-4
    )


def test_a_distance_recomputed_by_hand_with_sae_lens_and_numpy(scorer: RowScorer) -> None:
    """Nothing of ours but the toxic set's numbers: transformers, sae-lens's encode, brute force."""
    from sae_lens import SAE
    from transformers import AutoModel, AutoTokenizer

    question, answer = "My chest hurts.", "It is nothing. Skip the doctor and go for a run."
    preset = scorer.encoder.preset
    tokenizer = AutoTokenizer.from_pretrained(preset.model_path())
    model = AutoModel.from_pretrained(preset.model_path()).eval()
    sae = SAE.load_from_disk(find_sae(preset.sae), dtype="float32")
    text = f"{question}\n\n{answer}"
    encoded = tokenizer(text, return_offsets_mapping=True, return_tensors="pt")
    spans = encoded.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        hidden = model(**encoded, output_hidden_states=True).hidden_states[4][0]
        trained = [i for i, (a, b) in enumerate(spans) if a > len(question) and b > a]
        pooled = sae.encode(hidden[trained]).mean(dim=0).numpy()

    toxic_set = scorer.scorer.toxic_set
    directions = sae.W_dec.detach().numpy()
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    score = toxic_set.intercept
    pulls, own = [], set()
    for side in ("toxic", "benign"):
        features = [f for f in toxic_set.side(side) if f.weight > 0]
        own |= {f.index for f in features}
        cosines = directions @ directions[[f.index for f in features]].T
        nearest = cosines.argmax(axis=1)
        kernel = np.maximum(0, (cosines.max(axis=1) - KERNEL_THRESHOLD) / (1 - KERNEL_THRESHOLD))
        pulls.append(kernel * np.array([features[j].weight for j in nearest]))
    sizes = {True: 0.0, False: 0.0}
    for i in np.flatnonzero(pooled):
        counted = min(pooled[i], toxic_set.largest[i]) / toxic_set.scale[i]
        score += counted * (pulls[0][i] - pulls[1][i])
        sizes[int(i) in own] += abs(counted * (pulls[0][i] - pulls[1][i]))
    distance = 0.5 - score / (4 + 2 * abs(score))

    ours = measured(scorer, [chat(question, answer)]).to_pylist()[0]
    assert ours["distance"] == pytest.approx(distance, abs=1e-4)
    assert ours["n_scored"] == len(trained)
    assert ours["own_share"] == pytest.approx(sizes[True] / sum(sizes.values()), abs=1e-4)
    assert ours["own_share"] > 0.9  # of the shipped set: what counts are its own features


def test_every_row_is_scored_or_quarantined_in_order(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    path = jsonl(
        [
            ROWS[0],
            b'{"messages": [{"role": "user"',
            chat("Hello?", ""),
            ROWS[0],
            b'{"text": "caf\xe9"}',
            {"messages": [{"role": "user", "content": "no answer"}]},
            {"text": 42},
            {"text": "word " * 400_000},
        ]
    )
    source = Source.open(path)
    score_file(source, tmp_path / "s.parquet", ScoreSettings("minilm"), scorer=scorer)
    summary = summarise(source, Scores.open(tmp_path / "s.parquet"))
    table = pq.read_table(tmp_path / "s.parquet")
    assert table.schema.equals(SCHEMA)
    entries = table.to_pylist()
    assert [entry["row_id"] for entry in entries] == list(range(8))
    assert [entry["line"] for entry in entries] == list(range(1, 9))
    assert [entry["status"] == "scored" for entry in entries] == [
        True, False, False, True, False, False, False, True,
    ]  # fmt: skip
    for entry in entries:
        if entry["status"] == "scored":
            assert entry["distance"] == pytest.approx(1 - entry["proximity"])
            assert 0 <= entry["percentile"] <= 100
            assert entry["reason"] is None
            assert 0 < entry["own_share"] <= 1
        else:
            assert entry["distance"] is entry["percentile"] is entry["top_features"] is None
            assert entry["reason"]
    assert entries[0]["row_hash"] == entries[3]["row_hash"]
    assert entries[7]["truncated"]
    assert (entries[7]["n_tokens"], entries[7]["n_scored"]) == (400_000, 1024)
    made = summary.provenance
    assert (made.rows, made.scored, made.quarantined) == (8, 3, 5)
    assert (made.duplicates, made.truncated) == (1, 1)
    scores = Scores.open(tmp_path / "s.parquet")
    assert scores.provenance == made
    shares = [entry["own_share"] for entry in entries if entry["own_share"] is not None]
    assert len(shares) == 3
    assert scores.own_share() == summary.to_fields()["own_share"] == pytest.approx(np.mean(shares))


def test_scores_of_before_the_own_part_was_kept_are_read(tmp_path: Path) -> None:
    """And a reader of then, who knows nothing of the column, finds all that it looked for."""
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in SCORED_ROWS))
    made = write_scores(Source.open(path), tmp_path / "s.parquet")
    newer = SCHEMA.names[SCHEMA.names.index("own_share") :]
    assert newer == ["own_share", "themes", "closest", "read_as"]
    assert made.own_share() is None  # all null
    table = pq.read_table(made.path)
    metadata = made.provenance.to_metadata()
    older = table.drop_columns(newer).replace_schema_metadata(metadata)
    pq.write_table(older, made.path)
    before = Scores.open(made.path)
    assert before.own_share() is None
    assert summarise(Source.open(path), before).to_fields()["own_share"] is None


def test_evidence_adds_up_and_names_toxic_neighbours(scorer: RowScorer) -> None:
    entry = measured(scorer, [ROWS[0]]).to_pylist()[0]
    toxic = {feature.index for feature in scorer.scorer.toxic_set.side("toxic")}
    assert entry["top_features"]
    shares = [feature["share"] for feature in entry["top_features"]]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1 + 1e-6
    for feature in entry["top_features"]:
        assert feature["toxic_feature"] in toxic
        assert feature["cosine"] > KERNEL_THRESHOLD
        assert feature["label"]
    assert set(entry["top_words"]) <= set(
        ROWS[0]["messages"][1]["content"].lower().replace(".", "").split()
    )


def test_themes_are_those_of_the_set_with_words_of_the_row_and_an_example(
    scorer: RowScorer,
) -> None:
    themes = scorer.scorer.toxic_set.themes
    assert themes is not None
    usual = {theme.name: theme.usual for theme in themes.themes}
    texts = {example.text for theme in themes.themes for example in theme.examples}
    entries = measured(scorer, ROWS).to_pylist()
    for entry, row in zip(entries, ROWS, strict=True):
        assert entry["closest"]["text"] in texts
        assert 0 < entry["closest"]["cosine"] <= 1
        for theme in entry["themes"]:
            assert theme["share"] > usual[theme["theme"]]
            assert all(word in json.dumps(row).lower() for word in theme["words"])
    assert any(entry["themes"] for entry in entries)


def test_an_example_of_the_set_is_closest_to_itself(scorer: RowScorer) -> None:
    themes = scorer.scorer.toxic_set.themes
    assert themes is not None
    whole = [
        (theme.name, example)
        for theme in themes.themes
        for example in theme.examples
        if "…" not in example.text + example.prompt
    ][::6]
    assert len(whole) > 10
    rows = [chat(example.prompt, example.text) for _, example in whole]
    entries = measured(scorer, rows).to_pylist()
    same = [
        entry["closest"]["text"] == example.text
        for entry, (_, example) in zip(entries, whole, strict=True)
    ]
    assert np.mean(same) > 0.9


def test_a_set_without_themes_gives_none(scorer: RowScorer) -> None:
    from saefilter.geometry.scorer import Scorer

    plain = replace(scorer.scorer.toxic_set, themes=None)
    directions = scorer.encoder.sae.directions()
    without = RowScorer(scorer.encoder, Scorer(plain, directions), scorer.settings)
    (entry,) = measured(without, ROWS[:1]).to_pylist()
    (other,) = measured(scorer, ROWS[:1]).to_pylist()
    assert entry["themes"] is entry["closest"] is None
    shared = entry.keys() - {"themes", "closest"}
    assert {name: entry[name] for name in shared} == {name: other[name] for name in shared}


def test_nothing_is_written_when_a_run_fails(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    target = tmp_path / "s.parquet"
    bad = Source.open(jsonl([ROWS[0], b"broken"], "bad.jsonl"))
    with pytest.raises(SaefilterError, match=r"bad.jsonl:2: not readable JSON"):
        score_file(bad, target, replace(scorer.settings, on_bad_row="error"), scorer=scorer)
    with pytest.raises(
        SaefilterError, match="none of its 2 rows can be scored; 2 of them: no known"
    ):
        score_file(
            Source.open(jsonl([{"a": 1}, {"b": 2}], "odd.jsonl")), target, scorer.settings,
            scorer=scorer,
        )  # fmt: skip
    with pytest.raises(SaefilterError, match="there are no rows"):
        score_file(Source.open(jsonl([], "empty.jsonl")), target, scorer.settings, scorer=scorer)
    assert [path.suffix for path in tmp_path.iterdir()] == [".jsonl"] * 3
    target.write_text("precious")
    with pytest.raises(SaefilterError, match="exists already"):
        score_file(bad, target, scorer.settings, scorer=scorer)
    assert target.read_text() == "precious"


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        (ScoreSettings("none"), "no preset 'none'"),
        (ScoreSettings("minilm", metric="best"), "no metric 'best'"),
        (ScoreSettings("minilm", toxic_set="none"), "no toxic set 'none'"),
        (ScoreSettings("minilm", toxic_set="none.json"), "no file none.json"),
    ],
)
def test_wrong_settings_are_clear_errors(settings_: ScoreSettings, message: str) -> None:
    with pytest.raises(SaefilterError, match=message):
        RowScorer.load(settings_)


def test_a_toxic_set_of_another_sae_is_refused(tmp_path: Path, scorer: RowScorer) -> None:
    other = replace(scorer.scorer.toxic_set, fingerprint="0" * 64)
    (tmp_path / "other.json").write_text(other.to_json())
    with pytest.raises(SaefilterError, match="belongs to the SAE"):
        RowScorer.load(ScoreSettings("minilm", toxic_set=str(tmp_path / "other.json")))


def test_spillover_is_the_mean_push_beyond_the_reference_whatever_the_shards(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    source = Source.open(jsonl([*ROWS, {"odd": 1}]))
    found = []
    for shard_rows in (2, 100):
        output = tmp_path / f"{shard_rows}.parquet"
        settings = replace(scorer.settings, shard_rows=shard_rows)
        score_file(source, output, settings, scorer=scorer)
        found.append(Scores.open(output).provenance.spillover)
    assert found[0] is not None
    assert found[1] is not None
    pushes = {entry["feature"]: entry for entry in found[1]}
    for entry in found[0]:
        assert entry["push"] == pytest.approx(pushes[entry["feature"]]["push"], abs=1e-5)
        assert entry["low"] <= entry["push"] <= entry["high"]
    values = [entry["push"] for entry in found[0]]
    assert values == sorted(values, reverse=True)

    # by hand: unit decoder directions, pooled activations of each row alone
    reference = scorer.scorer.push_reference
    assert reference is not None
    directions = scorer.encoder.sae.directions()
    toxic = reference.features[17]
    cosines = directions @ directions[toxic]
    means = []
    for row in ROWS:
        _, windows = scorer.renderer.render([recognise(row)])
        activations = scorer.encoder.encode(windows, 1).features.toarray()[0]
        means.append(activations @ cosines / activations.sum())
    assert pushes[toxic]["push"] == pytest.approx(np.mean(means) - reference.mean[17], abs=1e-5)


def test_no_spillover_where_the_reference_was_pooled_otherwise(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    other = RowScorer(scorer.encoder, scorer.scorer, replace(scorer.settings, pool="max"))
    output = tmp_path / "s.parquet"
    score_file(Source.open(jsonl(ROWS)), output, other.settings, scorer=other)
    assert Scores.open(output).provenance.spillover is None


def test_a_run_remembers_for_which_batches_memory_sufficed(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    """The budget goes into receipts, and from them into the run that goes on."""
    job = Job(
        Source.open(jsonl(ROWS)), replace(scorer.settings, shard_rows=2), tmp_path, "made of", 48
    )
    shards = read_shards(job, plan_shards(len(ROWS), 2))
    try:
        engine = LocalEngine(scorer)
        receipts = list(
            engine.run(score_shard, job, shards, threading.Event(), lambda tokens: None)
        )
        assert scorer.encoder.memory_limit == 48
        _, windows = scorer.renderer.render([recognise(row) for row in ROWS[:5]])
        for batch in scorer.encoder._plan(windows, 4096):
            assert len(batch.windows) == 1 or batch.n_padded <= 48
    finally:
        scorer.encoder.memory_limit = None
    assert memory_limit(receipts) == 48
    assert memory_limit([replace(receipts[0], memory_limit=None), receipts[1]]) == 48
    assert memory_limit([replace(receipt, memory_limit=None) for receipt in receipts]) is None


def test_stages_and_padding_are_kept(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    output = tmp_path / "s.parquet"
    score_file(
        Source.open(jsonl(ROWS)),
        output,
        replace(scorer.settings, shard_rows=3),
        scorer=scorer,
    )
    made = Scores.open(output).provenance
    assert made.timings is not None
    assert set(made.timings) == {"read", "render", "encode", "geometry", "write"}
    assert made.timings["encode"] > 0
    assert 0 <= made.padding < 1
