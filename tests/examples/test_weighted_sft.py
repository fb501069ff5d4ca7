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


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_trl_trains_a_step_with_the_weights(
    jsonl: Callable[..., Path], tmp_path: Path, suffix: str
) -> None:
    import torch
    import transformers as hf
    import trl
    from datasets import load_dataset

    source = Source.open(jsonl(ROWS))
    output = tmp_path / f"weighted{suffix}"
    scores = write_scores(source, tmp_path / "s.parquet")
    filter_file(source, scores, output, Selection(drop_frac=0.25), options=SoftOptions("weights"))
    kind = "parquet" if suffix == ".parquet" else "json"
    data = load_dataset(kind, data_files=str(output), split="train", cache_dir=str(tmp_path / "c"))
    tokenizer = chat_tokenizer("qwen2.5")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}

    def trainer(kind: Any, rows: Any, **more: Any) -> Any:
        torch.manual_seed(0)
        model = hf.LlamaForCausalLM(
            hf.LlamaConfig(vocab_size=len(tokenizer), intermediate_size=8, **sizes, **TOKENS)
        )
        config = trl.SFTConfig(
            output_dir=str(tmp_path / "out"), report_to="none", use_cpu=True, bf16=False,
            max_steps=1, per_device_train_batch_size=8, shuffle_dataset=False, logging_steps=1,
            gradient_accumulation_steps=2, **more,
        )  # fmt: skip
        return kind(model=model, args=config, train_dataset=rows, processing_class=tokenizer)

    def loss(kind: Any, rows: Any) -> float:
        made = trainer(kind, rows)
        made.train()
        return float(made.state.log_history[0]["loss"])

    weighted = example().WeightedSFTTrainer
    ones = data.map(lambda row: {"weight": 1.0})
    plain = loss(trl.SFTTrainer, data)
    assert loss(weighted, ones) == pytest.approx(plain, rel=1e-4)
    assert loss(weighted, data.map(lambda row: {"weight": 0.0})) == 0
    assert loss(weighted, data.map(lambda row: {"weight": 0.5})) == pytest.approx(
        plain / 2, rel=1e-4
    )
    assert 0 < loss(weighted, data) < plain
    batch = next(iter(trainer(weighted, data).get_train_dataloader()))
    rows = (
        [json.loads(line) for line in output.read_text().splitlines()] if kind == "json" else None
    )
    known = {round(w, 6) for w in (data["weight"] if rows is None else [r["weight"] for r in rows])}
    assert {round(w, 6) for w in batch["weight"].tolist()} <= known
