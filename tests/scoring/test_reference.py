"""Reference rows of the user's: percentiles and verdicts are against these."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import chat
from typer.testing import CliRunner

import saefilter
from saefilter.artifacts.scores import Scores
from saefilter.cli import app, commands
from saefilter.curate.sources import bundled
from saefilter.errors import SaefilterError
from saefilter.filtering.filter import filter_file
from saefilter.gate.evaluate import evaluate
from saefilter.gate.policy import DEFAULT_POLICY
from saefilter.gate.words import why
from saefilter.rows.formats import Conversation
from saefilter.rows.inputs import open_input
from saefilter.scoring.reference import LEAST_ROWS, read_reference
from saefilter.scoring.score import score_file
from saefilter.scoring.scorer import RowScorer
from saefilter.scoring.workfolder import work_folder
from saefilter.select.strategies import Selection
from saefilter.settings import ScoreSettings
from saefilter.toxic.load import load_toxic_set
from saefilter.toxic.toxicset import UNLIKE
from saefilter.watch import Watch

N = 80


def rows(conversations: list[Conversation]) -> list[dict[str, Any]]:
    return [
        {"messages": [{"role": turn.role, "content": turn.content} for turn in turns]}
        for turns in conversations
    ]


GOOD = rows(bundled().benign)
BAD = rows(bundled().toxic)


@pytest.fixture(scope="module")
def loaded() -> RowScorer:
    return RowScorer.load(ScoreSettings("minilm", device="cpu", dtype="fp32"))


def against(loaded: RowScorer, path: Path | str) -> RowScorer:
    """The loaded model with other reference rows."""
    settings = replace(loaded.settings, reference=str(path))
    reference = read_reference(settings, loaded.encoder, loaded.scorer)
    return RowScorer(loaded.encoder, loaded.scorer, settings, None, reference)


def scored(scorer: RowScorer, data: Path, **how: Any) -> Scores:
    output = data.with_suffix(".scores.parquet")
    score_file(open_input(data), output, scorer.settings, scorer=scorer, **how)
    return Scores.open(output)


def column(scores: Scores, name: str) -> np.ndarray[Any, Any]:
    return scores.read([name])[name].to_numpy()


def test_the_reference_against_itself_is_uniform(
    loaded: RowScorer, jsonl: Callable[..., Path]
) -> None:
    good = jsonl(GOOD[:N], "good.jsonl")
    scores = scored(against(loaded, good), good)
    made = scores.provenance
    percentiles = np.sort(column(scores, "percentile"))
    np.testing.assert_allclose(percentiles, np.linspace(0, 100, N), atol=100 / N)
    assert made.reference_rows == N
    # alike in all: a half of the rows lies below, on average, and nothing is warned of
    assert made.likeness is not None
    assert set(made.likeness) == {"tokens", "active", "rarity", "score"}
    for place, _ in made.likeness.values():
        assert place == pytest.approx(0.5, abs=0.02)
    assert made.unlike == []
    assert UNLIKE not in (made.note or "")
    # nor is anything pushed beyond itself
    assert made.spillover
    assert max(abs(one["push"]) for one in made.spillover) < 1e-5


def test_the_order_of_the_reference_is_irrelevant(
    loaded: RowScorer, jsonl: Callable[..., Path]
) -> None:
    shuffled = random.Random(0).sample(GOOD[:N], N)
    one, other = (
        read_reference(
            replace(loaded.settings, reference=str(jsonl(some, "good.jsonl"))),
            loaded.encoder, loaded.scorer,
        ).calibration
        for some in (GOOD[:N], shuffled)
    )  # fmt: skip
    assert one.quantiles.keys() == other.quantiles.keys()
    for key, values in one.quantiles.items():
        np.testing.assert_allclose(values, other.quantiles[key], atol=1e-4)
    assert one.groups == other.groups
    assert one.likeness is not None
    assert other.likeness is not None
    assert one.likeness.mean == pytest.approx(other.likeness.mean, rel=1e-3)
    np.testing.assert_allclose(one.likeness.frequency, other.likeness.frequency, atol=0.02)


def test_too_few_rows_that_can_be_scored_are_an_error(
    loaded: RowScorer, jsonl: Callable[..., Path]
) -> None:
    few = [*GOOD[: LEAST_ROWS - 1], b"{", {"other": 1}, chat("A question without an answer", "")]
    path = jsonl(few, "few.jsonl")
    with pytest.raises(SaefilterError, match="needs at least 50") as said:
        against(loaded, path)
    assert f"only {LEAST_ROWS - 1} rows can be scored" in said.value.problem
    assert said.value.where == f"--reference {path}"
    assert said.value.remedy
    enough = jsonl([*few, GOOD[LEAST_ROWS]], "few.jsonl")
    assert against(loaded, enough).identity().reference_rows == LEAST_ROWS
    with pytest.raises(SaefilterError, match="0 rows can be scored"):
        against(loaded, jsonl([], "few.jsonl"))
    with pytest.raises(SaefilterError, match=r"there is no file none\.jsonl"):
        RowScorer.load(ScoreSettings("minilm", reference="none.jsonl"))


def test_resuming_with_another_reference_is_another_job(
    loaded: RowScorer, jsonl: Callable[..., Path]
) -> None:
    data, good = jsonl(GOOD[N : 2 * N]), jsonl(GOOD[:N], "good.jsonl")
    scorer = against(loaded, good)
    scorer = RowScorer(
        scorer.encoder,
        scorer.scorer,
        replace(scorer.settings, shard_rows=8),
        None,
        scorer.reference,
    )

    def stop(rows: int, tokens: int) -> None:
        if rows:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        scored(scorer, data, watch=Watch(advance=stop))
    assert work_folder(data.with_suffix(".scores.parquet")).is_dir()
    # the file has its name still, and other rows
    jsonl(GOOD[: N + 1], "good.jsonl")
    changed = RowScorer(
        scorer.encoder, scorer.scorer, scorer.settings, None,
        read_reference(scorer.settings, scorer.encoder, scorer.scorer),
    )  # fmt: skip
    with pytest.raises(SaefilterError, match=r"reference was [0-9a-f]{12}, now [0-9a-f]{12}"):
        scored(changed, data, resume=True)
    with pytest.raises(SaefilterError, match=r"reference was [0-9a-f]{12}, now"):
        scored(RowScorer(loaded.encoder, loaded.scorer, replace(scorer.settings, reference=None)),
               data, resume=True)  # fmt: skip
    assert scored(scorer, data, resume=True).provenance.rows == N


def test_scores_say_what_they_are_against(loaded: RowScorer, jsonl: Callable[..., Path]) -> None:
    good = jsonl(GOOD[:N], "good.jsonl")
    data = jsonl([*GOOD[N : N + 40], *BAD[:20]])
    scores = scored(against(loaded, good), data)
    made = scores.provenance
    assert made.reference_name == str(good)
    assert made.reference_sha256 == open_input(good).sha256()
    assert made.reference is not None
    assert len(made.reference["proximity"]) == len(made.reference["group"]) == N
    shipped = load_toxic_set("minilm").calibration
    assert shipped is not None
    assert made.reference["auroc"] == list(shipped.auroc or ())
    # of the same rows, the shares against others differ, the proximities do not
    distances, percentiles = column(scores, "distance"), column(scores, "percentile")
    own = scored(loaded, data, overwrite=True)
    np.testing.assert_allclose(column(own, "distance"), distances, atol=1e-4)
    assert own.provenance.reference_name is None
    assert own.provenance.reference_rows == shipped.rows
    assert not np.allclose(column(own, "percentile"), percentiles, atol=0.5)


def test_the_gate_and_the_report_measure_against_it_and_say_so(
    loaded: RowScorer, jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    good = jsonl(GOOD[:N], "<good>.jsonl")
    source = open_input(jsonl([*GOOD[N : N + 40], *BAD[:20]]))
    scores = scored(against(loaded, good), Path(source.path))
    verdict = evaluate(source, scores, DEFAULT_POLICY)
    flagged = next(rule for rule in verdict.rules if rule.rule == "max-flagged")
    # the 4th closest of 80: 4 / 81 is at most 5 %
    assert f"than the 4th closest of {N} rows of {good}" in flagged.detail
    assert flagged.measured > 10
    assert f"of {good}" in why(flagged.rows[0])
    assert verdict.power_unknown == (
        f"how many bad rows are closer than the rows of {good} was not measured"
    )
    with pytest.raises(SaefilterError, match=rf"from the {N} rows of "):
        evaluate(source, scores, replace(DEFAULT_POLICY, at_fpr=1.0))
    result = filter_file(source, scores, tmp_path / "kept.jsonl", Selection(drop_frac=0.1))
    assert result.report.reference_name == str(good)
    html = next(tmp_path.glob("*.html")).read_text(encoding="utf-8")
    assert f"{N} rows of" in html
    assert "&lt;good&gt;.jsonl" in html
    assert "<good>" not in html
    assert f"Against {N} rows of" in next(tmp_path.glob("*.report.md")).read_text(encoding="utf-8")


def test_the_scores_do_not_replace_their_reference(
    loaded: RowScorer, jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    data, good = jsonl(GOOD[:3]), jsonl(GOOD[:N], "good.jsonl")
    scorer, before = against(loaded, good), good.read_bytes()
    with pytest.raises(SaefilterError, match="would be overwritten"):
        score_file(open_input(data), good, scorer.settings, scorer=scorer, overwrite=True)
    assert good.read_bytes() == before


def test_command_project_file_and_python_take_it(
    jsonl: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    jsonl(GOOD[:N], "good.jsonl")
    jsonl(GOOD[N : N + 10])

    commands()

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == code, done.output
        return " ".join(done.output.split())

    said = run("score", "data.jsonl", "--reference", "good.jsonl")
    assert f"Closer than 95% of {N} rows of good.jsonl" in said
    assert "of the rows of good.jsonl" in said
    # scores at hand serve where the same reference is asked for, here by the project's file
    (tmp_path / "saefilter.toml").write_text('preset = "minilm"\nreference = "good.jsonl"\n')
    said = run("check", "data.jsonl", "--max-flagged", "100%")
    assert "Using the scores data.scores.parquet" in said
    assert f"closest of {N} rows of good.jsonl" in said
    settings = ScoreSettings("minilm", reference="good.jsonl")
    scores = saefilter.score(GOOD[N : N + 10], settings=settings)
    assert scores.provenance.reference_name == "good.jsonl"
    np.testing.assert_allclose(
        column(scores, "percentile"),
        column(Scores.open(tmp_path / "data.scores.parquet"), "percentile"),
        atol=0.1,
    )
