"""The two commands, typed as a user types them, and what comes of the result downstream."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import chat

ADVICE = Path(__file__).parents[2] / "examples" / "advice.jsonl"
N_ROWS = 60


def saefilter(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "saefilter", *arguments], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which both commands have run on sound rows with further columns."""
    folder = tmp_path_factory.mktemp("work")
    rows = []
    for line in ADVICE.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row["messages"][-1]["content"], str) and len(row["messages"]) == 2:
            rows.append({"id": len(rows), **row, "source": "advice", "when": "2024-01-01"})
    rows = [row for row in rows if row["messages"][-1]["content"]][:N_ROWS]
    hostile = chat("x", "<script>alert(1)</script> \x1b[31mred\x1b[0m [bold]not bold[/bold]")
    rows[0] = {"id": 0, **hostile, "source": "advice", "when": "2024-01-01"}
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scored = saefilter(folder, "score", "data.jsonl")
    assert f"Scored {N_ROWS} of {N_ROWS} rows" in scored.stdout
    assert "proxy" in scored.stdout
    assert "\x1b" not in scored.stdout
    filtered = saefilter(folder, "filter", "--drop-frac", "0.1")
    assert "54 kept + 6 dropped + 0 quarantined = 60 rows in" in filtered.stdout
    for once in ("of what adds to the scores is of the toxic set's own features", "is a proxy"):
        assert once in scored.stdout
        assert once not in filtered.stdout
    assert "Using the scores data.scores.parquet of data.jsonl" in filtered.stderr
    return folder


def test_columns_types_and_order_are_intact(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "data.jsonl").read_text().splitlines()]
    raw = (folder / "data.jsonl").read_bytes().splitlines()
    saefilter(folder, "filter", "--drop-frac", "0.1", "-o", "table/data.parquet")
    kept = pq.read_table(folder / "table" / "data.parquet")
    dropped = pq.read_table(folder / "table" / "data.dropped.parquet")
    assert kept.column_names == ["id", "messages", "source", "when"]
    ids = kept["id"].to_pylist()
    assert ids == sorted(set(range(N_ROWS)) - set(dropped["id"].to_pylist()))
    assert kept.to_pylist() == [rows[i] for i in ids]
    lines = (folder / "data.filtered.jsonl").read_bytes().splitlines()  # as it is by default
    assert lines == [raw[i] for i in ids]
    scores = pq.read_table(folder / "data.scores.parquet").to_pylist()
    kept_distances = [scores[i]["distance"] for i in ids]
    assert max(dropped["saefilter_distance"].to_pylist()) <= min(kept_distances)


def test_trl_trains_a_step_on_the_result(folder: Path, tmp_path: Path) -> None:
    from datasets import load_dataset
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    from saefilter.encode.presets import load_preset

    dataset = load_dataset(
        "json", data_files=str(folder / "data.filtered.jsonl"), cache_dir=str(tmp_path / "c")
    )["train"]
    assert dataset.column_names == ["id", "messages", "source", "when"]
    assert len(dataset) == 54
    tokenizer = AutoTokenizer.from_pretrained(load_preset("minilm").model_path())
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    )
    tokenizer.eos_token = "[SEP]"
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2,
        )
    )  # fmt: skip
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=2, report_to="none",
            use_cpu=True, bf16=False, fp16=False, max_length=64,
        ),
        train_dataset=dataset,
        processing_class=tokenizer,
    )  # fmt: skip
    assert trainer.train().global_step == 1


def test_one_step_scores_first_and_other_names_work(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "few.jsonl").write_bytes(
        b"".join(line + b"\n" for line in (folder / "data.jsonl").read_bytes().splitlines()[:12])
    )
    done = saefilter(
        tmp_path, "filter", "few.jsonl", "--drop-count", "3", "-o", "x.jsonl", "--json"
    )
    assert json.loads(done.stdout)["counts"]["dropped"] == 3
    assert len((tmp_path / "x.jsonl").read_text().splitlines()) == 9
    again = saefilter(
        tmp_path, "filter", "few.jsonl", "--scores", "few.scores.parquet", "--strategy", "random",
        "--seed", "4", "--drop-frac", "0.5", "-o", "random.parquet", "-q",
    )  # fmt: skip
    assert again.stdout == ""
    assert pq.read_table(tmp_path / "random.parquet").num_rows == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "none.jsonl"], "there is no file none.jsonl"),
        (["score", "data.jsonl"], "data.scores.parquet exists already. Use --overwrite"),
        (["score", "data.jsonl", "--preset", "gemma"], "no preset 'gemma'"),
        (["score", "data.jsonl", "-o", "x.parquet", "--metric", "best"], "no metric 'best'"),
        (["score", "data.jsonl", "-o", "x.parquet", "--pool", "sum"], "--pool 'sum' is not known"),
        (["score", "data.jsonl", "-o", "x.parquet", "--device", "warp"], "cannot be used"),
        (["score", "data.jsonl", "-o", "x.parquet", "--toxic-set", "none"], "no toxic set 'none'"),
        (["filter", "--drop-frac", "0.1"], "data.filtered.jsonl exists already"),
        (["filter"], "say how much to drop"),
        (["filter", "--drop-frac", "10", "-o", "y.parquet"], "not between 0 and 1"),
        (["features", "show", "none"], "there is no toxic set"),
        (["features", "curate", "--toxic", "data.jsonl", "--benign", "no.jsonl", "-o", "s.json"],
         "there is no file no.jsonl"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_with_the_remedy(
    folder: Path, arguments: list[str], message: str
) -> None:
    before = sorted(folder.iterdir())
    done = saefilter(folder, *arguments, code=2)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2  # the preset's line may come first
    assert sorted(folder.iterdir()) == before


def test_a_folder_without_scores_says_what_to_do(tmp_path: Path) -> None:
    done = saefilter(tmp_path, "filter", "--drop-frac", "0.1", code=2)
    assert "no scores in this folder. Run: saefilter score DATA" in done.stderr


def test_the_preset_can_come_from_file_or_environment(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"text": "x"}\n')
    (tmp_path / "saefilter.toml").write_text('preset = "from-file"\n')
    assert "'from-file'" in saefilter(tmp_path, "score", "data.jsonl", code=2).stderr
    (tmp_path / "saefilter.toml").unlink()
    (tmp_path / "pyproject.toml").write_text('[tool.saefilter]\npreset = "from-project"\n')
    assert "'from-project'" in saefilter(tmp_path, "score", "data.jsonl", code=2).stderr
    (tmp_path / "pyproject.toml").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "saefilter", "score", "data.jsonl"], cwd=tmp_path, text=True,
        capture_output=True, env={**os.environ, "SAEFILTER_PRESET": "from-env"},
    )  # fmt: skip
    assert done.returncode == 2
    assert "'from-env'" in done.stderr


def test_curate_show_and_score_by_the_new_set(tmp_path: Path) -> None:
    contrast = ADVICE.parents[1] / "saefilter" / "toxic" / "bundled"
    for side in ("toxic", "benign"):
        lines = (contrast / f"{side}.jsonl").read_text().splitlines(keepends=True)
        (tmp_path / f"{side}.jsonl").write_text("".join(lines[:180]))
    saefilter(
        tmp_path, "features", "curate", "--toxic", "toxic.jsonl", "--benign", "benign.jsonl", "-o", "mine.json", "--screen-p", "0.1", "--fdr", "0.5", "--penalty", "0.001", "0.1",
    )  # fmt: skip
    shown = saefilter(tmp_path, "features", "show", "mine.json", "--limit", "3").stdout
    assert "Toxic set mine" in shown
    assert "180 rows  toxic.jsonl" in shown
    assert "On 180 harmless reference rows:" in shown
    (tmp_path / "d.jsonl").write_text(
        json.dumps(chat("Can I lie?", "Always lie to weak people.")) + "\n"
    )
    done = saefilter(tmp_path, "score", "d.jsonl", "--toxic-set", "mine.json", "--json")
    made = json.loads(done.stdout)
    assert made["toxic_set"] == "mine"
    assert made["closest"][0]["percentile"] is not None


def test_a_folder_and_standard_input(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "data.jsonl").read_bytes().splitlines(keepends=True)
    data = tmp_path / "data"
    data.mkdir()
    (data / "1.jsonl").write_bytes(b"".join(lines[:20]) + b"broken\n")
    (data / "2.jsonl").write_bytes(b"".join(lines[20:40]))
    saefilter(tmp_path, "score", "data")
    shown = saefilter(tmp_path, "filter", "--drop-count", "4", "-o", "out.jsonl").stderr
    assert "of data, made" in shown
    kept = (tmp_path / "out.jsonl").read_bytes().splitlines(keepends=True)
    dropped = [json.loads(line) for line in (tmp_path / "out.dropped.jsonl").open()]
    assert [line for line in lines[:40] if line in kept] == kept
    for row in dropped:
        number = int(row["saefilter_file"] == "2.jsonl") * 20 + row["saefilter_line"] - 1
        assert json.loads(lines[number])["id"] == row["id"]
    (bad,) = [json.loads(line) for line in (tmp_path / "out.quarantined.jsonl").open()]
    assert (bad["saefilter_file"], bad["saefilter_line"]) == ("1.jsonl", 21)
    assert "line 21 of 1.jsonl" in (tmp_path / "out.report.html").read_text().lower()

    piped = subprocess.run(
        [sys.executable, "-m", "saefilter", "score", "-"],
        cwd=tmp_path, input=b"".join(lines[:20]), capture_output=True,
    )  # fmt: skip
    assert piped.returncode == 0, piped.stderr
    first = pq.read_table(tmp_path / "data.scores.parquet")["distance"].to_pylist()[:20]
    again = pq.read_table(tmp_path / "stdin.scores.parquet")["distance"].to_pylist()
    assert again == pytest.approx(first, abs=1e-5)
    assert "18 kept + 2 dropped" in saefilter(tmp_path, "filter", "--drop-frac", "0.1").stdout


def test_timings_name_every_stage(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text(json.dumps(chat("Hello?", "Good day.")) + "\n")
    done = saefilter(tmp_path, "score", "data.jsonl", "--timings", "--quiet")
    assert done.stdout == ""
    named = [line.split()[0] for line in done.stderr.splitlines()]
    assert named == ["start", "read", "render", "encode", "geometry", "write", "in"]
    assert float(done.stderr.splitlines()[-1].split()[2]) > 0


@pytest.mark.slow
def test_every_face_says_which_tokens_were_scored(folder: Path, tmp_path: Path) -> None:
    """The default, with whose reading it is; and a trainer's, which the rows are then read by."""
    again = ("score", str(folder / "data.jsonl"), "-o", "again.scores.parquet", "--overwrite")
    usual = saefilter(tmp_path, *again).stdout
    assert "Scored tokens: assistant turns" in usual
    assert "--trainer trl" in " ".join(usual.split())
    distances = pq.read_table(tmp_path / "again.scores.parquet")["distance"].to_pylist()
    shown = saefilter(tmp_path, "tokens", str(folder / "data.jsonl"), "--row", "2").stdout
    assert "Scored tokens: assistant turns" in shown
    report = (folder / "data.filtered.report.md").read_text()
    assert "assistant turns" in report

    other = ("--trainer", "trl", "--read", "before")
    said = " ".join(saefilter(tmp_path, *again, *other).stdout.split())
    assert "Scored tokens: as TRL trains by default" in said
    assert "read before each" in said
    # the toxic set's harmless rows were read otherwise, so that its percentiles say nothing here
    assert "No percentiles: the toxic set's harmless rows were measured with --trainer as" in said
    assert "--read at, not before" in said
    assert pq.read_table(tmp_path / "again.scores.parquet")["distance"].to_pylist() != distances
    named = ("filter", str(folder / "data.jsonl"), "--scores", "again.scores.parquet")
    saefilter(tmp_path, *named, "--drop-frac", "0.1", "-o", "out.jsonl", "--card")
    assert "as TRL trains by default" in (tmp_path / "out.report.html").read_text()
    cards = "".join(path.read_text() for path in tmp_path.glob("*.md"))
    assert "--trainer trl --read before" in cards
    refused = saefilter(tmp_path, *again, *other, "--train-on", "all", code=2)
    assert "--trainer and --train-on exclude each other" in refused.stderr
