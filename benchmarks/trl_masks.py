"""TRL's own batches against saefilter's masks, on real rows with a real tokenizer, token for token.

    python benchmarks/trl_masks.py TOKENIZER_FOLDER DATA.jsonl [...]

Each row of `messages` is also made a pair of chats, a pair of texts and a text. docs/input.md has what
was measured; tests/rows/test_trainers.py does the same with small tokenizers and more templates.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import transformers as hf
import trl

from saefilter.rows.chat import ChatRenderer
from saefilter.rows.formats import recognise
from saefilter.rows.read import Source
from saefilter.rows.rendered import RenderOptions

Row = dict[str, Any]
ROWS = 600
"""Of each file, from its start."""


def rows_of(paths: Sequence[str]) -> dict[str, list[Row]]:
    """The rows in every form that TRL takes."""
    chats = []
    for path in paths:
        for row in Source.open(Path(path)).rows(set(range(ROWS))):
            turns = (row.data or {}).get("messages") or []
            turns = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
            if len(turns) > 1 and turns[-1]["role"] == "assistant" and turns[-1]["content"].strip():
                chats.append(turns)
    return {
        "messages": [{"messages": turns} for turns in chats],
        "chats": [{"prompt": turns[:-1], "completion": turns[-1:]} for turns in chats],
        "texts": [
            {"prompt": turns[-2]["content"], "completion": " " + turns[-1]["content"]}
            for turns in chats
        ],
        "text": [{"text": turns[-1]["content"]} for turns in chats],
    }


def trained_by_trl(tokenizer: Any, rows: list[Row], **config: Any) -> list[list[tuple[int, bool]]]:
    """Of each row its token ids, and whether TRL's loss acts on them."""
    sizes = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    model = hf.LlamaForCausalLM(hf.LlamaConfig(vocab_size=len(tokenizer), **sizes))
    with tempfile.TemporaryDirectory() as folder:
        arguments = trl.SFTConfig(
            output_dir=folder, report_to="none", use_cpu=True, bf16=False, max_length=None,
            shuffle_dataset=False, **config,
        )  # fmt: skip
        trainer = trl.SFTTrainer(
            model=model, args=arguments, train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tokenizer,
        )  # fmt: skip
    return [
        [
            (token, i > 0 and label != -100)  # the first is predicted by nothing
            for i, (token, label) in enumerate(zip(row["input_ids"], row["labels"], strict=True))
        ]
        for row in trainer.train_dataset
    ]


def scored_here(tokenizer: Any, rows: list[Row], trainer: str) -> list[list[tuple[int, bool]]]:
    """The same of saefilter; nothing of a row that it quarantines."""
    options = RenderOptions(1 << 20, trainer=trainer)
    renderer = ChatRenderer(tokenizer, context=1 << 20, options=options)
    _, windows = renderer.render([recognise(row) for row in rows])
    found: list[list[tuple[int, bool]]] = [[] for _ in rows]
    for window in windows:
        found[window.row] = list(zip(window.ids.tolist(), window.scored.tolist(), strict=True))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="TRL's masks against saefilter's")
    parser.add_argument(
        "tokenizer", help="with a template of {% generation %} tags, or one TRL knows"
    )
    parser.add_argument("data", nargs="+")
    args = parser.parse_args()
    datasets.disable_progress_bars()
    for kind, rows in rows_of(args.data).items():
        for trainer in ("trl", "trl-assistant"):
            if trainer == "trl-assistant" and kind.startswith("text"):
                continue  # TRL refuses these
            config = {"assistant_only_loss": True} if trainer == "trl-assistant" else {}
            tokenizer = hf.AutoTokenizer.from_pretrained(args.tokenizer)
            theirs = trained_by_trl(tokenizer, rows, **config)
            mine = scored_here(hf.AutoTokenizer.from_pretrained(args.tokenizer), rows, trainer)
            tokens = sum(map(len, theirs))
            alike = sum(a == b for a, b in zip(mine, theirs, strict=True))
            print(f"{kind:9} {trainer:14} {alike:,} of {len(rows):,} rows alike, {tokens:,} tokens")


if __name__ == "__main__":
    main()
