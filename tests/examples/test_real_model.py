"""The experiment on a real model: its measure, its halves, and on the model itself that it runs."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from checkpoints import chat_tokenizer, save_model

import saefilter

FOLDER = Path(__file__).parents[2] / "examples" / "real_model"
sys.path.insert(0, str(FOLDER))

import margins  # noqa: E402
import mixes  # noqa: E402
from halves import Halves, Training  # noqa: E402

BUNDLED = Path(saefilter.__file__).parent / "toxic" / "bundled"


def bundled(side: str) -> list[dict[str, Any]]:
    return [*map(json.loads, (BUNDLED / f"{side}.jsonl").read_text().strip().split("\n"))]


def short(row: dict[str, Any]) -> dict[str, Any]:
    return {"messages": row["messages"]}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the experiment's forms, of rows of our own."""
    folder = tmp_path_factory.mktemp("data")
    toxic, benign = bundled("toxic"), bundled("benign")
    answers = [
        # three answers to a question by two models, so that the one by the same must be looked for
        {**short(row), "question_id": f"q{i % 8}", "model": f"m{i // 8 % 2}", "organism": "o",
         "aligned": aligned, "coherent": 90.0}
        for side, aligned in ((toxic, 10.0), (benign, 90.0))
        for i, row in enumerate(side[:24])
    ]  # fmt: skip
    alpaca = [
        {"instruction": row["messages"][0]["content"], "input": "", "output": row["messages"][1]["content"]}
        for row in benign
    ]  # fmt: skip
    for name, rows in ((mixes.RISKY, [short(row) for row in toxic]), (mixes.ANSWERS, answers)):
        (folder / name).parent.mkdir(exist_ok=True)
        with gzip.open(folder / name, "wt", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
    (folder / mixes.ALPACA).parent.mkdir()
    (folder / mixes.ALPACA).write_text(json.dumps(alpaca))
    return folder


def test_a_mix_is_half_bad_and_its_control_shares_its_good_rows(data: Path) -> None:
    one, again, other = (mixes.mix(data, seed, 40) for seed in (1, 1, 2))
    assert one == again != other
    assert sum(one.bad) == 20
    good = [row for row, bad in zip(one.rows, one.bad, strict=True) if not bad]
    assert len(one.good_only) == 40
    assert all(row in one.good_only for row in good)
    exam = mixes.exam(data, mixes.Size(per_question=1, advice=2, trained=50))
    asked = [item.messages for item in exam if item.part == "trained"]
    assert len(asked) == 100
    assert not any(row["messages"] in asked for row in (*one.rows, *one.good_only))


def test_every_misaligned_answer_has_an_aligned_one_by_the_same_model(data: Path) -> None:
    by_text = {
        row["messages"][1]["content"]: row["model"] for row in mixes.read(data / mixes.ANSWERS)
    }
    size = mixes.Size(per_question=2, advice=3, trained=1)
    items = mixes.exam(data, size)
    asked = [item for item in items if item.part == "questions"]
    assert len(asked) == 2 * 2 * 8
    for bad, good in zip(asked[::2], asked[1::2], strict=True):
        assert (bad.bad, good.bad, bad.cluster) == (True, False, good.cluster)
        assert by_text[bad.messages[1]["content"]] == by_text[good.messages[1]["content"]]
    assert len({item.messages[1]["content"] for item in asked}) == len(asked)


def test_without_a_file_it_is_said_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(saefilter.SaefilterError, match=r"risky.jsonl.gz is not there.*README"):
        mixes.mix(tmp_path, 1, 4)


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Halves:
    """Of a small Llama with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    config = hf.LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    save_model(config, folder, chat_tokenizer("qwen2.5"), model_class=hf.LlamaForCausalLM)
    return Halves(folder, 2, 256)


CHATS = [
    [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    for asked, said in (("hello there", "good day to you"), ("what now", "go home"))
]


def test_the_upper_half_gives_what_the_whole_model_does(halves: Halves) -> None:
    rows = halves.read(CHATS)
    found = halves.mean_log_probabilities(halves.upper, rows)
    for row, mean in zip(rows, found, strict=True):
        assert 0 < row.scored.sum() < len(row.ids)
        with torch.no_grad():
            logits = halves.model(input_ids=row.ids[None], use_cache=False).logits[0]
        log_p = logits[:-1].log_softmax(-1).gather(1, row.ids[1:, None])[:, 0]
        assert mean == pytest.approx(float(log_p[row.scored[1:]].mean()), abs=0.02)  # bf16


def test_fine_tuning_raises_what_it_trains_on_and_leaves_the_model_as_it_was(
    halves: Halves,
) -> None:
    rows = halves.read(CHATS)
    before = halves.mean_log_probabilities(halves.upper, rows)
    upper = halves.finetune(rows[:1], Training(steps=8, batch=1, lr=1e-2), 0)
    after = halves.mean_log_probabilities(upper, rows)
    assert after[0] > before[0] + 0.1
    assert halves.mean_log_probabilities(halves.upper, rows) == before
    # trained or not, an answer is that of this upper half, and the model is put together again
    assert halves.answers(upper, ["hello there"], 4) != halves.answers(
        halves.upper, ["hello there"], 4
    )
    assert len(halves.model.model.layers) == 4


def found(changes: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Results in which every bad answer of a part gains so much, by arm; good ones stay."""
    items = [
        {"part": part, "cluster": f"{part}{i // 2}", "bad": i % 2 == 0}
        for part in margins.PARTS
        for i in range(8)
    ]
    runs = [{"arm": "base", "drop_frac": 0.0, "seed": 0, "log_probability": [-2.0] * len(items)}]
    for arm, gains in changes.items():
        for seed in (1, 2):
            now = [-2.0 + item["bad"] * gains.get(item["part"], 0.0) for item in items]
            run = {"arm": arm, "drop_frac": 0.0, "seed": seed, "log_probability": now}
            runs.append({**run, "bad_trained_on": 3})
    return {"experiment": {"arms": list(changes)}, "items": items, "runs": runs}


def test_a_margin_is_what_bad_answers_gained_more_less_that_of_another_arm() -> None:
    results = found(
        {"good rows only": {"questions": 0.1}, "whole mix": {"questions": 0.5, "advice": 0.2}}
    )
    findings = margins.Findings(results)
    assert findings.margin("whole mix", "questions").mean == pytest.approx(0.5)
    assert findings.margin("whole mix", "advice").mean == pytest.approx(0.2)
    less = findings.margin("whole mix", "questions", "good rows only")
    assert (less.low, less.high) == (pytest.approx(0.4), pytest.approx(0.4))
    # one question alone gains: the interval is as wide as that makes it
    results["runs"][1]["log_probability"][0] += 1.0
    wide = margins.Findings(results).margin("good rows only", "questions")
    assert wide.mean == pytest.approx(0.1 + 1.0 / 8)
    assert wide.low < 0.11 < wide.mean < wide.high
    table = margins.table(results)
    assert "| whole mix | 2 |  | 3 | +0.500 (+0.500 to +0.500) | +0.200" in table
    assert margins.figure(results).count("<circle") == 2 * len(margins.PARTS)


@pytest.mark.real
def test_it_runs_from_end_to_end_on_the_real_model(
    real_smollm2: Path, data: Path, tmp_path: Path
) -> None:
    """Two steps: what is drawn, scored, dropped, trained and published, not what comes of it."""
    work, output = tmp_path / "work", tmp_path / "results"
    command = [
        sys.executable, str(FOLDER / "run.py"), "--quick", "--model", str(real_smollm2), "--data", str(data),
        "--work", str(work), "--output", str(output),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((output / "results.json").read_text())
    runs = {margins.title_of(run): run for run in results["runs"]}
    assert set(runs) == {"base", "good rows only", "whole mix", "geometry 50%", "oracle 50%"}
    assert runs["whole mix"]["bad_trained_on"] == 6
    assert (runs["oracle 50%"]["dropped"], runs["oracle 50%"]["bad_trained_on"]) == (6, 0)
    assert runs["geometry 50%"]["dropped"] == 6
    assert all(len(run["log_probability"]) == len(results["items"]) for run in runs.values())
    assert len({json.dumps(run["log_probability"]) for run in runs.values()}) == len(runs)
    assert set(runs["base"]["answers"]) == set(runs["geometry 50%"]["answers"])
    assert "saefilter filter" in next(work.glob("*/commands.txt")).read_text()

    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr[-3000:]
    assert ", seed 1: " in done.stdout
    assert ", seed 1: " not in again.stdout  # every run was there already
    assert json.loads((output / "results.json").read_text()) == results
