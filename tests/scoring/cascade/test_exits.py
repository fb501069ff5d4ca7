"""Rows that stop at an early layer, and those that go on in the same pass, on a small llama."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers as hf
from checkpoints import configs, random_model, save_model, small_tokenizer
from conftest import chat
from numpy.typing import NDArray
from sae_files import random as random_weights

from saefilter.artifacts.scores import SCORED, Scores
from saefilter.encode.batches import PaddedBatch
from saefilter.encode.early import EarlyModel
from saefilter.encode.encoder import Encoder
from saefilter.encode.model import load_truncated_model
from saefilter.geometry.scorer import Scorer
from saefilter.rows.inputs import open_input
from saefilter.scoring.cascade.exits import exit_limit
from saefilter.scoring.cascade.plan import pilot_size
from saefilter.scoring.cascade.predict import Prediction
from saefilter.scoring.cascade.search import search
from saefilter.scoring.score import score_file
from saefilter.scoring.scorer import RowScorer
from saefilter.scoring.trial import stand_in
from saefilter.settings import ScoreSettings
from saefilter.stats.audit import Goal
from saefilter.watch import Interrupted, Watch

N_ROWS, D_MODEL, D_SAE = 700, 32, 64
CASCADE = {"cascade": "layer:0", "nearest": 0.1, "recall": 0.6}


def padded() -> PaddedBatch:
    ids = torch.arange(1, 49).view(4, 12)
    attention = torch.ones_like(ids)
    attention[1, 7:] = 0
    return PaddedBatch(ids, attention, attention.bool())


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_rows_that_go_on_are_what_they_are_among_all(family: str, tmp_path: Path) -> None:
    config = configs()[family]
    random_model(config).save_pretrained(tmp_path)
    model = load_truncated_model(str(tmp_path), config.num_hidden_layers)
    early, batch = EarlyModel(model, 0), padded()
    assert early.exits
    whole = model.hook_residual(batch)
    for chosen in ([1, 0, 1, 1], [0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]):
        keep = torch.tensor(chosen, dtype=torch.bool)
        expected = whole[keep][batch.scored[keep]]
        assert torch.allclose(early.read_on(batch, lambda _, k=keep: k), expected, atol=1e-5)
    assert torch.equal(model.hook_residual(batch), whole)


def test_a_model_that_looks_back_over_windows_reads_all_rows_to_the_end(tmp_path: Path) -> None:
    """Its masks are there for long rows alone, so that a trial would not tell."""
    config = configs()["gemma2"]
    random_model(config).save_pretrained(tmp_path)
    model = load_truncated_model(str(tmp_path), config.num_hidden_layers)
    assert not EarlyModel(model, 0).exits


def some_rows() -> Iterator[bytes]:
    draws = random.Random(0)
    words = ("bleach", "doctor", "receipt", "horse", "river", "water", "quick", "nobody", "loan")
    for number in range(N_ROWS):
        answer = " ".join(draws.choices(words, k=draws.randint(3, 25)))
        if number == 7:  # of several windows, in which it goes on whatever is guessed
            answer *= 40
        row = chat(f"What about {number}?", answer)
        yield b'{"messages": [' if number in (5, 90) else json.dumps(row).encode()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> ScoreSettings:
    """A llama, an SAE at its last layer, and a toxic set of some of its features."""
    from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig

    folder = tmp_path_factory.mktemp("llama")
    tokenizer = small_tokenizer(bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    llama = configs()["llama"]
    llama.max_position_embeddings = 200
    save_model(llama, folder / "m", tokenizer, model_class=hf.LlamaForCausalLM)
    config = StandardSAEConfig(d_in=D_MODEL, d_sae=D_SAE)
    config.metadata.hook_name = "blocks.2.hook_resid_post"
    sae = StandardSAE(config)
    for seed, parameter in enumerate(sae.parameters()):
        parameter.data = random_weights(*parameter.shape, seed=seed)
    sae.save_model(folder / "s")
    return ScoreSettings(
        model=str(folder / "m"), sae=str(folder / "s"), device="cpu", dtype="fp32", shard_rows=100,
        max_tokens=2000, **CASCADE,
    )  # fmt: skip


def ranked(seed: int, n: int, noise: float) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    draws = np.random.default_rng(seed)
    distance = draws.normal(size=n)
    return (distance + noise * draws.normal(size=n)).astype(np.float32)[:, None], distance


class Held:
    """What a cheap reader saw, in memory."""

    def __init__(self, every: NDArray[np.float32]):
        self.every, self.known = every, np.ones(len(every), dtype=np.bool_)

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.every[rows]

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        yield self.every


def test_the_recall_is_held_by_a_search_that_begins_with_a_sweep() -> None:
    """In at least 95 of 100 repetitions, as of a search without one; so is where the guess is worth nothing
    that the sweep went by."""
    n, goal, missed = 2000, Goal(200, 0.9), 0
    for seed in range(100):
        vectors, distance = ranked(seed, n, (0.3, 0.7, 1.5, 30.0)[seed % 4])
        pilot = np.sort(np.random.default_rng([seed, n, 1]).permutation(n)[: pilot_size(n, n)])
        taught = Prediction.fit(vectors[pilot], distance[pilot])
        limit = exit_limit(taught, distance[pilot], goal, n)
        on = np.setdiff1d(np.flatnonzero(taught.distance(vectors) <= limit), pilot)
        steps = search(Held(vectors), goal, seed=seed, begun=(pilot, on))
        ask = next(steps)
        assert (ask.name, ask.rows.tolist()) == ("pilot", pilot.tolist())
        try:
            while True:
                ask = steps.send(distance[ask.rows])
        except StopIteration as end:
            found = end.value
        nearest = np.argsort(distance, kind="stable")[: goal.count]
        missed += found.read[nearest].mean() < goal.recall
        assert found.read[on].all()
    assert missed <= 5


@pytest.fixture(scope="module")
def scorer(settings: ScoreSettings) -> Iterator[RowScorer]:
    encoder = Encoder.of(settings)
    space = Scorer(stand_in(encoder, 12), encoder.sae.directions(), metric=settings.metric)
    loaded = RowScorer(encoder, space, settings)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory, scorer: RowScorer
) -> tuple[Path, Scores, Scores]:
    """Data, the scores of a cascade, and those of all rows."""
    folder = tmp_path_factory.mktemp("cascade")
    data = folder / "data.jsonl"
    data.write_bytes(b"\n".join(some_rows()))
    score_file(open_input(data), folder / "c.parquet", scorer.settings, scorer=scorer)
    alone = replace(scorer.settings, **dict.fromkeys(CASCADE))
    score_file(open_input(data), folder / "all.parquet", alone, scorer=scorer)
    return data, Scores.open(folder / "c.parquet"), Scores.open(folder / "all.parquet")


def test_scores_of_rows_that_went_on_are_those_of_a_run_over_all(
    done: tuple[Path, Scores, Scores], scorer: RowScorer
) -> None:
    _, scores, every = done
    mine, full = pq.read_table(scores.file), pq.read_table(every.file)
    status, cascade = np.array(mine["status"].to_pylist()), scores.provenance.cascade
    assert cascade is not None
    assert cascade["one_pass"]
    read = status == SCORED
    assert mine["row_id"].equals(full["row_id"])
    assert np.flatnonzero(status == "quarantined").tolist() == [5, 90]
    for name in ("distance", "percentile", "own_share"):
        ours, theirs = (t[name].to_numpy()[read].astype(float) for t in (mine, full))
        np.testing.assert_allclose(ours, theirs, atol=1e-5, equal_nan=True)
    assert read[7], "of several windows"
    nearest = np.argsort(every.column("distance")[:], kind="stable")[: cascade["nearest"]]
    assert read[nearest].mean() >= CASCADE["recall"]


def test_what_was_spared_is_counted(done: tuple[Path, Scores, Scores]) -> None:
    _, scores, every = done
    cascade, made = scores.provenance.cascade, scores.provenance
    assert cascade is not None
    assert 0 < cascade["went_on"] < made.scored < made.scored + made.estimated == N_ROWS - 2
    assert 0 < cascade["tokens_gone_on"] < made.tokens
    assert cascade["cheap_tokens"] == every.provenance.tokens
    assert made.tokens + cascade["tokens_spared"] == every.provenance.tokens


class Died(Exception):
    """Where a run ends."""


def dying(shards: int) -> Watch:
    """Ends a run once so many shards have been done."""
    left = shards

    def advance(rows: int, tokens: int) -> None:
        nonlocal left
        left -= rows > 0
        if left < 0:
            raise Died

    return Watch(advance=advance)


def test_ended_anywhere_the_rest_is_read_and_the_rows_are_the_same(
    done: tuple[Path, Scores, Scores], scorer: RowScorer, tmp_path: Path
) -> None:
    data, scores, _ = done
    output = tmp_path / "s.parquet"
    again = {"scorer": scorer, "resume": True}
    ends = 0
    while not output.exists():  # in the pilot, in the sweep, and after it
        try:
            score_file(open_input(data), output, scorer.settings, watch=dying(1), **again)
        except Died:
            ends += 1
            # a shard whose scores are gone is read again
            (tmp_path / "s.parquet.shards" / "sweep" / "000001.json").unlink(missing_ok=True)
    assert ends >= 4
    mine = Scores.open(output)
    assert pq.read_table(mine.file).equals(pq.read_table(scores.file))
    assert mine.provenance.cascade == scores.provenance.cascade
    assert [path.name for path in tmp_path.iterdir()] == ["s.parquet"]


def test_a_pilot_is_kept_by_who_stops_before_the_sweep(
    done: tuple[Path, Scores, Scores], scorer: RowScorer, tmp_path: Path
) -> None:
    data, _, _ = done
    stopping = Watch(advance=lambda rows, _: os.kill(os.getpid(), signal.SIGINT) if rows else None)
    output = tmp_path / "s.parquet"
    with pytest.raises(Interrupted, match=r"0 of 7 shards are safe"):
        score_file(open_input(data), output, scorer.settings, scorer=scorer, watch=stopping)
    assert list((tmp_path / "s.parquet.shards" / "pilot").glob("*.parquet"))


@pytest.mark.slow
def test_several_workers_let_the_same_rows_on(
    done: tuple[Path, Scores, Scores], scorer: RowScorer, tmp_path: Path
) -> None:
    data, scores, _ = done
    (tmp_path / "set.json").write_text(scorer.scorer.toxic_set.to_json())
    several = replace(
        scorer.settings, workers=2, shard_rows=150, toxic_set=str(tmp_path / "set.json")
    )
    score_file(open_input(data), tmp_path / "s.parquet", several)
    mine, theirs = (
        one.read(["row_id", "status", "sampled"])
        for one in (Scores.open(tmp_path / "s.parquet"), scores)
    )
    assert mine.equals(theirs)


def test_a_budget_says_how_many_are_read_so_that_none_goes_on(
    done: tuple[Path, Scores, Scores], scorer: RowScorer, tmp_path: Path
) -> None:
    data, _, _ = done
    small = replace(scorer.settings, budget=0.4)
    score_file(open_input(data), tmp_path / "b.parquet", small, scorer=scorer)
    made = Scores.open(tmp_path / "b.parquet").provenance
    assert made.cascade is not None
    assert not made.cascade["one_pass"]
    assert made.scored <= 0.4 * N_ROWS
