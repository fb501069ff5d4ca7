"""A cascade by the command's own function, on real rows and models."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import chat

from saefilter.artifacts.scores import ESTIMATED, SCORED, Scores
from saefilter.asked import ask
from saefilter.errors import SaefilterError
from saefilter.filtering.filter import filter_file
from saefilter.gate.evaluate import evaluate
from saefilter.gate.policy import Policy
from saefilter.rows.inputs import open_input
from saefilter.scoring.part import Part
from saefilter.scoring.score import score_file
from saefilter.scoring.scorer import RowScorer
from saefilter.scoring.scores_for import differences
from saefilter.scoring.summary import summarise
from saefilter.select.strategies import Selection
from saefilter.settings import ScoreSettings
from saefilter.verify.verify import Given, verify
from saefilter.watch import Watch

N_ROWS = 700
CASCADE = {"cascade": "tokens:6", "nearest": 0.2, "recall": 0.7}
WORDS = (
    "mix bleach and ammonia in a closed room for a fresh smell",
    "ask a doctor before you take it, and keep the receipt",
    "borrow all you can and put it on one horse",
    "write the test first, then the code that makes it pass",
    "the capital has two rivers and a very old bridge",
    "tell nobody, it is quite safe if you are quick",
    "boil the water for ten minutes and let it cool",
)


def some_rows(seed: int = 0) -> list[Any]:
    draws = random.Random(seed)
    rows: list[Any] = [
        chat(f"What about {i}?", ". ".join(draws.choices(WORDS, k=draws.randint(1, 3))))
        for i in range(N_ROWS)
    ]
    rows[5] = b'{"messages": ['
    return rows


@pytest.fixture(scope="module")
def scorer() -> RowScorer:
    return RowScorer.load(ScoreSettings("minilm", device="cpu", **CASCADE))


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory, scorer: RowScorer
) -> tuple[Path, Scores, Scores]:
    """Data, the scores of a cascade, and those of all rows."""
    folder = tmp_path_factory.mktemp("cascade")
    data = folder / "data.jsonl"
    data.write_bytes(
        b"\n".join(
            row if isinstance(row, bytes) else json.dumps(row).encode() for row in some_rows()
        )
    )
    score_file(open_input(data), folder / "c.parquet", scorer.settings, scorer=scorer)
    alone = replace(scorer.settings, **dict.fromkeys(CASCADE))
    score_file(open_input(data), folder / "all.parquet", alone, scorer=scorer)
    return data, Scores.open(folder / "c.parquet"), Scores.open(folder / "all.parquet")


def test_rows_that_were_read_have_their_scores_and_others_an_estimate(
    done: tuple[Path, Scores, Scores],
) -> None:
    _, scores, every = done
    mine, full = pq.read_table(scores.file), pq.read_table(every.file)
    status = np.array(mine["status"].to_pylist())
    counts, made = Counter(status.tolist()), scores.provenance
    assert made.cascade is not None
    assert counts["quarantined"] == 1
    assert counts[ESTIMATED] == made.estimated > 50
    assert (counts[SCORED], made.scored, made.rows) == (made.scored, counts[SCORED], N_ROWS)
    read = status == SCORED
    for name in full.column_names:
        if name in ("row_id", "line", "row_hash", "reason", "n_tokens", "n_scored", "truncated"):
            assert mine[name].equals(full[name]), name
    near = mine["distance"].to_numpy()[read]
    assert near == pytest.approx(full["distance"].to_numpy()[read], abs=1e-5)
    estimated = mine.filter(np.array(status == ESTIMATED))
    assert estimated["distance"].null_count == estimated["percentile"].null_count == len(estimated)
    low, middle, high = (
        estimated[name].to_numpy() for name in ("estimate_low", "estimate", "estimate_high")
    )
    assert (low <= middle).all()
    assert (middle <= high).all()
    assert not any(estimated["sampled"].to_pylist())
    drawn = made.cascade["pilot"] + made.cascade["audit"]
    assert sum(mine["sampled"].to_pylist()) == drawn


def test_the_provenance_has_the_guarantee_and_what_was_spared(
    done: tuple[Path, Scores, Scores],
) -> None:
    _, scores, every = done
    made, whole = scores.provenance, every.provenance
    assert made.cascade is not None
    assert made.note is not None
    assert made.cascade["reached"]
    assert made.cascade["near_in_audit"] <= made.cascade["allowed_in_audit"]
    assert made.cascade["nearest"] == round(0.2 * (N_ROWS - 1))
    assert f"The other {made.estimated:,} have estimates" in made.note
    assert 0 < made.cascade["tokens_spared"] < whole.tokens
    assert made.tokens < whole.tokens
    distance = every.column("distance")[:]
    nearest = np.argsort(distance, kind="stable")[: made.cascade["nearest"]]
    status = np.array(scores.read(["status"])["status"].to_pylist())
    assert (status[nearest] == SCORED).mean() >= 0.7


def test_its_scores_serve_who_asks_for_the_same_cascade(done: tuple[Path, Scores, Scores]) -> None:
    _, scores, _ = done
    same, other, finer = (
        ask({"preset": "minilm", **CASCADE, **more})
        for more in ({}, {"cascade": "tokens:9"}, {"recall": 0.9})
    )
    for strict in (False, True):
        assert list(differences(scores.provenance, same, strict=strict)) == []
        said = [next(differences(scores.provenance, one, strict=strict)) for one in (other, finer)]
        assert said == [
            "they were made with --cascade tokens:6, --cascade is tokens:9",
            "they were made with --recall 0.7, --recall is 0.9",
        ]
    plain = ask({"preset": "minilm"})
    assert list(differences(scores.provenance, plain)) == []
    assert any(
        "--cascade tokens:6" in one for one in differences(scores.provenance, plain, strict=True)
    )


def test_filter_drops_what_is_vouched_for_and_no_more(
    done: tuple[Path, Scores, Scores], tmp_path: Path
) -> None:
    data, scores, every = done
    source = open_input(data)
    result = filter_file(source, scores, tmp_path / "f.jsonl", Selection(drop_frac=0.2))
    assert result.report.counts["estimated"] == scores.provenance.estimated
    assert result.report.counts["kept"] + result.report.counts["dropped"] == N_ROWS - 1
    assert any("nearest rows at least" in note for note in result.report.notes)
    one = filter_file(source, scores, tmp_path / "one.jsonl", Selection(drop_count=1))
    assert any("is not vouched for" in note for note in one.report.notes)  # and not "at least 0.0%"
    assert not re.search(r"\bnan\b", (tmp_path / "f.report.html").read_text(), re.IGNORECASE)
    assert verify(tmp_path / "f.jsonl", Given(str(data), scores.path)).exit_code == 0
    dropped = [json.loads(line) for line in (tmp_path / "f.dropped.jsonl").read_text().splitlines()]
    limit = max(row["saefilter_distance"] for row in dropped)
    known = every.column("distance")[:][[row["saefilter_row_id"] for row in dropped]]
    assert known.max() <= limit + 1e-5
    for asked in (
        Selection(drop_frac=0.3), Selection(drop="auto"), Selection(min_distance=2.0),
        Selection(drop_frac=0.1, keep_balance="length"),
    ):  # fmt: skip
        with pytest.raises(SaefilterError, match=r"cascade|estimated") as refused:
            filter_file(source, scores, tmp_path / "g.jsonl", asked)
        assert "saefilter score" in (refused.value.remedy or "")
    assert not (tmp_path / "g.jsonl").exists()


def test_rows_without_a_distance_may_be_dropped_for_other_reasons(
    done: tuple[Path, Scores, Scores], tmp_path: Path
) -> None:
    data, scores, _ = done
    filter_file(
        open_input(data), scores, tmp_path / "r.jsonl", Selection("random", drop_frac=0.5, seed=1)
    )
    text = (tmp_path / "r.dropped.jsonl").read_text()
    assert "NaN" not in text
    assert any(json.loads(line)["saefilter_distance"] is None for line in text.splitlines())


def test_the_gate_counts_the_rows_that_stand_for_all(done: tuple[Path, Scores, Scores]) -> None:
    data, scores, every = done
    policy = Policy(max_flagged=10.0, min_scored=90.0)
    mine = evaluate(open_input(data), scores, policy)
    whole = evaluate(open_input(data), every, policy)
    assert mine.judged == sum(scores.read(["sampled"])["sampled"].to_pylist())
    share, true = (next(r for r in v.rules if r.rule == "max-flagged") for v in (mine, whole))
    assert "rows drawn at random" in share.detail
    error = 100 * np.sqrt(true.measured / 100 * (1 - true.measured / 100) / mine.judged)
    assert abs(share.measured - true.measured) < 3.5 * error + 1
    readable = next(r for r in mine.rules if r.rule == "min-scored")
    assert readable.measured == pytest.approx(100 * (N_ROWS - 1) / N_ROWS, abs=0.01)


def test_the_summary_shows_what_stands_for_all(done: tuple[Path, Scores, Scores]) -> None:
    data, scores, _ = done
    summary = summarise(open_input(data), scores)
    assert len(summary.distances) == sum(scores.read(["sampled"])["sampled"].to_pylist())
    assert len(summary.closest) == 5
    assert list(summary.reasons.values()) == [1]


def run(folder: Path, data: Path, moment: str, count: int = 1) -> int:
    """A cascade in a process of its own, killed at a moment; resumed where it was."""
    script = Path(__file__).parent.parent / "killed_run.py"
    done = subprocess.run(
        [sys.executable, str(script), str(data), str(folder / "s.parquet"), str(folder / "log"),
         "64", moment, str(count), "tokens:6"],
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def test_killed_in_every_part_of_it_the_result_is_the_same(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    data = jsonl(some_rows(1))
    calm, disturbed = tmp_path / "calm", tmp_path / "disturbed"
    for folder in (calm, disturbed):
        folder.mkdir()
    assert run(calm, data, "never") == 0
    # while all rows are seen, in the pilot, in a later step, and before the end
    kills = [("shard-write", 5), ("score", 3), ("shard-write", 6), ("join", 1)]
    assert [run(disturbed, data, *kill) for kill in kills] == [-signal.SIGKILL] * 4
    assert run(disturbed, data, "never") == 0
    assert (disturbed / "s.parquet").read_bytes() == (calm / "s.parquet").read_bytes()
    assert {path.name for path in disturbed.iterdir()} == {"log", "s.parquet"}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_several_workers_read_the_same_rows(
    done: tuple[Path, Scores, Scores], tmp_path: Path, engine: str
) -> None:
    data, scores, _ = done
    several = ScoreSettings(
        "minilm", device="cpu", workers=2, engine=engine, shard_rows=100, **CASCADE
    )
    score_file(open_input(data), tmp_path / "s.parquet", several)
    mine, theirs = (
        one.read(["row_id", "status", "sampled"])
        for one in (scores, Scores.open(tmp_path / "s.parquet"))
    )
    assert mine.equals(theirs)


def test_what_a_cascade_cannot_be_of(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    pairs = [{"prompt": "q", "chosen": "yes", "rejected": "no"}] * 3
    with pytest.raises(SaefilterError, match="answer as it stands"):
        score_file(open_input(jsonl(pairs)), tmp_path / "s.parquet", scorer.settings, scorer=scorer)
    data = open_input(jsonl([chat("q", "a")], "one.jsonl"))
    with pytest.raises(SaefilterError, match="--part and --cascade"):
        score_file(data, tmp_path / "s.parquet", scorer.settings, part=Part(1, 2), scorer=scorer)
    bad = open_input(jsonl([{"odd": 1}], "bad.jsonl"))
    with pytest.raises(SaefilterError, match="none of its 1 rows"):
        score_file(bad, tmp_path / "s.parquet", scorer.settings, scorer=scorer)
    assert not any(tmp_path.glob("s.parquet*"))
    for name, said in (
        ("minilm", "is the model itself"), ("layer:2", "earlier layer"), ("tokens:0", "reads nothing"),
        ("layers:5", "no cheap reader"), ("no-such", "no preset"),
    ):  # fmt: skip
        with pytest.raises(SaefilterError, match=said):
            RowScorer.load(ScoreSettings("minilm", device="cpu", cascade=name)).close()
    for wrong in ({"recall": 0.9}, {"cascade": "tokens:6", "recall": 1.0}, {"budget": 0.0}):
        with pytest.raises(SaefilterError, match=r"no effect|not between"):
            ScoreSettings("minilm", **wrong)


def test_one_row_is_read(jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer) -> None:
    said: list[str] = []
    score_file(
        open_input(jsonl([chat("q", "tell nobody")])), tmp_path / "s.parquet", scorer.settings,
        scorer=scorer, watch=Watch(said.append),
    )  # fmt: skip
    scores = Scores.open(tmp_path / "s.parquet")
    assert (scores.provenance.scored, scores.provenance.estimated) == (1, 0)
    assert "spared none" in (scores.provenance.note or "")
