"""Scores that lie there, made in another way than is asked for, are never used in silence."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import chat

ROWS = [chat(f"Question {i}?", f"Boil the egg for {i} minutes.") for i in range(12)]


class Ran(NamedTuple):
    stdout: str
    stderr: str


def saefilter(folder: Path, *arguments: str, code: int) -> Ran:
    """The command line in this process, which has torch loaded already."""
    from saefilter.cli import _run

    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.chdir(folder)
        patch.delenv("SAEFILTER_PRESET", raising=False)
        patch.setattr(sys, "argv", ["saefilter", *arguments])
        with pytest.raises(SystemExit) as end:
            _run()
    assert (end.value.code or 0) == code, out.getvalue() + err.getvalue()
    return Ran(out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset and its scores by the defaults."""
    folder = tmp_path_factory.mktemp("scored")
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    saefilter(folder, "score", "data.jsonl", "-q", code=0)
    return folder


@pytest.fixture
def folder(scored: Path, tmp_path: Path) -> Path:
    for file in scored.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_the_projects_preset_is_not_passed_over(folder: Path) -> None:
    (folder / "saefilter.toml").write_text('preset = "gemma-2-2b"\n')
    clause = "they were made with preset minilm, saefilter.toml says gemma-2-2b"
    # no weights of it here: the gate reaches no verdict rather than one by another model
    done = saefilter(folder, "check", "data.jsonl", code=2)
    assert f"Not using data.scores.parquet: {clause}" in done.stderr
    assert "NO VERDICT" in done.stdout
    done = saefilter(folder, "check", "data.jsonl", "--scores", "data.scores.parquet", code=2)
    assert clause in done.stdout
    before = (folder / "data.scores.parquet").read_bytes()
    for data in (["data.jsonl"], [], ["data.jsonl", "--scores", "data.scores.parquet"]):
        done = saefilter(folder, "filter", *data, "--drop-count", "1", code=2)
        assert clause in done.stderr
        assert "--overwrite" in done.stderr
    assert clause in saefilter(folder, "compare", code=2).stderr
    assert (folder / "data.scores.parquet").read_bytes() == before
    assert not list(folder.glob("*.filtered.*"))
    # an option wins over the file, and says the same as the scores
    saefilter(folder, "filter", "--preset", "minilm", "--drop-count", "1", code=0)


@pytest.mark.parametrize(
    ("options", "clause"),
    [
        (["--dtype", "bf16"], "made with --dtype fp32, --dtype is bf16"),
        (["--pool", "max"], "made with --pool mean, --pool is max"),
        (
            ["--neighbours", "3", "--metric", "nearest"],
            "made with --neighbours 1, --neighbours is 3",
        ),
        (["--truncation-side", "left"], "made with --truncation-side right"),
        (["--max-tokens", "5"], "made with --max-tokens 1024, --max-tokens is 5"),
        (["--train-on", "all"], "made with --train-on assistant, --train-on is all"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_check_scores_anew_and_says_why(folder: Path, options: list[str], clause: str) -> None:
    arguments = ["data.jsonl", *options, "--max-proximity", "1000", "--max-quarantined", "100%"]
    if options[0] == "--dtype":  # scored in fp32, whatever this CPU would choose by itself
        saefilter(folder, "score", "data.jsonl", "--dtype", "fp32", "--overwrite", code=0)
    done = saefilter(folder, "check", *arguments, code=0)
    assert "Not using data.scores.parquet: " in done.stderr
    assert clause in done.stderr
    assert (
        clause
        in saefilter(folder, "check", *arguments, "--scores", "data.scores.parquet", code=2).stdout
    )


def test_another_toxic_set_rendering_and_revision_are_not_passed_over(folder: Path) -> None:
    from saefilter.toxic.load import find_toxic_set

    fields = json.loads(find_toxic_set("minilm").read_text())
    (folder / "own.json").write_text(json.dumps({**fields, "name": "own"}))
    # plain is what `auto` came to, so those scores serve; of other content the set does not
    saefilter(folder, "filter", "--rendering", "plain", "--drop-count", "1", code=0)
    done = saefilter(folder, "filter", "--rendering", "chat", "--drop-count", "1", code=2)
    assert "made with --rendering plain, --rendering is chat" in done.stderr
    done = saefilter(folder, "filter", "--toxic-set", "own.json", "--drop-count", "1", code=2)
    assert "made with toxic set minilm, --toxic-set is own.json" in done.stderr
    done = saefilter(folder, "check", "data.jsonl", "--revision", "abc", code=2)
    assert "--revision has no effect" in done.stdout


def test_filter_scores_anew_where_it_may_replace(folder: Path) -> None:
    done = saefilter(
        folder, "filter", "data.jsonl", "--metric", "nearest", "--drop-count", "2", "--overwrite",
        code=0,
    )  # fmt: skip
    assert "Not using data.scores.parquet: they were made with --metric contrast" in done.stderr
    assert json.loads((folder / "data.filtered.report.json").read_text())["scoring"]["metric"] == (
        "nearest"
    )


def test_what_has_no_effect_is_refused(folder: Path) -> None:
    done = saefilter(
        folder, "filter", "--preset", "nosuch", "--metric", "nearest", "--drop-count", "1", code=2
    )
    assert "there is no preset 'nosuch'" in done.stderr
    done = saefilter(folder, "filter", "--drop-count", "1", "--seed", "3", code=2)
    assert "--seed has no effect with --strategy closest" in done.stderr
    done = saefilter(
        folder, "check", "data.jsonl", "--scores", "data.scores.parquet", "-o", "x.parquet", code=2
    )
    assert "-o has no effect with --scores" in done.stderr
    (folder / "saefilter.toml").write_text('prest = "minilm"\n')
    done = saefilter(folder, "filter", "--drop-count", "1", code=2)
    assert "saefilter.toml: 'prest' is no setting. Did you mean 'preset'?" in done.stderr
    (folder / "saefilter.toml").write_text("max-tokens = 0\n")
    done = saefilter(folder, "score", "data.jsonl", "--overwrite", code=2)
    assert "saefilter.toml: --max-tokens 0 is out of range. The smallest is 1" in done.stderr


def test_device_and_the_like_change_nothing(folder: Path) -> None:
    done = saefilter(
        folder, "check", "data.jsonl", "--device", "cpu", "--batch-tokens", "99", code=0
    )
    assert "Using the scores data.scores.parquet" in done.stderr


def test_nothing_that_is_read_is_written_over(folder: Path) -> None:
    before = (folder / "data.jsonl").read_bytes()
    for arguments in (
        ["score", "data.jsonl", "-o", "data.jsonl", "--overwrite"],
        ["check", "data.jsonl", "-o", "data.jsonl", "--overwrite"],
    ):
        done = saefilter(folder, *arguments, code=2)
        assert "is read by this command and would be overwritten" in done.stdout + done.stderr
        assert (folder / "data.jsonl").read_bytes() == before
    (folder / "own.json").write_text("{}")
    arguments = ["data.jsonl", "--toxic-set", "own.json", "-o", "own.json", "--overwrite"]
    assert "is the toxic set" in saefilter(folder, "score", *arguments, code=2).stderr
    (folder / "rows.json").write_text(json.dumps(ROWS))
    done = saefilter(folder, "check", "rows.json", "--report", "rows.json", code=2)
    assert "Choose another name for --report" in done.stderr


def test_a_set_that_a_strategy_does_not_read_is_that_of_scoring(folder: Path) -> None:
    done = saefilter(
        folder, "filter", "data.jsonl", "--strategy", "loss", "--model", "nowhere", "--toxic-set",
        "none.json", "--drop-count", "1", code=2,
    )  # fmt: skip
    assert "none.json" in done.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--neighbours", "3", "--metric", "nearest"], "--neighbours 1, not 3"),
        (["--train-on", "all"], "--train-on assistant, not all"),
        (["--max-tokens", "9"], "--max-tokens 1024, not 9"),
        (["--pool", "max"], "not calibrated for --metric contrast with --pool max"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_percentiles_hold_for_what_they_were_measured_with(
    folder: Path, options: list[str], reason: str
) -> None:
    from saefilter.artifacts.scores import Scores

    saefilter(folder, "score", "data.jsonl", *options, "-o", "other.parquet", code=0)
    scores = Scores.open(folder / "other.parquet")
    assert reason in (scores.provenance.reference or {})["missing"]
    assert scores.provenance.reference_rows == 0
    assert scores.read(["percentile"])["percentile"].null_count == len(ROWS)
    assert reason in (scores.provenance.note or "")
    done = saefilter(folder, "check", "data.jsonl", *options, code=2)
    assert reason in done.stdout
