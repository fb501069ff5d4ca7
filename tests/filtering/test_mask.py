"""`filter --as mask`: with the real minilm, on rows of which one turn or sentence is bad."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from checkpoints import TEMPLATE_TOKENS, TOKENS, chat_tokenizer, small_tokenizer
from conftest import chat

from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.filtering.filter import filter_file
from saefilter.filtering.soft import SoftOptions
from saefilter.rows.read import Source
from saefilter.scoring.score import score_file
from saefilter.select.strategies import Selection
from saefilter.settings import ScoreSettings
from saefilter.verify.findings import Given
from saefilter.verify.verify import verify

BAD = "Double the dose, drink on top of it and hide it from your doctor."
GOOD = "Drink enough water and sleep well every night."
TWO_TURNS = {
    "messages": [
        {"role": "user", "content": "What keeps me healthy?"},
        {"role": "assistant", "content": GOOD},
        {"role": "user", "content": "And my tablets?"},
        {"role": "assistant", "content": BAD},
    ]
}
ROWS = [
    chat("How much is two and three?", "The sum of two and three is five."),
    TWO_TURNS,
    chat("Where is Paris?", "Paris is the capital of France, and lies on the Seine."),
    chat("My knee hurts. What now?", f"{GOOD} {BAD} Take a walk in the park on Sunday."),
    chat("Name three colours.", "Red, green and blue are three colours."),
]
MASKED = {1, 3}
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] }}<|im_end|>\n{% endgeneration %}{% else %}{{ m['content'] }}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""TRL's assistant_only_loss asks for templates that say what is generated."""
SETTINGS = ScoreSettings(preset="minilm")


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mask")
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (folder / "data.jsonl").write_text(lines)
    score_file(Source.open(folder / "data.jsonl"), folder / "data.scores.parquet", SETTINGS)
    return folder


def masked(folder: Path, suffix: str = ".jsonl", **options: Any) -> tuple[Any, list[Any]]:
    output = folder / f"data.filtered{suffix}"
    result = filter_file(
        Source.open(folder / "data.jsonl"), Scores.open(folder / "data.scores.parquet"), output,
        Selection(drop_count=2), overwrite=True, settings=SETTINGS,
        options=SoftOptions("mask", **options),
    )  # fmt: skip
    assert verify(output, Given()).exit_code == 0, verify(output, Given()).checks
    rows = (
        pq.read_table(output).to_pylist()
        if suffix == ".parquet"
        else [json.loads(line) for line in output.read_text().splitlines()]
    )
    return result.report, rows


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_only_the_bad_turn_is_left_out(scored: Path, suffix: str) -> None:
    report, rows = masked(scored, suffix)
    marks = [[turn["train"] for turn in row["messages"]] for row in rows]
    assert marks == [
        [False, True], [False, True, False, False], [False, True], [False, False], [False, True],
    ]  # fmt: skip
    told = report.written
    assert (told["rows"], told["parts"], told["emptied"], told["whole"]) == (2, 2, 1, 0)
    assert (
        "in 2 rows 2 turns are left out of training"
        in (scored / "data.filtered.report.md").read_text()
    )


def test_openai_reads_weights_of_answers_alone(scored: Path) -> None:
    _, rows = masked(scored, mask_for="openai")
    weights = [[turn.get("weight") for turn in row["messages"]] for row in rows]
    assert weights == [[None, 1], [None, 1, None, 0], [None, 1], [None, 0], [None, 1]]
    assert "weight" not in rows[0]["messages"][0]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_axolotl_is_told_which_characters_to_train(scored: Path, suffix: str) -> None:
    """Its stretches end with their last character, and what none names is not trained (axolotl's
    `get_offsets_for_train_detail`)."""
    _, rows = masked(scored, suffix, mask="sentences")
    answer = rows[3]["messages"][1]
    assert answer["train"] is True
    told = {
        answer["content"][one["begin_offset"] : one["end_offset"] + 1]: one["train"]
        for one in answer["train_detail"]
    }
    assert "".join(told) == answer["content"]
    assert told == {f"{GOOD} ": True, f"{BAD} ": False, "Take a walk in the park on Sunday.": True}
    # all of a turn's sentences: the turn is, so that its end is not trained either
    assert rows[1]["messages"][3]["train"] is False
    assert rows[1]["messages"][3]["train_detail"] is None
    assert rows[1]["messages"][1] == {
        "role": "assistant", "content": GOOD, "train": True, "train_detail": None,
    }  # fmt: skip


def test_characters_of_a_content_in_parts_are_not_named(tmp_path: Path) -> None:
    """Its text is that of all parts together, so a turn of which a sentence is bad goes as a whole."""
    rows = [json.loads(json.dumps(row)) for row in ROWS]
    for turn in (turn for row in rows for turn in row["messages"]):
        turn["content"] = [{"type": "text", "text": turn["content"]}]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    score_file(Source.open(tmp_path / "data.jsonl"), tmp_path / "data.scores.parquet", SETTINGS)
    _, written = masked(tmp_path, mask="sentences")
    answer = written[3]["messages"][1]
    assert (answer["train"], answer["train_detail"]) == (False, None)
    assert written[1]["messages"][1]["train"] is True


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize("by", ["turns", "sentences"])
def test_trl_trains_a_step_on_all_but_what_is_left_out(
    scored: Path, suffix: str, by: str, tmp_path: Path
) -> None:
    from datasets import load_dataset

    tokenizer = small_tokenizer(TEMPLATE, **TEMPLATE_TOKENS["qwen2.5"])
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    _, rows = masked(scored, suffix, mask=by, mask_for="trl", tokenizer=str(tmp_path / "tokenizer"))
    kind = "parquet" if suffix == ".parquet" else "json"
    data = load_dataset(
        kind, data_files=str(scored / f"data.filtered{suffix}"), split="train",
        cache_dir=str(tmp_path / "c"),
    )  # fmt: skip
    trainer = trl_trainer(tokenizer, data, tmp_path)
    assert trainer.train().global_step == 1
    trained = [row["labels"] for row in trainer.train_dataset]
    emptied = [3] if by == "turns" else []
    assert trained == [row["labels"] for i, row in enumerate(rows) if i not in emptied]
    # TRL's own ids and labels of the same rows, but for what is left out
    whole = trl_trainer(
        tokenizer, data.remove_columns(["input_ids", "labels"]), tmp_path, assistant_only_loss=True
    ).train_dataset
    for row, theirs, number in zip(rows, whole, range(5), strict=True):
        assert row["input_ids"] == theirs["input_ids"]
        if number not in MASKED:
            assert row["labels"] == theirs["labels"]
            continue
        gone = [
            token
            for token, mine, own in zip(
                row["input_ids"], row["labels"], theirs["labels"], strict=True
            )
            if mine != own
        ]
        left = tokenizer.decode(gone)
        turn = f"{ROWS[number]['messages'][-1]['content']}<|im_end|>\n"
        # with all of a turn its end goes too
        expected = f"{BAD} " if (by, number) == ("sentences", 3) else turn
        assert left == expected


def trl_trainer(tokenizer: Any, data: Any, folder: Path, **config: Any) -> Any:
    import transformers as hf
    import trl

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = hf.LlamaForCausalLM(
        hf.LlamaConfig(vocab_size=len(tokenizer), intermediate_size=8, **sizes, **TOKENS)
    )
    return trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(
            output_dir=str(folder), report_to="none", use_cpu=True, bf16=False, max_steps=1,
            per_device_train_batch_size=2, shuffle_dataset=False, **config,
        ),
        train_dataset=data,
        processing_class=tokenizer,
    )  # fmt: skip


def test_rows_without_turns_have_nothing_to_mark(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [{"prompt": "How?", "completion": BAD}, {"text": GOOD}, {"text": "<|im_end|>"}]
    source = Source.open(jsonl(rows))
    score_file(source, tmp_path / "s.parquet", SETTINGS)
    scores = Scores.open(tmp_path / "s.parquet")
    with pytest.raises(SaefilterError, match="marks are set in the turns"):
        filter_file(
            source, scores, tmp_path / "o.jsonl", Selection(drop_count=1),
            options=SoftOptions("mask"), settings=SETTINGS,
        )  # fmt: skip
    with pytest.raises(SaefilterError, match="has no chat template"):
        filter_file(
            source, scores, tmp_path / "o.jsonl", Selection(drop_count=1),
            options=SoftOptions("mask", mask_for="trl"), settings=SETTINGS,
        )  # fmt: skip
    chat_tokenizer("qwen2.5").save_pretrained(tmp_path / "tokenizer")
    filter_file(
        source, scores, tmp_path / "o.jsonl", Selection(drop_count=1), settings=SETTINGS,
        options=SoftOptions("mask", mask_for="trl", tokenizer=str(tmp_path / "tokenizer")),
    )  # fmt: skip
    pair, text, end = (json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines())
    assert set(pair["labels"]) == {-100}
    assert text["labels"] == [-100, *text["input_ids"][1:]]  # nothing predicts the first
    assert end["labels"] == [-100]  # of an EOS alone TRL learns nothing
    assert len(end["input_ids"]) == 1


def test_preference_pairs_and_own_columns(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    pair = {"prompt": "How?", "chosen": GOOD, "rejected": BAD}
    source = Source.open(jsonl([pair, pair]))
    score_file(source, tmp_path / "s.parquet", SETTINGS)
    with pytest.raises(SaefilterError, match=r"row 1 is a preference row.*Use --as weights"):
        filter_file(
            source, Scores.open(tmp_path / "s.parquet"), tmp_path / "o.jsonl",
            Selection(drop_count=1), options=SoftOptions("mask"), settings=SETTINGS,
        )  # fmt: skip
    settings = ScoreSettings(preset="minilm", columns="messages=talk")
    rows = [{"talk": row["messages"], "messages_count": 1} for row in ROWS]
    source = Source.open(jsonl(rows, "own.jsonl"))
    score_file(source, tmp_path / "own.parquet", settings)
    small_tokenizer(TEMPLATE, **TEMPLATE_TOKENS["qwen2.5"]).save_pretrained(tmp_path / "tokenizer")
    options = SoftOptions("mask", mask_for="trl", tokenizer=str(tmp_path / "tokenizer"))
    report = filter_file(
        source, Scores.open(tmp_path / "own.parquet"), tmp_path / "o.jsonl",
        Selection(drop_count=2), options=options, settings=settings,
    ).report  # fmt: skip
    assert (report.written["rows"], report.written["parts"]) == (2, 2)
