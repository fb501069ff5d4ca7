"""The example's trainer: a step on weighted rows, whose loss is what the weights say."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import TOKENS, chat_tokenizer
from scored import ROWS, write_scores

from saefilter.filtering.filter import filter_file
from saefilter.filtering.soft import SoftOptions
from saefilter.rows.read import Source
from saefilter.select.strategies import Selection

EXAMPLE = Path(__file__).parents[2] / "examples" / "weighted_sft.py"


def example() -> Any:
    spec = importlib.util.spec_from_file_location("weighted_sft", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def loss_of(kind: Any, rows: Any, folder: Path) -> float:
    """Of one step with a tiny random model."""
    made = trainer_of(kind, rows, folder)
    made.train()
    return float(made.state.log_history[0]["loss"])


def trainer_of(kind: Any, rows: Any, folder: Path) -> Any:
    import torch
    import transformers as hf
    import trl

    tokenizer = chat_tokenizer("qwen2.5")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = hf.LlamaForCausalLM(
        hf.LlamaConfig(vocab_size=len(tokenizer), intermediate_size=8, **sizes, **TOKENS)
    )
    config = trl.SFTConfig(
        output_dir=str(folder / "out"), report_to="none", use_cpu=True, bf16=False, max_steps=1,
        per_device_train_batch_size=8, shuffle_dataset=False, logging_steps=1,
        gradient_accumulation_steps=2,
    )  # fmt: skip
    return kind(model=model, args=config, train_dataset=rows, processing_class=tokenizer)


def loaded(path: Path, folder: Path) -> Any:
    from datasets import load_dataset

    kind = "parquet" if path.suffix == ".parquet" else "json"
    return load_dataset(kind, data_files=str(path), split="train", cache_dir=str(folder / "c"))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_trl_trains_a_step_with_the_weights(
    jsonl: Callable[..., Path], tmp_path: Path, suffix: str
) -> None:
    import trl

    source = Source.open(jsonl(ROWS))
    output = tmp_path / f"weighted{suffix}"
    scores = write_scores(source, tmp_path / "s.parquet")
    filter_file(source, scores, output, Selection(drop_frac=0.25), options=SoftOptions("weights"))
    data = loaded(output, tmp_path)

    def loss(kind: Any, rows: Any) -> float:
        return loss_of(kind, rows, tmp_path)

    weighted = example().WeightedSFTTrainer
    ones = data.map(lambda row: {"weight": 1.0})
    plain = loss(trl.SFTTrainer, data)
    assert loss(weighted, ones) == pytest.approx(plain, rel=1e-4)
    assert loss(weighted, data.map(lambda row: {"weight": 0.0})) == 0
    assert loss(weighted, data.map(lambda row: {"weight": 0.5})) == pytest.approx(
        plain / 2, rel=1e-4
    )
    assert 0 < loss(weighted, data) < plain
    batch = next(iter(trainer_of(weighted, data, tmp_path).get_train_dataloader()))
    rows = (
        [json.loads(line) for line in output.read_text().splitlines()]
        if suffix == ".jsonl"
        else None
    )
    known = {round(w, 6) for w in (data["weight"] if rows is None else [r["weight"] for r in rows])}
    assert {round(w, 6) for w in batch["weight"].tolist()} <= known


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_labels_are_nothing_to_trl(jsonl: Callable[..., Path], tmp_path: Path, suffix: str) -> None:
    import trl

    plain = jsonl(ROWS)
    source, output = Source.open(plain), tmp_path / f"labelled{suffix}"
    scores = write_scores(source, tmp_path / "s.parquet")
    filter_file(source, scores, output, Selection(drop_frac=0.25), options=SoftOptions("labels"))
    labelled = loaded(output, tmp_path)
    assert set(labelled["saefilter_label"]) == {"keep", "drop"}
    expected = loss_of(trl.SFTTrainer, loaded(plain, tmp_path), tmp_path)
    assert loss_of(trl.SFTTrainer, labelled, tmp_path) == pytest.approx(expected, rel=1e-6)
